//! Routes that are wrong: stale ones, circles, cells that send everyone away, remembered homes that are none.

use super::stub::{StubCell, StubRouter, admitted, misdirected, ok, topology};
use axum::response::IntoResponse;
use cellar_directory::{HomeState, UserHome};
use cellar_model::{
    CellName, CellState, Check, Epoch, ProblemType, Refusal, Revision, Rings, Topology, UserId, Verdict,
};
use http::{Method, StatusCode};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

fn name(name: &str) -> CellName {
    CellName::new(name).unwrap()
}

fn elsewhere(home: Option<&CellName>, epoch: u64) -> Verdict {
    Verdict::Refused(Refusal::Elsewhere { home: home.cloned(), epoch: Epoch(epoch) })
}

fn home(user: &UserId, home: &str, epoch: u64) -> UserHome {
    UserHome { user: user.clone(), home: name(home), epoch: Epoch(epoch), state: HomeState::Active }
}

/// Goal: with routers that hold revisions 1, 2 and 3, every user is served by one cell and by no other, after
/// two hops at most, and the directory is not asked.
/// Method: the users of two cells moved when a third joined the ring, and again when a fourth did. Each cell
/// serves those who live there now, and of those who left knows where they went when they did.
#[tokio::test]
async fn routers_of_three_revisions_reach_each_user_at_one_cell() {
    const NAMES: [&str; 4] = ["eu-1", "eu-2", "eu-3", "eu-4"];
    let rings: Arc<OnceLock<Vec<Rings>>> = Arc::default();
    let mut cells = Vec::new();
    for cell in NAMES {
        let (rings, cell) = (rings.clone(), name(cell));
        let decide = move |check: &Check| {
            // Where he lived under each revision: an epoch each time it was another cell.
            let mut lived: Vec<&CellName> = rings.get().unwrap().iter().map(|rings| rings.owner(&check.user)).collect();
            lived.dedup();
            match lived.iter().position(|home| **home == cell) {
                Some(last) if last + 1 == lived.len() => admitted(),
                Some(left) => elsewhere(Some(lived[left + 1]), left as u64 + 2),
                None => elsewhere(None, 0),
            }
        };
        cells.push(StubCell::start(decide, |_| ok("")).await);
    }
    let places: Vec<_> = NAMES.iter().zip(&cells).map(|(name, cell)| (*name, cell.url.clone())).collect();
    let revision = |n: usize| {
        let mut topology = topology(&places);
        (topology.revision, topology.predecessor) = (Revision(n as u64), Revision(n as u64 - 1));
        topology.regions[0].cells[n + 1..].iter_mut().for_each(|cell| cell.state = CellState::Pending);
        topology
    };
    let revisions: Vec<Topology> = (1..=3).map(revision).collect();
    assert!(rings.set(revisions.iter().map(|topology| Rings::new(topology).unwrap()).collect()).is_ok());
    let served = |user: &str| -> Vec<usize> {
        let asked = |cell: &StubCell| cell.calls_of(user);
        cells.iter().map(asked).collect()
    };
    let mut hops_most = 0;
    for topology in revisions {
        let router = StubRouter::with(topology).await;
        router.rows.away.store(true, Ordering::Relaxed);
        for n in 0..300 {
            let user = format!("user-{n}");
            let before: usize = served(&user).iter().sum();
            let reply = router.consume(&user).await;
            assert_eq!(reply.status, 200, "{user}: {}", reply.body);
            hops_most = hops_most.max(served(&user).iter().sum::<usize>() - before);
            // From then on it is known.
            assert_eq!(router.consume(&user).await.status, 200);
            let home = rings.get().unwrap()[2].owner(&UserId::new(&user).unwrap()).clone();
            let at = NAMES.iter().position(|cell| *cell == home.as_str()).unwrap();
            assert!(cells[at].admitted_to(&user) >= 2);
            assert!((0..4).all(|n| n == at || cells[n].admitted_to(&user) == 0), "{user} was served twice");
        }
        assert_eq!(router.rows.reads.load(Ordering::Relaxed), 0);
    }
    assert_eq!(hops_most, 3, "the router of revision 1 meets both moves");
}

