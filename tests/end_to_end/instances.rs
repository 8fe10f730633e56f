//! Several processes a cell: each has its shards, and hands them over, dead or alive.

use crate::machine::{self, Paused};
use crate::support::{T0, World, known, tokens};
use cellar_client::Decision;
use cellar_devstack::Stack;
use cellar_model::UserId;
use cellar_model::wire::CellShard;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep};

const SHARDS: u16 = 16;
const FIRST: &str = "eu-1-0";
const SECOND: &str = "eu-1-1";

/// One cell of two processes, behind a router.
fn two_processes() -> World {
    World::up(&["up", "--regions", "1", "--cells", "1", "--instances", "2", "--clock", "virtual"])
}

fn url(world: &World, name: &str) -> String {
    machine::process(&world.cellctl, name).url
}

async fn shards(world: &World) -> Vec<CellShard> {
    world.admin.shards(Some(&"eu-1".parse().unwrap())).await.unwrap()
}

/// Waits until every shard is open, and those that are `whose` are had by the process there.
async fn until_owned(world: &World, endpoint: &str, whose: impl Fn(&CellShard) -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let shards = shards(world).await;
        let owned = |one: &CellShard| one.endpoint.as_deref() == Some(endpoint);
        if shards.iter().all(|one| one.fence == one.opened && (!whose(one) || owned(one))) {
            return;
        }
        assert!(Instant::now() < until, "the shards are not taken: {shards:#?}");
        sleep(Duration::from_millis(50)).await;
    }
}

fn shard_of(user: &UserId) -> u16 {
    user.placement_key().point().shard(SHARDS)
}

async fn users(world: &World, tier: &str) -> Vec<(UserId, String)> {
    let owners = shards(world).await;
    let mut users: Vec<(UserId, String)> = Vec::new();
    for n in 0.. {
        let user = world.user(&format!("{tier}-{n}@example.org"), tier).await;
        let owner = owners[usize::from(shard_of(&user))].endpoint.clone().unwrap();
        users.push((user, owner));
        let of = |name: &str| {
            let url = url(world, name);
            users.iter().filter(|(_, owner)| *owner == url).count()
        };
        if n >= 7 && of(FIRST) >= 2 && of(SECOND) >= 2 {
            return users;
        }
    }
    unreachable!()
}

/// The profile as a router asks a process for it: status, and the process it names instead.
async fn profile_at(url: &str, user: &UserId) -> (u16, Option<String>) {
    let request = reqwest::Client::new().get(format!("{url}/v1/user/profile"));
    let request = request.header("cellar-user", user.as_str()).header("cellar-caller", "local");
    let response = request.timeout(Duration::from_secs(5)).send().await.unwrap();
    let named = response.headers().get("cellar-instance").map(|value| value.to_str().unwrap().to_owned());
    (response.status().as_u16(), named)
}

/// A request through the router whose caller has time: its status.
async fn patient(http: &reqwest::Client, world: &World, request: Request<'_>) -> u16 {
    let base = &world.urls[0];
    let request = match request {
        Request::Consume(user, key) => {
            let body = serde_json::json!({"user_id": user, "cost": {"requests": 0, "tokens": 1}, "at_us": T0});
            let request = http.post(format!("{base}/v1/internal/quota/consume")).body(body.to_string());
            request.header("idempotency-key", key)
        }
        Request::Profile(user) => http.get(format!("{base}/v1/user/profile")).header("cellar-user", user.as_str()),
    };
    let request = request.bearer_auth(&world.service_key).header("cellar-deadline-ms", "5000");
    request.send().await.map_or(0, |response| response.status().as_u16())
}

enum Request<'r> {
    Consume(&'r UserId, &'r str),
    Profile(&'r UserId),
}

async fn assert_books(world: &World, user: &UserId, sum: u64) {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let books = world.books(Some("eu-1"), user, "tokens").await;
        if books == (sum, sum, sum) {
            return;
        }
        assert!(Instant::now() < until, "{books:?}, not {sum}");
        sleep(Duration::from_millis(100)).await;
    }
}

