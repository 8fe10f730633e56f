//! First sights of a foreign id, under a key with `auto_enrol`.

use super::stub::{StubCell, StubRouter, admitted, ok};
use axum::response::IntoResponse;
use cellar_directory::{HomeState, UserHome};
use cellar_model::wire::PlacedEnrolment;
use cellar_model::{CellName, Epoch, KeyName, Refusal, UserId, Verdict};
use cellar_server::enrolment_intent;
use futures::future::join_all;
use http::{Method, StatusCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn nowhere() -> Verdict {
    Verdict::Refused(Refusal::Elsewhere { home: None, epoch: Epoch(0) })
}

/// A cell that has nobody until it is told to enrol, and to that says `status`.
async fn cell_that_enrols(status: StatusCode) -> StubCell {
    let there = Arc::new(AtomicBool::new(false));
    let enrolled = there.clone();
    let decide = move |_: &cellar_model::Check| match there.load(Ordering::SeqCst) {
        true => admitted(),
        false => nowhere(),
    };
    let serve = move |seen: &super::stub::Seen| {
        if seen.target == "/cell/v1/enrolments" {
            enrolled.store(status == StatusCode::CREATED, Ordering::SeqCst);
            return status.into_response();
        }
        match enrolled.load(Ordering::SeqCst) {
            true => ok("{}"),
            false => StatusCode::MISDIRECTED_REQUEST.into_response(),
        }
    };
    StubCell::start(decide, serve).await
}

fn enrolments(cell: &StubCell) -> Vec<PlacedEnrolment> {
    let seen = cell.state.seen.lock().unwrap();
    let placed = seen.iter().filter(|seen| seen.target == "/cell/v1/enrolments");
    placed.map(|seen| serde_json::from_slice(&seen.body).unwrap()).collect()
}

#[tokio::test]
async fn first_sights_at_once_are_one_sign_up_and_each_is_decided() {
    let cell = cell_that_enrols(StatusCode::CREATED).await;
    let router = StubRouter::before(&[("eu-1", &cell)]).await;
    router.enrol_in("free");
    // As long as the others need to come.
    router.rows.slow_ms.store(20, Ordering::Relaxed);
    let replies = join_all((0..50).map(|_| router.consume("alice"))).await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    let placed = enrolments(&cell);
    let [placed] = &placed[..] else { panic!("{placed:?}") };
    let alice = UserId::new("alice").unwrap();
    assert_eq!(placed.intent, enrolment_intent(&KeyName::new("app").unwrap(), &alice));
    assert_eq!((&placed.user_id, placed.tier.as_str()), (&alice, "free"));
    assert_eq!(router.rows.reads.load(Ordering::Relaxed), 1);
    assert_eq!(router.routing.metrics.enrolled.get(), 1);
}

#[tokio::test]
async fn an_absence_remembered_of_another_key_spares_the_read_and_not_the_sign_up() {
    let cell = cell_that_enrols(StatusCode::CREATED).await;
    let router = StubRouter::before(&[("eu-1", &cell)]).await;
    assert_eq!(router.consume("alice").await.status, 404);
    assert_eq!(enrolments(&cell).len(), 0);
    router.enrol_in("free");
    assert_eq!(router.consume("alice").await.status, 200);
    assert_eq!((enrolments(&cell).len(), router.rows.reads.load(Ordering::Relaxed)), (1, 1));
}

#[tokio::test]
async fn batches_and_reads_of_the_user_enrol_and_nothing_else_does() {
    let ask = async |method: Method, path: &str, body: &str| {
        let cell = cell_that_enrols(StatusCode::CREATED).await;
        let router = StubRouter::before(&[("eu-1", &cell)]).await;
        router.enrol_in("free");
        let reply = router.send(method, path, "alice", body).await;
        (reply.status, enrolments(&cell).len())
    };
    let quota = |what: &str| format!("/v1/internal/quota/{what}");
    assert_eq!(ask(Method::GET, "/v1/user/profile", "").await, (200, 1));
    assert_eq!(ask(Method::GET, "/v1/user/quota", "").await, (200, 1));
    assert_eq!(ask(Method::GET, "/v1/user/preferences", "").await, (200, 1));
    assert_eq!(ask(Method::POST, &quota("reserve"), r#"{"user_id":"alice"}"#).await, (200, 1));
    let two = r#"{"checks":[{"user_id":"alice"},{"user_id":"alice"}]}"#;
    assert_eq!(ask(Method::POST, &quota("batch"), two).await, (200, 1));

    assert_eq!(ask(Method::GET, "/v1/sessions", "").await, (404, 0));
    assert_eq!(ask(Method::PATCH, "/v1/user/profile", r#"{"name":"A"}"#).await, (404, 0));
    assert_eq!(ask(Method::POST, "/v1/sessions", r#"{"user_id":"alice","device":{}}"#).await, (404, 0));
    let refund = r#"{"user_id":"alice","charge_id":"c1-1-1-0"}"#;
    assert_eq!(ask(Method::POST, &quota("refund"), refund).await, (404, 0));
}

#[tokio::test]
async fn a_tier_that_is_not_there_is_422_and_named() {
    let cell = cell_that_enrols(StatusCode::UNPROCESSABLE_ENTITY).await;
    let router = StubRouter::before(&[("eu-1", &cell)]).await;
    router.enrol_in("gold");
    let reply = router.consume("alice").await;
    assert_eq!(reply.status, 422);
    assert!(reply.body.contains("unknown-tier") && reply.body.contains("there is no tier gold"), "{}", reply.body);
}

#[tokio::test]
async fn neither_who_was_erased_nor_an_id_of_our_own_is_enrolled() {
    let cell = cell_that_enrols(StatusCode::CREATED).await;
    let router = StubRouter::before(&[("eu-1", &cell)]).await;
    router.enrol_in("free");
    let erased = UserId::new("erased").unwrap();
    let home = CellName::new("eu-1").unwrap();
    let row = UserHome { user: erased.clone(), home, epoch: Epoch(2), state: HomeState::Erased };
    router.rows.homes.lock().unwrap().insert(erased, row);
    // The second one by the remembered absence.
    for _ in 0..2 {
        assert_eq!(router.consume("erased").await.status, 404);
    }
    let minted = UserId::mint(&"eu".parse().unwrap(), 7);
    assert_eq!(router.consume(minted.as_str()).await.status, 404);
    assert_eq!(enrolments(&cell).len(), 0);
    let like_one = UserId::mint(&"user".parse().unwrap(), 7);
    assert_eq!(router.consume(like_one.as_str()).await.status, 200);
}

#[tokio::test]
async fn who_is_made_and_not_found_is_unknown_and_not_made_twice() {
    let cell = cell_that_enrols(StatusCode::CONFLICT).await;
    let router = StubRouter::before(&[("eu-1", &cell)]).await;
    router.enrol_in("free");
    let reply = router.consume("alice").await;
    assert_eq!((reply.status, enrolments(&cell).len()), (503, 1), "{}", reply.body);
    // A cell older than enrolments has nothing at this path.
    let older = cell_that_enrols(StatusCode::NOT_FOUND).await;
    let router = StubRouter::before(&[("eu-1", &older)]).await;
    router.enrol_in("free");
    assert_eq!(router.consume("alice").await.status, 503);
}