/// Goal: a cell that sends everyone away for ever costs each request one directory read and a 503.
#[tokio::test]
async fn a_cell_that_answers_421_for_ever_is_one_503_a_request() {
    let cell = StubCell::start(|_| elsewhere(None, 0), |_| misdirected("eu-1", 0)).await;
    let router = StubRouter::before(&[("eu-1", &cell)]).await;
    let alice = UserId::new("alice").unwrap();
    router.rows.homes.lock().unwrap().insert(alice.clone(), home(&alice, "eu-1", 1));
    for n in 1..=3 {
        let reply = router.consume("alice").await;
        assert_eq!(reply.status, 503, "{}", reply.body);
        assert_eq!(router.rows.reads.load(Ordering::Relaxed), n);
    }
    // Told of a newer epoch it asks again, and no more than that.
    assert_eq!(cell.calls().len(), 6);
    assert_eq!(router.send(Method::GET, "/v1/user/profile", "alice", "").await.status, 503);
}

/// Goal: two cells that outbid each other end when three hops are used up.
#[tokio::test]
async fn cells_that_point_at_each_other_with_rising_epochs_end_after_three_hops() {
    let epoch = Arc::new(AtomicU64::new(1));
    let rising = |to: &'static str| {
        let (checks, requests) = (epoch.clone(), epoch.clone());
        let next = |epoch: &AtomicU64| epoch.fetch_add(1, Ordering::Relaxed);
        StubCell::start(move |_| elsewhere(Some(&name(to)), next(&checks)), move |_| misdirected(to, next(&requests)))
    };
    let (one, two) = (rising("eu-2").await, rising("eu-1").await);
    let router = StubRouter::before(&[("eu-1", &one), ("eu-2", &two)]).await;
    assert_eq!(router.consume("alice").await.status, 503);
    assert_eq!(one.calls().len() + two.calls().len(), 4);
    assert_eq!(router.send(Method::GET, "/v1/user/profile", "alice", "").await.status, 503);
    assert_eq!(one.seen() + two.seen(), 4);
    assert_eq!(router.rows.reads.load(Ordering::Relaxed), 0);
}

/// Goal: a remembered home that is none, as from another world's copy, costs one request and not the user.
#[tokio::test]
async fn a_remembered_home_that_nobody_confirms_is_forgotten() {
    let at_home = StubCell::start(
        |check| if check.user.as_str() == "alice" { admitted() } else { elsewhere(None, 0) },
        |_| ok(""),
    );
    let (at_home, stranger) = (at_home.await, StubCell::start(|_| elsewhere(None, 0), |_| ok("")).await);
    let router = StubRouter::before(&[("eu-1", &at_home), ("eu-2", &stranger)]).await;
    let map = router.routing.map().unwrap();
    let user = UserId::new("alice").unwrap();
    let (ring, off) = if map.ring_owner(&user) == &name("eu-1") { ("eu-1", "eu-2") } else { ("eu-2", "eu-1") };
    let router = StubRouter::before(&[(ring, &at_home), (off, &stranger)]).await;
    router.rows.homes.lock().unwrap().insert(user.clone(), home(&user, ring, 1));
    router.routing.remember(&user, &name(off), Epoch(9));
    assert_eq!(router.consume("alice").await.status, 503);
    assert_eq!(router.consume("alice").await.status, 200);
    assert_eq!(router.routing.exception(&user), None);
}