fn assert_audit(world: &World) {
    let audit: serde_json::Value = serde_json::from_str(&world.cellctl.ok(&["audit", "--json"]).unwrap()).unwrap();
    assert_eq!(audit["mismatches"], serde_json::json!([]));
}

/// Goal: each process serves its own shards, sends on who comes to the wrong one, and the books agree.
#[tokio::test(flavor = "multi_thread")]
async fn both_processes_serve_and_the_books_agree() {
    let world = two_processes();
    world.bucket_tier("bucket", 1_000).await;
    let users = users(&world, "bucket").await;
    let urls = [url(&world, FIRST), url(&world, SECOND)];
    for (user, owner) in &users {
        for n in 0..3 {
            assert!(known(&world.client, &tokens(user, 7, Some(&format!("k{n}")))).await.is_allowed());
        }
        let http = reqwest::Client::new();
        assert_eq!(patient(&http, &world, Request::Profile(user)).await, 200);
        for url in &urls {
            let expected = if url == owner { (200, None) } else { (421, Some(owner.clone())) };
            assert_eq!(profile_at(url, user).await, expected);
        }
    }
    let listed: serde_json::Value =
        serde_json::from_str(&world.cellctl.ok(&["instance", "list", "--json"]).unwrap()).unwrap();
    let instances = listed[0]["instances"].as_array().unwrap();
    assert_eq!(instances.iter().filter(|one| one["live"] == true).count(), 2);
    assert_eq!(instances.iter().map(|one| one["shards"].as_u64().unwrap()).sum::<u64>(), u64::from(SHARDS));
    assert!(world.cellctl.ok(&["shard", "list"]).unwrap().lines().count() == usize::from(SHARDS));
    for (user, _) in &users {
        assert_books(&world, user, 21).await;
    }
    assert_audit(&world);
}

