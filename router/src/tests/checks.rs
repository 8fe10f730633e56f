//! Checks: which cell gets them, how many at once, and what callers hear when it is not there.

use super::stub::{StubCell, StubRouter, admitted, topology};
use cellar_directory::{HomeState, UserHome};
use cellar_model::{CellName, Epoch, Refusal, UserId, Verdict};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::Semaphore;

fn name(name: &str) -> CellName {
    CellName::new(name).unwrap()
}

fn elsewhere(home: Option<&str>, epoch: u64) -> Verdict {
    Verdict::Refused(Refusal::Elsewhere { home: home.map(name), epoch: Epoch(epoch) })
}

#[tokio::test]
async fn every_check_goes_to_the_ring_owner_of_its_user() {
    let (one, two) = (StubCell::good().await, StubCell::good().await);
    let router = StubRouter::before(&[("eu-1", &one), ("eu-2", &two)]).await;
    for n in 0..40 {
        assert_eq!(router.consume(&format!("user-{n}")).await.status, 200);
    }
    let map = router.routing.map().unwrap();
    for (cell, stub) in [("eu-1", &one), ("eu-2", &two)] {
        let calls = stub.state.calls.lock().unwrap();
        assert!(!calls.is_empty());
        for check in calls.iter().flatten() {
            assert_eq!(map.ring_owner(&check.user), &name(cell));
        }
    }
}

/// Goal: two calls in flight, and what comes meanwhile leaves together.
/// Method: the cell holds its answers; 2 checks go out alone, 30 more wait, then the cell lets go.
#[tokio::test]
async fn checks_that_wait_for_a_lane_leave_together() {
    let cell = StubCell::good().await;
    cell.state.gate.forget_permits(Semaphore::MAX_PERMITS);
    let router = std::sync::Arc::new(StubRouter::before(&[("eu-1", &cell)]).await);
    let ask = |n: usize| {
        let router = router.clone();
        tokio::spawn(async move { router.consume(&format!("user-{n}")).await.status })
    };
    let mut asked = Vec::new();
    for n in 0..2 {
        asked.push(ask(n));
        cell.state.came.notified().await;
    }
    asked.extend((2..32).map(ask));
    until_waiting(&router, 30).await;
    assert_eq!(cell.calls(), [1, 1]);
    cell.state.gate.add_permits(Semaphore::MAX_PERMITS / 2);
    for asked in asked {
        assert_eq!(asked.await.unwrap(), 200);
    }
    let calls = cell.calls();
    assert_eq!(calls.iter().sum::<usize>(), 32);
    assert!(calls.len() <= 5, "{calls:?}");
}