#[tokio::test]
async fn a_remembered_absence_spares_the_directory_and_not_the_forward() {
    let here = Arc::new(AtomicUsize::new(0));
    let signed_up = here.clone();
    let decide = move |_: &Check| match signed_up.load(Ordering::Relaxed) {
        0 => elsewhere(None, 0),
        _ => admitted(),
    };
    let cell = StubCell::start(decide, |_| ok("")).await;
    let router = StubRouter::before(&[("eu-1", &cell)]).await;
    assert_eq!(router.consume("alice").await.status, 404);
    here.store(1, Ordering::Relaxed);
    assert_eq!(router.consume("alice").await.status, 200);
    assert_eq!(router.rows.reads.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_long_body_goes_once_and_the_next_one_goes_right() {
    let old = StubCell::start(|_| admitted(), |_| misdirected("eu-2", 3)).await;
    let new = StubCell::start(|_| admitted(), |_| ok("here")).await;
    let router = StubRouter::before(&[("eu-1", &old), ("eu-2", &new)]).await;
    let map = router.routing.map().unwrap();
    let on_old = |user: &UserId| map.ring_owner(user) == &name("eu-1");
    let user = (0..).map(|n| UserId::new(&format!("u{n}")).unwrap()).find(on_old).unwrap();
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(65 * 1024));
    let reply = router.send(Method::POST, "/v1/user/preferences", user.as_str(), &long).await;
    assert_eq!((reply.status, new.seen()), (503, 0));
    let reply = router.send(Method::POST, "/v1/user/preferences", user.as_str(), &long).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "here"));
}

/// Goal: those who wait for users under way are bounded by cell; one more is told at once.
#[tokio::test]
async fn above_the_bound_a_frozen_users_request_is_put_off_at_once() {
    let frozen = StubCell::start(|_| Verdict::Refused(Refusal::Frozen), |_| ok("")).await;
    let free = StubCell::start(|_| Verdict::Refused(Refusal::Frozen), |_| ok("")).await;
    let router = StubRouter::before(&[("eu-1", &frozen), ("eu-2", &free)]).await;
    let map = router.routing.map().unwrap();
    let _all: Vec<_> = std::iter::from_fn(|| map.cell(&name("eu-1")).unwrap().wait_frozen()).collect();
    for n in 0..20 {
        let user = format!("user-{n}");
        let reason = match map.ring_owner(&UserId::new(&user).unwrap()).as_str() {
            "eu-1" => "overloaded",
            _ => "deadline",
        };
        let reply = router.consume(&user).await;
        assert!(reply.status == 503 && reply.body.contains(reason), "{}", reply.body);
    }
}

/// Goal: a cell that does not answer costs its own users only.
/// Method: one cell holds every answer back; 400 checks to each at once. Times are printed, not asserted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_cell_beside_a_fast_one_costs_its_own_users_only() {
    let (slow, fast) = (StubCell::good().await, StubCell::good().await);
    slow.state.gate.forget_permits(tokio::sync::Semaphore::MAX_PERMITS);
    let router = Arc::new(StubRouter::before(&[("eu-1", &slow), ("eu-2", &fast)]).await);
    let map = router.routing.map().unwrap();
    let mut asked = Vec::new();
    for n in 0..800 {
        let (router, user) = (router.clone(), format!("user-{n}"));
        let slow = map.ring_owner(&UserId::new(&user).unwrap()) == &name("eu-1");
        asked.push(tokio::spawn(async move {
            let began = Instant::now();
            let status = router.consume(&user).await.status;
            (slow, status, began.elapsed())
        }));
    }
    let mut took: HashMap<bool, Vec<Duration>> = HashMap::new();
    for asked in asked {
        let (slow, status, elapsed) = asked.await.unwrap();
        assert_eq!(status, if slow { 503 } else { 200 });
        took.entry(slow).or_default().push(elapsed);
    }
    for (slow, mut took) in took {
        took.sort();
        let p99 = took[took.len() * 99 / 100];
        println!("{} cell: {} checks, p99 {p99:?}", if slow { "slow" } else { "fast" }, took.len());
    }
}

