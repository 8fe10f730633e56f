//! Preferences while Postgres is away: taken, shown at once, applied in order by whoever comes next.

use crate::machine::{self, counted};
use crate::support::World;
use cellar_client::Credential;
use cellar_devstack::ProcessEntry;
use cellar_model::UserId;
use cellar_model::wire::{Device, LogInBody};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const PATH: &str = "/v1/user/preferences";
const SHARDS: u16 = 16;
/// Of a public cell's one process.
const CELL: &str = "local-1-0";

#[derive(Clone)]
struct Caller {
    urls: Vec<String>,
    key: String,
    http: reqwest::Client,
    user: UserId,
}

#[derive(Debug)]
struct Said {
    status: u16,
    degraded: Option<String>,
    tag: Option<String>,
    body: Value,
}

impl Caller {
    fn of(world: &World, user: &UserId) -> Self {
        let (urls, key) = (world.urls.clone(), world.service_key.clone());
        Self { urls, key, http: reqwest::Client::new(), user: user.clone() }
    }

    async fn ask(&self, router: usize, method: Method, path: &str, patch: Option<&Value>, tag: Option<&str>) -> Said {
        let request = self.http.request(method, format!("{}{path}", self.urls[router]));
        let mut request = request.bearer_auth(&self.key).header("cellar-user", self.user.as_str());
        request = request.timeout(Duration::from_secs(10));
        if let Some(patch) = patch {
            request = request.json(patch);
        }
        if let Some(tag) = tag {
            request = request.header("if-match", tag);
        }
        let response = request.send().await.unwrap();
        let header = |name: &str| Some(response.headers().get(name)?.to_str().unwrap().to_owned());
        let (status, degraded, tag) = (response.status().as_u16(), header("cellar-degraded"), header("etag"));
        Said { status, degraded, tag, body: response.json().await.unwrap_or_default() }
    }

    async fn patch(&self, patch: Value) -> Said {
        self.ask(0, Method::POST, PATH, Some(&patch), None).await
    }

    async fn read(&self) -> Said {
        self.ask(0, Method::GET, PATH, None, None).await
    }

    async fn profile(&self) -> Said {
        self.ask(0, Method::GET, "/v1/user/profile", None, None).await
    }

