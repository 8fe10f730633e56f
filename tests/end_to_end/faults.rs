//! Stores and cells die; nothing acknowledged is lost, nothing is charged twice.

use crate::support::{World, known, status_of, tokens};
use cellar_client::{ClientError, Decision};
use cellar_devstack::Stack;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

async fn kill9(world: &World, name: &str) {
    Stack::open(world.cellctl.stack()).unwrap().kill9(name).await.unwrap();
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

#[tokio::test(flavor = "multi_thread")]
async fn with_redis_away_a_check_is_503_with_a_wait() {
    let world = World::cell();
    let user = world.user("away@example.org", "free").await;
    kill9(&world, "redis-quota").await;
    let url = format!("{}/v1/internal/quota/consume", world.urls[0]);
    let body = serde_json::json!({"user_id": user, "cost": 1, "at_us": 1_700_000_000_000_000u64});
    let request = reqwest::Client::new().post(url).bearer_auth(&world.service_key).body(body.to_string());
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
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
    let world = World::two_regions();
    let user = world.user("directory@example.org", "free").await;
    assert_eq!(status_of(world.client.consume(&tokens(&user, 1, None)).await), 200);
    kill9(&world, "directory").await;
    assert_eq!(status_of(world.client.consume(&tokens(&user, 1, None)).await), 200);
    world.cellctl.ok(&["restart", "router"]).unwrap();
    assert!(known(&world.client, &tokens(&user, 1, None)).await.is_allowed());
    let sign_up = cellar_model::wire::SignUpBody {
        email: "late@example.org".into(),
        name: None,
        password: None,
        tier: "free".parse().unwrap(),
        region: None,
        user_id: None,
    };
    assert_eq!(world.client.sign_up(&sign_up, None).await.unwrap_err().status(), Some(503));
}
