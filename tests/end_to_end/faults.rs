//! Stores and cells die; nothing acknowledged is lost, nothing is charged twice.

use crate::machine;
use crate::support::{World, known, sign_up_body, status_of, tokens};
use cellar_client::{ClientError, Decision};
use serde_json::json;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

pub(crate) async fn kill9(world: &World, name: &str) {
    machine::kill9(&world.cellctl, name).await;
}

/// Goal: with a store away the answer is 503 with `Retry-After`, never a wrong verdict; when it is
/// back, service returns by itself and the books agree.
async fn a_store_dies_and_comes_back(role: &str) {
    let world = World::cell();
    world.bucket_tier("bucket", 1_000_000).await;
    let user = world.user("store@example.org", "bucket").await;
    let mut firsts = Vec::new();
    for n in 0..20 {
        let first = known(&world.client, &tokens(&user, 7, Some(&format!("before-{n}")))).await;
        assert!(first.is_allowed());
        firsts.push(first);
    }

    kill9(&world, role).await;
    // What is asked meanwhile is answered rightly or not at all.
    for n in 0..5 {
        match world.client.consume(&tokens(&user, 7, Some(&format!("away-{n}")))).await {
            Ok(decision) => assert!(decision.is_allowed()),
            Err(ClientError::Refused(problem)) => assert_eq!(problem.status, 503),
            Err(error) => panic!("{error}"),
        }
    }
    world.cellctl.ok(&["restart", role]).unwrap();
    for n in 0..5 {
        assert!(known(&world.client, &tokens(&user, 7, Some(&format!("away-{n}")))).await.is_allowed());
    }
    // Every key's first answer again, across the store's death.
    for (n, first) in firsts.iter().enumerate() {
        let again = known(&world.client, &tokens(&user, 7, Some(&format!("before-{n}")))).await;
        assert_eq!(&again, first, "key before-{n}");
    }
    assert_eq!(world.books(None, &user, "tokens").await, (175, 175, 175));
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_killed_and_restarted_loses_and_doubles_nothing() {
    a_store_dies_and_comes_back("redis-quota").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_killed_and_restarted_loses_and_doubles_nothing() {
    a_store_dies_and_comes_back("postgres").await;
}

/// One check over HTTP: status and `Cellar-Degraded`.
pub(crate) async fn ask(world: &World, user: &cellar_model::UserId, key: &str, tokens: u64) -> (u16, Option<String>) {
    let (status, degraded, _) = ask_whole(world, user, key, tokens).await;
    (status, degraded)
}

/// The same with the body.
pub(crate) async fn ask_whole(
    world: &World,
    user: &cellar_model::UserId,
    key: &str,
    tokens: u64,
) -> (u16, Option<String>, String) {
    let url = format!("{}/v1/internal/quota/consume", world.urls[0]);
    let body = serde_json::json!({"user_id": user, "cost": {"requests": 0, "tokens": tokens}});
    let request = reqwest::Client::new().post(url).bearer_auth(&world.service_key).header("idempotency-key", key);
    let response = request.body(body.to_string()).send().await.unwrap();
    if response.status() == 503 {
        assert!(response.headers().contains_key("retry-after"));
    }
    let degraded = response.headers().get("cellar-degraded").map(|value| value.to_str().unwrap().to_owned());
    (response.status().as_u16(), degraded, response.text().await.unwrap())
}

/// Waits until answers to a user say of their store what is expected; meanwhile they are right, or 503.
pub(crate) async fn store_becomes(world: &World, user: &cellar_model::UserId, degraded: Option<&str>) {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let (status, said) = ask(world, user, "only-asked", 0).await;
        assert!(matches!(status, 200 | 503), "{status}");
        if status == 200 && said.as_deref() == degraded {
            return;
        }
        assert!(Instant::now() < until, "the store does not become {degraded:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Goal: Postgres takes the commits while Redis is away, says so, and gives them back by itself.
/// Method: a limit spent in three parts, on Redis, on Postgres, and on Redis again; a repeat of any key is
/// no charge; one more than the limit is denied.
#[tokio::test(flavor = "multi_thread")]
async fn with_redis_away_postgres_takes_the_commits_exactly_and_says_so() {
    let world = World::cell();
    world.bucket_tier("bucket", 30).await;
    let user = world.user("away@example.org", "bucket").await;
    let spend = async |from: u32, degraded: Option<&str>| {
        store_becomes(&world, &user, degraded).await;
        for n in from..from + 10 {
            let answer = ask(&world, &user, &format!("k{n}"), 1).await;
            assert_eq!(answer, (200, degraded.map(str::to_owned)), "k{n}");
        }
    };
    spend(0, None).await;
    kill9(&world, "redis-quota").await;
    spend(10, Some("postgres")).await;
    world.cellctl.ok(&["restart", "redis-quota"]).unwrap();
    spend(20, None).await;
    for n in 0..30 {
        assert_eq!(ask(&world, &user, &format!("k{n}"), 1).await.0, 200, "repeat of k{n}");
    }
    assert_eq!(ask(&world, &user, "one-more", 1).await.0, 429);
    assert_eq!(world.books(None, &user, "tokens").await, (30, 30, 30));
}

/// Goal: on Postgres, where no script knows the keys, a key sent twice at once is charged once.
/// Method: twenty keys of one user, each twice, all of them waiting for the same look-ups.
#[tokio::test(flavor = "multi_thread")]
async fn on_postgres_a_key_sent_twice_at_once_is_charged_once() {
    let world = World::cell();
    world.bucket_tier("bucket", 1_000).await;
    let user = world.user("twice@example.org", "bucket").await;
    kill9(&world, "redis-quota").await;
    store_becomes(&world, &user, Some("postgres")).await;
    let both = (0..40).map(|n| {
        let (world, user) = (&world, &user);
        async move { ask(world, user, &format!("k{}", n / 2), 1).await.0 }
    });
    assert_eq!(futures::future::join_all(both).await, [200; 40]);
    assert_eq!(world.books(None, &user, "tokens").await, (20, 20, 20));
    // Shards whose users nobody asks for have not noticed: of them an audit says that Redis was not read.
    let audit = world.cellctl.run(&["audit", "--json"]).unwrap();
    let audit: serde_json::Value = serde_json::from_slice(&audit.stdout).unwrap();
    assert_eq!((&audit["mismatches"], &audit["stores"]), (&json!([]), &json!(["ledger", "memory", "postgres"])));
}

/// Goal: a Redis that is nearly full takes in nobody new, and goes on for those who are in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_nearly_full_sheds_new_users_first() {
    let world = World::cell();
    world.bucket_tier("bucket", 1_000).await;
    let known = world.user("in@example.org", "bucket").await;
    let mut strangers = Vec::new();
    for n in 0..20 {
        strangers.push(world.user(&format!("new-{n}@example.org"), "bucket").await);
    }
    assert_eq!(ask(&world, &known, "k0", 1).await.0, 200);
    let memory = machine::redis_says(&world.cellctl, "redis-quota", "INFO memory");
    let used = memory.lines().find_map(|line| line.trim().strip_prefix("used_memory:")).unwrap();
    let room = |bytes: u64| assert_eq!(machine::redis(&world.cellctl, &format!("CONFIG SET maxmemory {bytes}")), "+OK");
    // Nine tenths are used.
    room(used.parse::<u64>().unwrap() / 9 * 10);
    // It is looked at once a second.
    let new = loop {
        let stranger = strangers.pop().expect("all new users are taken in");
        if ask(&world, &stranger, "asked", 0).await.0 == 503 {
            break stranger;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    };
    assert_eq!(ask(&world, &known, "k1", 1).await.0, 200);
    room(0);
    let until = Instant::now() + Duration::from_secs(20);
    while ask(&world, &new, "n0", 1).await.0 != 200 {
        assert!(Instant::now() < until, "new users are not taken in again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(world.books(None, &new, "tokens").await, (1, 1, 1));
}

/// Goal: a shard that only ever reads notices its Redis's restart as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_never_seen_before_is_served_after_redis_restarted() {
    let world = World::cell();
    let user = world.user("unseen@example.org", "free").await;
    kill9(&world, "redis-quota").await;
    let _ = ask(&world, &user, "while-it-was-away", 1).await;
    world.cellctl.ok(&["restart", "redis-quota"]).unwrap();
    store_becomes(&world, &user, None).await;
    assert_eq!(ask(&world, &user, "after", 1).await.0, 200);
}

/// Goal: a Redis that comes back empty costs nobody anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_emptied_while_it_serves_is_noticed_and_nothing_is_forgotten() {
    let world = World::cell();
    world.bucket_tier("bucket", 20).await;
    let user = world.user("emptied@example.org", "bucket").await;
    for n in 0..10 {
        assert_eq!(ask(&world, &user, &format!("k{n}"), 1).await.0, 200);
    }
    machine::flush(&world.cellctl);
    store_becomes(&world, &user, None).await;
    for n in 0..20 {
        assert_eq!(ask(&world, &user, &format!("k{n}"), 1).await.0, 200, "k{n}");
    }
    assert_eq!(ask(&world, &user, "one-more", 1).await.0, 429);
    assert_eq!(world.books(None, &user, "tokens").await, (20, 20, 20));
}

/// Goal: a cell killed under load forgets nothing it acknowledged.
/// Method: keyed charges until 50 are acknowledged and the cell is killed under the next; each key is
/// then sent again: the acknowledged ones get their first answer, the others are charged once; the ledger
/// has exactly one charge a key.
#[tokio::test(flavor = "multi_thread")]
async fn a_cell_killed_under_load_answers_every_admitted_key_as_before() {
    let world = World::cell();
    world.bucket_tier("bucket", 1_000_000).await;
    let user = world.user("load@example.org", "bucket").await;
    let (acknowledged, enough, stop) = (AtomicUsize::new(0), Notify::new(), AtomicBool::new(false));

    let senders = (0..16).map(|sender| {
        let (world, user, acknowledged, enough, stop) = (&world, &user, &acknowledged, &enough, &stop);
        async move {
            let mut sent: Vec<(String, Option<Decision>)> = Vec::new();
            while !stop.load(Ordering::Relaxed) && sent.len() < 2_000 {
                let key = format!("{sender}-{}", sent.len());
                let answer = world.client.consume(&tokens(user, 1, Some(&key))).await.ok();
                if answer.is_some() && acknowledged.fetch_add(1, Ordering::Relaxed) + 1 == 50 {
                    enough.notify_one();
                }
                sent.push((key, answer));
            }
            sent
        }
    });
    let killer = async {
        tokio::time::timeout(Duration::from_secs(60), enough.notified()).await.expect("hardly anything is answered");
        kill9(&world, "cell").await;
        stop.store(true, Ordering::Relaxed);
    };
    let (sent, ()) = tokio::join!(futures::future::join_all(senders), killer);
    let sent: Vec<(String, Option<Decision>)> = sent.into_iter().flatten().collect();

    world.cellctl.ok(&["restart", "cell"]).unwrap();
    for (key, first) in &sent {
        let again = known(&world.client, &tokens(&user, 1, Some(key))).await;
        if let Some(first) = first {
            assert_eq!(&again, first, "key {key}");
        }
    }
    let all = sent.len() as u64;
    assert_eq!(world.books(None, &user, "tokens").await, (all, all, all));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_directory_dead_existing_users_are_served_through_a_restarted_router() {
    served_without_the_directory(World::two_regions()).await;
}

/// The same with the directory on CQL, a node a region; both are killed.
#[tokio::test(flavor = "multi_thread")]
async fn with_the_cql_directory_dead_existing_users_are_served_through_a_restarted_router() {
    let world = ["up", "--regions", "2", "--cells", "1", "--clock", "virtual", "--directory", "cassandra"];
    let world = served_without_the_directory(World::up(&world)).await;
    // It comes back on the same ports and folders, and sign-ups with it.
    world.cellctl.ok(&["restart", "directory"]).unwrap();
    let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while let Err(error) = world.client.sign_up(&late_sign_up(), None).await {
        assert_eq!(error.status(), Some(503), "{error:?}");
        assert!(std::time::Instant::now() < until, "sign-ups did not come back");
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    }
    let migrated = world.cellctl.ok(&["directory", "migrate", "--json"]).unwrap();
    assert!(migrated.contains(r#""applied":[]"#) && migrated.contains(r#""eu":1"#), "{migrated}");
}

async fn served_without_the_directory(world: World) -> World {
    let user = world.user("directory@example.org", "free").await;
    assert_eq!(status_of(world.client.consume(&tokens(&user, 1, None)).await), 200);
    kill9(&world, "directory").await;
    assert_eq!(status_of(world.client.consume(&tokens(&user, 1, None)).await), 200);
    world.cellctl.ok(&["restart", "router"]).unwrap();
    assert!(known(&world.client, &tokens(&user, 1, None)).await.is_allowed());
    assert_eq!(world.client.sign_up(&late_sign_up(), None).await.unwrap_err().status(), Some(503));
    world
}

fn late_sign_up() -> cellar_model::wire::SignUpBody {
    sign_up_body("late@example.org", "free")
}