/// Goal: a directory that takes two seconds costs nobody anything but those who need it, those no longer than
/// they wait, and not more than 32 of them at once.
#[tokio::test]
async fn a_slow_directory_costs_only_those_who_need_it() {
    let decide = |check: &Check| match check.user.as_str().starts_with("new") {
        true => elsewhere(None, 0),
        false => admitted(),
    };
    let cell = StubCell::start(decide, |_| ok("")).await;
    let router = StubRouter::before(&[("eu-1", &cell)]).await;
    router.rows.slow_ms.store(2_000, Ordering::Relaxed);
    let began = Instant::now();
    let names: Vec<String> = (0..40).map(|n| format!("new-{n}")).collect();
    let (new, old) = tokio::join!(
        futures::future::join_all(names.iter().map(|user| router.consume(user))),
        futures::future::join_all(["a", "b", "c"].map(|user| router.consume(user))),
    );
    assert!(old.iter().all(|reply| reply.status == 200));
    assert!(new.iter().all(|reply| reply.status == 503));
    let because = |why: &str| new.iter().filter(|reply| reply.body.contains(why)).count();
    assert_eq!((because("deadline"), because("overloaded")), (32, 8));
    println!("all 43 after {:?}; the directory takes 2 s", began.elapsed());
}

/// Goal: preferences are shown as they were while their cell does not answer, to service keys, and not for
/// longer than the cell has nothing else to say.
#[tokio::test]
async fn preferences_are_shown_as_they_were_while_their_cell_does_not_answer() {
    let answers = Arc::new(AtomicUsize::new(200));
    let said = answers.clone();
    let serve = move |seen: &super::stub::Seen| match (said.load(Ordering::Relaxed), &seen.method) {
        (200, &Method::GET) => ([("etag", "\"7\"")], axum::Json(serde_json::json!({"dark": true}))).into_response(),
        (200, _) => StatusCode::OK.into_response(),
        (404, _) => cellar_server::HttpProblem::from(ProblemType::UnknownUser).into_response(),
        _ => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    };
    let cell = StubCell::start(|_| admitted(), serve).await;
    let router = StubRouter::before(&[("eu-1", &cell)]).await;
    let read = || router.send(Method::GET, "/v1/user/preferences", "alice", "");
    let fresh = read().await;
    assert_eq!((fresh.status, fresh.body.as_str()), (200, r#"{"dark":true}"#));
    assert!(!fresh.headers.contains_key("cellar-degraded"));

    answers.store(503, Ordering::Relaxed);
    let stale = read().await;
    assert_eq!((stale.status, stale.body), (200, fresh.body));
    let said = ["cellar-degraded", "cache-control", "etag"].map(|name| stale.headers[name].to_str().unwrap());
    assert_eq!(said, ["stale", "stale-if-error=600", "\"7\""]);
    // Nobody else's, nothing else, and to no session.
    assert_eq!(router.send(Method::GET, "/v1/user/preferences", "bob", "").await.status, 503);
    assert_eq!(router.send(Method::GET, "/v1/user/profile", "alice", "").await.status, 503);
    let request = http::Request::get(format!("http://{}/v1/user/preferences", router.at))
        .header("authorization", format!("Bearer {}", router.session("alice")))
        .body(http_body_util::Full::default())
        .unwrap();
    assert_eq!(router.reply(request).await.status, 503);

    // Who has written, or is gone, is not shown what was.
    assert_eq!(router.send(Method::POST, "/v1/user/preferences", "alice", "{}").await.status, 503);
    assert_eq!(read().await.status, 503);
    answers.store(200, Ordering::Relaxed);
    assert_eq!(read().await.status, 200);
    answers.store(404, Ordering::Relaxed);
    assert_eq!(read().await.status, 404);
    answers.store(503, Ordering::Relaxed);
    assert_eq!(read().await.status, 503);
}
