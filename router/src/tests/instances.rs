//! Several processes a cell: who is asked, who is asked instead, and where that ends.

use super::stub::{StubCell, StubRouter, admitted, misdirected, ok, topology};
use axum::response::{IntoResponse, Response};
use cellar_model::{Refusal, Topology, Verdict, header};
use http::{Method, StatusCode};
use std::sync::atomic::Ordering;

/// One cell whose processes are there.
fn cell_of(urls: &[&str]) -> Topology {
    let mut topology = topology(&[("eu-1", String::new())]);
    topology.regions[0].cells[0].endpoints =
        urls.iter().flat_map(|url| [(*url).to_owned(), (*url).to_owned()]).collect();
    topology
}

fn other(endpoint: &str) -> Verdict {
    Verdict::Refused(Refusal::OtherInstance { endpoint: endpoint.to_owned() })
}

fn at_other(endpoint: &str) -> Response {
    (StatusCode::MISDIRECTED_REQUEST, [(header::INSTANCE, endpoint.to_owned())]).into_response()
}

#[tokio::test]
async fn a_process_that_names_another_is_followed_once_a_shard() {
    let owner = StubCell::start(|_| admitted(), |_| ok("here")).await;
    let (said, named) = (owner.url.clone(), owner.url.clone());
    let stranger = StubCell::start(move |_| other(&said), move |_| at_other(&named)).await;
    let router = StubRouter::with(cell_of(&[&stranger.url, &owner.url])).await;
    for n in 0..40 {
        assert_eq!(router.consume(&format!("user-{n}")).await.status, 200);
        let reply = router.send(Method::GET, "/v1/user/profile", &format!("user-{n}"), "").await;
        assert_eq!((reply.status, reply.body.as_str()), (200, "here"));
    }
    // Once each of the cell's four shards, at most: then it is known.
    assert!(stranger.calls().len() <= 4, "{:?}", stranger.calls());
    assert!(stranger.state.seen.lock().unwrap().is_empty());
    assert_eq!(owner.calls().len(), 40);
    let checks: Vec<_> = (0..40).map(|n| format!(r#"{{"user_id":"user-{n}"}}"#)).collect();
    let body = format!(r#"{{"checks":[{}]}}"#, checks.join(","));
    let reply = router.send(Method::POST, "/v1/internal/quota/batch", "x", &body).await;
    let answer: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
    assert!(answer["results"].as_array().unwrap().iter().all(|item| item["status"] == 200));
}

#[tokio::test]
async fn a_process_that_is_down_leaves_its_requests_to_another() {
    let alive = StubCell::start(|_| admitted(), |_| ok("here")).await;
    let router = StubRouter::with(cell_of(&["http://127.0.0.1:1", &alive.url])).await;
    for n in 0..20 {
        assert_eq!(router.consume(&format!("user-{n}")).await.status, 200);
        assert_eq!(router.send(Method::GET, "/v1/user/profile", &format!("user-{n}"), "").await.status, 200);
    }
}

#[tokio::test]
async fn one_outside_the_topology_or_in_a_circle_ends_in_503() {
    let outside = "http://10.9.9.9:1";
    let lost = StubCell::start(|_| other(outside), |_| at_other(outside)).await;
    let router = StubRouter::with(cell_of(&[&lost.url])).await;
    router.rows.away.store(true, Ordering::Relaxed);
    assert_eq!(router.consume("alice").await.status, 503);
    assert_eq!(router.send(Method::GET, "/v1/user/profile", "alice", "").await.status, 503);

    // Each dead one is named by the other, which still believes in it.
    let dead = "http://127.0.0.1:1";
    let believer = StubCell::start(|_| other(dead), |_| at_other(dead)).await;
    let router = StubRouter::with(cell_of(&[dead, &believer.url])).await;
    router.rows.away.store(true, Ordering::Relaxed);
    let reply = router.consume("alice").await;
    assert_eq!(reply.status, 503, "{}", reply.body);
    assert!(believer.calls().len() <= 3);
    assert_eq!(router.send(Method::GET, "/v1/user/profile", "alice", "").await.status, 503);
}

#[tokio::test]
async fn another_cell_is_followed_from_whichever_process_says_so() {
    let old = StubCell::start(|_| admitted(), |_| misdirected("eu-2", 3)).await;
    let new = StubCell::start(|_| admitted(), |_| ok("moved")).await;
    let mut topology = topology(&[("eu-1", old.url.clone()), ("eu-2", new.url.clone())]);
    topology.regions[0].cells[0].endpoints = vec![old.url.clone(), old.url.clone(), old.url.clone(), old.url.clone()];
    let router = StubRouter::with(topology).await;
    for n in 0..10 {
        let reply = router.send(Method::GET, "/v1/user/profile", &format!("user-{n}"), "").await;
        assert_eq!((reply.status, reply.body.as_str()), (200, "moved"));
    }
}