/// Goal: no call is longer than what a cell reads, however long the checks are.
/// Method: both lanes are taken; two batches of the longest checks wait together, more than one body.
#[tokio::test]
async fn the_longest_checks_leave_in_calls_that_a_cell_reads() {
    let cell = StubCell::good().await;
    cell.state.gate.forget_permits(Semaphore::MAX_PERMITS);
    let router = std::sync::Arc::new(StubRouter::before(&[("eu-1", &cell)]).await);
    let send = |path: &'static str, user: String, body: String| {
        let router = router.clone();
        tokio::spawn(async move { router.send(http::Method::POST, path, &user, &body).await })
    };
    let mut asked = Vec::new();
    for n in 0..2 {
        let user = format!("user-{n}");
        let body = format!(r#"{{"user_id":"{user}"}}"#);
        asked.push(send("/v1/internal/quota/consume", user, body));
        cell.state.came.notified().await;
    }
    let attribute = |n: usize| format!(r#""{n}{}":"{}""#, "n".repeat(63), "v".repeat(64));
    let attributes = (0..8).map(attribute).collect::<Vec<_>>().join(",");
    let checks = vec![format!(r#"{{"user_id":"user","attributes":{{{attributes}}}}}"#); 500].join(",");
    let batch = format!(r#"{{"checks":[{checks}]}}"#);
    let batches = [(); 2].map(|()| send("/v1/internal/quota/batch", "user".to_owned(), batch.clone()));
    until_waiting(&router, 1_000).await;
    cell.state.gate.add_permits(Semaphore::MAX_PERMITS / 2);
    for asked in asked {
        assert_eq!(asked.await.unwrap().status, 200);
    }
    for batch in batches {
        let answer: serde_json::Value = serde_json::from_str(&batch.await.unwrap().body).unwrap();
        let results = answer["results"].as_array().unwrap();
        assert_eq!((results.len(), results.iter().filter(|item| item["status"] == 200).count()), (500, 500));
    }
    assert_eq!(cell.calls(), [1, 1, 500, 500]);
}

/// Goal: whose session has to be read keeps no other check waiting.
/// Method: the cell holds its answers; both lanes of checks with sessions are taken, and one without leaves.
#[tokio::test]
async fn a_check_leaves_while_the_lanes_of_admits_are_taken() {
    let cell = StubCell::good().await;
    cell.state.gate.forget_permits(Semaphore::MAX_PERMITS);
    let router = std::sync::Arc::new(StubRouter::before(&[("eu-1", &cell)]).await);
    let admit = || {
        let (router, body) = (router.clone(), format!(r#"{{"session_token":"{}"}}"#, router.session("ada")));
        tokio::spawn(async move { router.send(http::Method::POST, "/v1/internal/admit", "x", &body).await.status })
    };
    let mut asked = Vec::new();
    for _ in 0..2 {
        asked.push(admit());
        cell.state.came.notified().await;
    }
    asked.push(tokio::spawn({
        let router = router.clone();
        async move { router.consume("bob").await.status }
    }));
    cell.state.came.notified().await;
    assert_eq!((cell.calls(), cell.calls_of("bob")), (vec![1, 1, 1], 1));
    cell.state.gate.add_permits(Semaphore::MAX_PERMITS / 2);
    for asked in asked {
        assert_eq!(asked.await.unwrap(), 200);
    }
}

/// Waits until so many checks wait for a lane to the one cell.
async fn until_waiting(router: &StubRouter, checks: usize) {
    let map = router.routing.map().unwrap();
    let cell = map.cell(&name("eu-1")).unwrap();
    let waiting = async {
        while cell.waiting() < checks {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("they do not come");
}

#[tokio::test]
async fn a_batch_over_cells_is_one_call_each_and_answers_in_order() {
    let verdict = |check: &cellar_model::Check| match check.user.as_str() {
        "user-3" => Verdict::Refused(Refusal::Blocked),
        _ => admitted(),
    };
    let good = || StubCell::start(verdict, |_| super::stub::ok(""));
    let (one, two) = (good().await, good().await);
    let router = StubRouter::before(&[("eu-1", &one), ("eu-2", &two)]).await;
    let checks: Vec<_> = (0..20).map(|n| format!(r#"{{"user_id":"user-{n}"}}"#)).collect();
    let body = format!(r#"{{"checks":[{}]}}"#, checks.join(","));
    let reply = router.send(http::Method::POST, "/v1/internal/quota/batch", "x", &body).await;
    let answer: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
    let statuses: Vec<_> = answer["results"].as_array().unwrap().iter().map(|item| item["status"].clone()).collect();
    assert_eq!(statuses.len(), 20);
    for (n, status) in statuses.iter().enumerate() {
        assert_eq!(*status, if n == 3 { 403 } else { 200 }, "item {n}");
    }
    assert_eq!((one.calls().len(), two.calls().len()), (1, 1));
}

#[tokio::test]
async fn who_has_moved_is_found_and_remembered() {
    let old = StubCell::start(|_| elsewhere(Some("eu-2"), 7), |_| super::stub::ok("")).await;
    let new = StubCell::good().await;
    let router = StubRouter::before(&[("eu-1", &old), ("eu-2", &new)]).await;
    let map = router.routing.map().unwrap();
    let user =
        (0..).map(|n| UserId::new(&format!("u{n}")).unwrap()).find(|u| map.ring_owner(u) == &name("eu-1")).unwrap();
    for _ in 0..2 {
        assert_eq!(router.consume(user.as_str()).await.status, 200);
    }
    assert_eq!((old.calls().len(), new.calls().len()), (1, 2));
    assert_eq!(router.routing.exception(&user), Some((name("eu-2"), Epoch(7))));
    assert_eq!(router.rows.reads.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn cells_that_point_at_each_other_end_in_503_not_in_a_loop() {
    let one = StubCell::start(|_| elsewhere(Some("eu-2"), 5), |_| super::stub::ok("")).await;
    let two = StubCell::start(|_| elsewhere(Some("eu-1"), 5), |_| super::stub::ok("")).await;
    let router = StubRouter::before(&[("eu-1", &one), ("eu-2", &two)]).await;
    router.rows.away.store(true, Ordering::Relaxed);
    let reply = router.consume("alice").await;
    assert_eq!(reply.status, 503, "{}", reply.body);
    assert!(one.calls().len() + two.calls().len() <= 4);
}

#[tokio::test]
async fn who_is_nowhere_is_404_and_asked_for_once_a_second() {
    let cell = StubCell::start(|_| elsewhere(None, 0), |_| super::stub::ok("")).await;
    let router = StubRouter::before(&[("eu-1", &cell)]).await;
    for _ in 0..3 {
        assert_eq!(router.consume("nobody").await.status, 404);
    }
    assert_eq!(router.rows.reads.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn the_directory_finds_who_left_a_cell_that_is_down() {
    let new = StubCell::good().await;
    let router = StubRouter::with(topology(&[("eu-1", "http://127.0.0.1:1".into()), ("eu-2", new.url.clone())])).await;
    let map = router.routing.map().unwrap();
    let on_dead = |n: &usize| map.ring_owner(&UserId::new(&format!("u{n}")).unwrap()) == &name("eu-1");
    let mut users = (0..).filter(on_dead).map(|n| format!("u{n}"));
    let (moved, stayed) = (users.next().unwrap(), users.next().unwrap());
    for (user, home, epoch) in [(&moved, "eu-2", 2), (&stayed, "eu-1", 1)] {
        let user = UserId::new(user).unwrap();
        let row = UserHome { user: user.clone(), home: name(home), epoch: Epoch(epoch), state: HomeState::Active };
        router.rows.homes.lock().unwrap().insert(user, row);
    }
    assert_eq!(router.consume(&moved).await.status, 200);
    let reply = router.consume(&stayed).await;
    assert_eq!(reply.status, 503, "{}", reply.body);
    assert!(reply.body.contains("cell-down"), "{}", reply.body);
    assert!(reply.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_frozen_user_is_tried_until_thawed_or_the_deadline() {
    let tries = std::sync::atomic::AtomicUsize::new(0);
    let thaws = move |_: &cellar_model::Check| match tries.fetch_add(1, Ordering::Relaxed) {
        0 | 1 => Verdict::Refused(Refusal::Frozen),
        _ => admitted(),
    };
    let cell = StubCell::start(thaws, |_| super::stub::ok("")).await;
    let router = StubRouter::before(&[("eu-1", &cell)]).await;
    assert_eq!(router.consume("alice").await.status, 200);
    assert_eq!(cell.calls().len(), 3);

    let frozen = StubCell::start(|_| Verdict::Refused(Refusal::Frozen), |_| super::stub::ok("")).await;
    let router = StubRouter::before(&[("eu-1", &frozen)]).await;
    let reply = router.consume("alice").await;
    assert_eq!(reply.status, 503);
    assert!(reply.body.contains("deadline"), "{}", reply.body);
}