    /// Repeats a patch until it is answered, and by what.
    async fn patch_until_known(&self, patch: Value) -> Said {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let said = self.patch(patch.clone()).await;
            if said.status != 503 {
                return said;
            }
            assert!(Instant::now() < until, "{said:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until reads come from Postgres again.
    async fn read_from_postgres(&self) -> Said {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let said = self.read().await;
            if said.status == 200 && said.degraded.is_none() {
                return said;
            }
            assert!(said.status == 503 || said.status == 200, "{said:?}");
            assert!(Instant::now() < until, "{said:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Patches that the quota Redis has of all shards.
fn kept(world: &World) -> u64 {
    let of = |shard: u16| machine::redis(&world.cellctl, &format!("HLEN patches:{{{shard}}}"));
    (0..SHARDS).map(|shard| of(shard).trim_start_matches(':').parse::<u64>().unwrap()).sum()
}

async fn until_nothing_is_kept(world: &World) {
    let until = Instant::now() + Duration::from_secs(60);
    while kept(world) > 0 {
        assert!(Instant::now() < until, "patches stay in Redis");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Goal: patches of an outage are taken in order, shown at once and in Postgres afterwards, though the cell dies half
/// way; what depends on Postgres is refused meanwhile, and whoever is in the cache is served.
#[tokio::test(flavor = "multi_thread")]
async fn patches_of_an_outage_are_applied_in_order_though_the_cell_dies_half_way() {
    let world = World::cell();
    let (ada, bob) = (world.user("ada@example.org", "free").await, world.user("bob@example.org", "free").await);
    let (ada, bob) = (Caller::of(&world, &ada), Caller::of(&world, &bob));
    let stranger = Caller::of(&world, &world.user("stranger@example.org", "free").await);
    let first = ada.patch(json!({"n": -1, "old": true, "gone": {"x": 1, "y": 2}})).await;
    assert_eq!(first.status, 200);
    assert_eq!((ada.profile().await.status, bob.profile().await.status), (200, 200));
    let device = Device { name: "phone".into(), platform: "android".into() };
    let log_in = LogInBody { email: None, password: None, user_id: Some(bob.user.clone()), device };
    let by_session =
        world.client.with_credential(Credential::new(world.client.log_in(&log_in).await.unwrap().session_token));
    assert_eq!(by_session.profile(&bob.user).await.unwrap().user_id, bob.user);

    machine::kill9(&world.cellctl, "postgres").await;
    let mut expected = first.body;
    for n in 0..8 {
        let patch = json!({"n": n, format!("k{n}"): true, "old": null, "gone": {"x": null, "z": n}});
        let said = ada.patch_until_known(patch).await;
        assert_eq!((said.status, said.degraded.as_deref()), (202, Some("journal")), "{said:?}");
        expected["n"] = json!(n);
        expected[format!("k{n}")] = json!(true);
        expected["gone"] = json!({"y": 2, "z": n});
        expected.as_object_mut().unwrap().remove("old");
        assert_eq!(said.body, expected);
        let read = ada.read().await;
        assert_eq!((read.status, read.degraded.as_deref()), (200, Some("journal")), "{read:?}");
        assert_eq!((read.body, &read.tag), (expected.clone(), &said.tag));
        assert_eq!(ada.profile().await.body["preferences"], expected);
    }
    let tag = ada.read().await.tag.unwrap();
    let named = ada.ask(0, Method::POST, PATH, Some(&json!({"n": 9})), Some(&tag)).await;
    assert_eq!(named.status, 503, "what depends on Postgres is refused");
    let large = ada.patch(json!({"large": "x".repeat(64 * 1024)})).await;
    assert_eq!(large.status, 422, "limits hold against what is shown");
    let shown = bob.profile().await;
    assert_eq!((shown.status, shown.degraded.as_deref()), (200, Some("cache")), "{shown:?}");
    assert_eq!(by_session.profile(&bob.user).await.unwrap().user_id, bob.user, "nor is his session forgotten");
    assert_eq!(stranger.profile().await.status, 503, "not in the cache");
    assert_eq!(stranger.patch(json!({"n": 1})).await.status, 503, "nobody knows what it would be applied to");
    assert_eq!(kept(&world), 8);

    machine::kill9(&world.cellctl, CELL).await;
    machine::restart(&world.cellctl, "postgres");
    machine::restart(&world.cellctl, CELL);
    // The first answer of the next life has them all.
    let until = Instant::now() + Duration::from_secs(60);
    let read = loop {
        let read = ada.read().await;
        if read.status == 200 {
            break read;
        }
        assert!(read.status == 503 && Instant::now() < until, "{read:?}");
        sleep(Duration::from_millis(20)).await;
    };
    assert_eq!((read.body, read.degraded), (expected.clone(), None));
    until_nothing_is_kept(&world).await;
    let cell = machine::process(&world.cellctl, CELL);
    assert_eq!(counted(&cell, "cellar_preference_patches_waiting"), Some(0));
    expected["n"] = json!("after");
    let after = ada.patch(json!({"n": "after"})).await;
    assert_eq!((after.status, after.body), (200, expected));
}

/// Goal: a write that comes when Postgres is just back goes behind those that waited; and what Redis has lost
/// meanwhile is applied from memory.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_goes_before_the_next_write_and_survives_an_emptied_redis() {
    let world = World::cell();
    let ada = Caller::of(&world, &world.user("ada@example.org", "free").await);
    for emptied in [false, true] {
        assert_eq!(ada.patch_until_known(json!({"n": 0, "new": null})).await.status, 200);
        assert_eq!(ada.read_from_postgres().await.body, json!({"n": 0}));
        machine::kill9(&world.cellctl, "postgres").await;
        for n in 1..=20 {
            assert_eq!(ada.patch_until_known(json!({"n": n, "waited": n})).await.status, 202);
        }
        if emptied {
            machine::flush(&world.cellctl);
            let read = ada.read().await;
            assert_eq!((read.status, &read.body["waited"]), (200, &json!(20)), "memory has it");
        }
        // Whoever writes on sees no other order, whichever way his writes go.
        let writer = ada.clone();
        let writing = tokio::spawn(async move {
            for n in 21.. {
                // An emptied Redis takes nothing under its old fence: unknown until Postgres is back.
                let said = writer.patch_until_known(json!({"n": n})).await;
                assert_eq!((&said.body["n"], &said.body["waited"]), (&json!(n), &json!(20)), "{said:?}");
                if said.status == 200 {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        });
        machine::restart(&world.cellctl, "postgres");
        writing.await.unwrap();
        until_nothing_is_kept(&world).await;
        let read = ada.read_from_postgres().await;
        assert_eq!(read.body["waited"], 20);
        assert_eq!(ada.patch_until_known(json!({"waited": null})).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_both_stores_away_what_is_known_is_shown_and_nothing_is_taken() {
    let world = World::cell();
    let ada = Caller::of(&world, &world.user("ada@example.org", "free").await);
    assert_eq!(ada.patch(json!({"n": 1})).await.status, 200);
    assert_eq!(ada.read().await.status, 200);
    machine::kill9(&world.cellctl, "redis-quota").await;
    machine::kill9(&world.cellctl, "postgres").await;
    assert_eq!(ada.patch(json!({"n": 2})).await.status, 503);
    machine::kill9(&world.cellctl, "redis-cache").await;
    assert_eq!(ada.read().await.status, 503, "nobody knows");
    for role in ["postgres", "redis-quota", "redis-cache"] {
        machine::restart(&world.cellctl, role);
    }
    assert_eq!(ada.patch_until_known(json!({"m": 3})).await.status, 200);
    let body = ada.read_from_postgres().await.body;
    assert_eq!(body["m"], 3);
}

/// A process that has just become an owner forgets what it has read, some seconds later once more: the last owner's
/// changes may have come late. Reads until it has.
async fn until_forgotten(caller: &Caller, owner: &ProcessEntry) {
    let misses = || counted(owner, "cellar_cache_misses_total{cache=\"user\"}").unwrap();
    caller.read_from_postgres().await;
    let (before, until) = (misses(), Instant::now() + Duration::from_secs(60));
    while misses() == before {
        assert!(Instant::now() < until, "nothing is forgotten");
        sleep(Duration::from_millis(100)).await;
        caller.read_from_postgres().await;
    }
}

/// Goal: when the process that took patches dies, its shard's next owner applies them before it answers.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_owner_of_a_shard_applies_what_the_last_one_took() {
    let world = World::up(&["up", "--regions", "1", "--cells", "1", "--instances", "2"]);
    let ada = Caller::of(&world, &world.user("ada@example.org", "free").await);
    assert_eq!(ada.patch_until_known(json!({"n": 0})).await.status, 200);
    let shard = usize::from(ada.user.placement_key().point().shard(SHARDS));
    let shards = world.admin.shards(Some(&"eu-1".parse().unwrap())).await.unwrap();
    let owner = machine::listening_at(&world.cellctl, shards[shard].endpoint.as_deref().unwrap());

    until_forgotten(&ada, &machine::process(&world.cellctl, &owner)).await;
    machine::kill9(&world.cellctl, "postgres").await;
    for n in 1..=5 {
        let said = ada.patch_until_known(json!({"n": n, format!("k{n}"): n})).await;
        assert_eq!((said.status, &said.body["n"]), (202, &json!(n)), "{said:?}");
    }
    machine::kill9(&world.cellctl, &owner).await;
    machine::restart(&world.cellctl, "postgres");
    let read = ada.read_from_postgres().await;
    assert_eq!(read.body, json!({"n": 5, "k1": 1, "k2": 2, "k3": 3, "k4": 4, "k5": 5}));
    until_nothing_is_kept(&world).await;
}

/// Goal: who reads in another region sees a write as soon as it is answered.
#[tokio::test(flavor = "multi_thread")]
async fn readers_in_another_region_see_a_write_as_soon_as_it_is_answered() {
    let world = World::two_regions();
    let ada = Caller::of(&world, &world.user("ada@example.org", "free").await);
    for n in 0..50 {
        let (writer, reader) = (n % 2, (n + 1) % 2);
        let said = ada.ask(writer, Method::POST, PATH, Some(&json!({"n": n})), None).await;
        assert_eq!(said.status, 200, "{said:?}");
        let read = ada.ask(reader, Method::GET, PATH, None, None).await;
        assert_eq!((read.status, &read.body["n"], &read.tag), (200, &json!(n), &said.tag));
        let profile = ada.ask(reader, Method::GET, "/v1/user/profile", None, None).await;
        assert_eq!(profile.body["preferences"]["n"], n);
    }
}