/// Goal: a process killed under load loses and doubles nothing, and the other takes its shards within
/// seconds.
/// Method: keyed charges of users of both processes; one is killed under them; each key is sent again: the
/// acknowledged ones get their first answer, the ledger has exactly one charge a key.
#[tokio::test(flavor = "multi_thread")]
async fn one_killed_under_load_is_taken_over_and_every_acknowledged_key_answers_as_before() {
    let world = two_processes();
    world.bucket_tier("bucket", 1_000_000).await;
    let users = users(&world, "bucket").await;
    let (acknowledged, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let senders = users.iter().map(|(user, _)| {
        let (world, acknowledged, stop) = (&world, &acknowledged, &stop);
        async move {
            let mut sent: Vec<(String, Option<Decision>)> = Vec::new();
            while !stop.load(Ordering::Relaxed) && sent.len() < 1_000 {
                let key = format!("k{}", sent.len());
                let answer = world.client.consume(&tokens(user, 1, Some(&key))).await.ok();
                acknowledged.fetch_add(usize::from(answer.is_some()), Ordering::Relaxed);
                sent.push((key, answer));
            }
            (user, sent)
        }
    });
    let killer = async {
        let until = Instant::now() + Duration::from_secs(60);
        while acknowledged.load(Ordering::Relaxed) < 100 {
            assert!(Instant::now() < until, "hardly anything is answered");
            sleep(Duration::from_millis(5)).await;
        }
        Stack::open(world.cellctl.stack()).unwrap().kill9(FIRST).await.unwrap();
        stop.store(true, Ordering::Relaxed);
        Instant::now()
    };
    let (sent, killed) = tokio::join!(futures::future::join_all(senders), killer);
    until_owned(&world, &url(&world, SECOND), |_| true).await;
    let took = killed.elapsed();
    assert!(took < Duration::from_secs(15), "{took:?}");
    for (user, sent) in sent {
        for (key, first) in &sent {
            let again = known(&world.client, &tokens(user, 1, Some(key))).await;
            if let Some(first) = first {
                assert_eq!(&again, first, "key {key}");
            }
        }
        assert_books(&world, user, sent.len() as u64).await;
    }
    assert_audit(&world);
}

/// Goal: a planned stop, and the start after it, fail no request.
#[tokio::test(flavor = "multi_thread")]
async fn a_planned_stop_under_load_fails_not_one_request() {
    let world = two_processes();
    world.bucket_tier("bucket", 1_000_000).await;
    let users = users(&world, "bucket").await;
    let (stop, http) = (AtomicBool::new(false), reqwest::Client::new());
    let senders = users.iter().map(|(user, _)| {
        let (world, http, stop) = (&world, &http, &stop);
        async move {
            let mut charged = 0;
            let mut odd = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let key = format!("k{charged}");
                for request in [Request::Consume(user, &key), Request::Profile(user)] {
                    let status = patient(http, world, request).await;
                    if status != 200 {
                        odd.push((key.clone(), status));
                    }
                }
                charged += 1;
                sleep(Duration::from_millis(2)).await;
            }
            (charged, odd)
        }
    });
    let stopper = async {
        sleep(Duration::from_secs(1)).await;
        Stack::open(world.cellctl.stack()).unwrap().stop(FIRST).await.unwrap();
        until_owned(&world, &url(&world, SECOND), |_| true).await;
        sleep(Duration::from_secs(1)).await;
        stop.store(true, Ordering::Relaxed);
    };
    let (sent, ()) = tokio::join!(futures::future::join_all(senders), stopper);
    for ((user, _), (charged, odd)) in users.iter().zip(sent) {
        assert!(odd.is_empty(), "{odd:?} of {charged}");
        assert_books(&world, user, charged).await;
    }
    assert_audit(&world);
    // Back, it gets its own shards again.
    world.cellctl.ok(&["restart", FIRST]).unwrap();
    let first = url(&world, FIRST);
    let until = Instant::now() + Duration::from_secs(30);
    while !shards(&world).await.iter().any(|one| one.endpoint.as_deref() == Some(&first)) {
        assert!(Instant::now() < until, "it gets no shard");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Goal: one that was paused while the other took its shards acknowledges nothing under its old fence, and
/// nothing is lost or doubled.
#[tokio::test(flavor = "multi_thread")]
async fn one_paused_and_let_go_finds_its_shards_taken_and_the_books_agree() {
    let world = two_processes();
    world.bucket_tier("bucket", 1_000).await;
    let users = users(&world, "bucket").await;
    let (first, second) = (url(&world, FIRST), url(&world, SECOND));
    let user = &users.iter().find(|(_, owner)| *owner == first).unwrap().0;
    let charge = async |from: u32| {
        let mut answers = Vec::new();
        for n in from..from + 10 {
            answers.push(known(&world.client, &tokens(user, 1, Some(&format!("k{n}")))).await);
        }
        answers
    };
    let before = charge(0).await;
    let fence = shards(&world).await[usize::from(shard_of(user))].fence;
    let paused = Paused::new(&world.cellctl, FIRST);
    until_owned(&world, &second, |_| true).await;
    let meanwhile = charge(10).await;
    drop(paused);
    // It answers nobody by what it knew, whoever has the shard now.
    let (status, named) = profile_at(&first, user).await;
    let now = shards(&world).await[usize::from(shard_of(user))].clone();
    assert!(now.fence > fence);
    match status {
        421 => assert_eq!(named.as_deref(), Some(second.as_str())),
        status => assert!(status == 503 || (status == 200 && now.endpoint.as_deref() == Some(&first)), "{status}"),
    }
    let after = charge(20).await;
    for (n, first) in before.iter().chain(&meanwhile).chain(&after).enumerate() {
        let again = known(&world.client, &tokens(user, 1, Some(&format!("k{n}")))).await;
        assert_eq!(&again, first, "k{n}");
    }
    assert_books(&world, user, 30).await;
    assert_audit(&world);
}

/// Goal: what only the memory of a deposed owner has is charged late, and repeats of its keys find it.
/// Method: with Postgres standing still, charges are acknowledged that no ledger holds; then their owner
/// stands still, Redis is emptied, and Postgres goes on. Without an operator's word the other would wait
/// for what the owner may have acknowledged; with it, it opens. Then the owner goes on.
#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_deposed_owner_remembers_is_charged_late_and_not_lost() {
    let world = two_processes();
    world.bucket_tier("bucket", 1_000).await;
    let users = users(&world, "bucket").await;
    let (first, second) = (url(&world, FIRST), url(&world, SECOND));
    let user = &users.iter().find(|(_, owner)| *owner == first).unwrap().0;
    known(&world.client, &tokens(user, 1, Some("first"))).await;
    assert_books(&world, user, 1).await;

    let postgres = Paused::new(&world.cellctl, "eu-1-postgres");
    let mut remembered = Vec::new();
    for n in 0..10 {
        remembered.push(known(&world.client, &tokens(user, 1, Some(&format!("k{n}")))).await);
    }
    let paused = Paused::new(&world.cellctl, FIRST);
    machine::flush(&world.cellctl);
    drop(postgres);

    let cell = "eu-1".parse().unwrap();
    let instances = world.admin.instances(Some(&cell)).await.unwrap();
    let life = &instances.iter().find(|one| one.endpoint == first).unwrap().instance;
    world.cellctl.ok(&["instance", "fence", life]).unwrap();
    until_owned(&world, &second, |_| true).await;
    known(&world.client, &tokens(user, 1, Some("meanwhile"))).await;

    drop(paused);
    assert_books(&world, user, 12).await;
    for (n, first) in remembered.iter().enumerate() {
        let again = known(&world.client, &tokens(user, 1, Some(&format!("k{n}")))).await;
        assert_eq!(&again, first, "k{n}");
    }
    // Its life is over by the operator's word: it sends everyone away until it is started again.
    assert_eq!(profile_at(&first, user).await, (421, Some(second)));
    assert_books(&world, user, 12).await;
}

/// Goal: a bucket of N admits exactly N while its shard goes from one process to the other and back.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_raced_for_through_both_processes_admits_exactly_its_limit() {
    const LIMIT: u64 = 1_500;
    let world = two_processes();
    world.bucket_tier("bucket", LIMIT).await;
    let users = users(&world, "bucket").await;
    let first = url(&world, FIRST);
    let user = &users.iter().find(|(_, owner)| *owner == first).unwrap().0;
    let moved = AtomicBool::new(false);
    let racers = (0..16).map(|racer| {
        let (world, moved) = (&world, &moved);
        async move {
            let (mut allowed, mut n) = (0, 0);
            // Slowly while the shard moves, so that something is left; then to the end.
            loop {
                let decision = known(&world.client, &tokens(user, 1, Some(&format!("{racer}-{n}")))).await;
                if !decision.is_allowed() {
                    return allowed;
                }
                (allowed, n) = (allowed + 1, n + 1);
                if !moved.load(Ordering::Relaxed) {
                    sleep(Duration::from_millis(150)).await;
                }
            }
        }
    });
    let mover = async {
        Stack::open(world.cellctl.stack()).unwrap().stop(FIRST).await.unwrap();
        Stack::open(world.cellctl.stack()).unwrap().restart(FIRST).await.unwrap();
        until_owned(&world, &first, |one| one.shard == shard_of(user)).await;
        moved.store(true, Ordering::Relaxed);
    };
    let (allowed, ()) = tokio::join!(futures::future::join_all(racers), mover);
    assert_eq!(allowed.into_iter().sum::<u64>(), LIMIT);
    assert_books(&world, user, LIMIT).await;
}
