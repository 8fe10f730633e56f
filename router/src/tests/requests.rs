//! Everything but checks: headers, bodies, redirects, sign-up, log-in.

use super::stub::{StubCell, StubRouter, admitted, misdirected, ok};
use axum::response::IntoResponse;
use bytes::Bytes;
use cellar_directory::{Claim, ClaimState, Email, EmailHash, Intent, Op};
use cellar_model::wire::PlacedSignUp;
use cellar_model::{CellName, RegionName, UserId};
use http::{Method, StatusCode};
use http_body_util::Full;

fn on_cell(router: &StubRouter, cell: &str) -> UserId {
    let map = router.routing.map().unwrap();
    let cell = CellName::new(cell).unwrap();
    (0..).map(|n| UserId::new(&format!("u{n}")).unwrap()).find(|user| *map.ring_owner(user) == cell).unwrap()
}

#[tokio::test]
async fn a_cell_sees_only_headers_that_the_router_wrote() {
    let cell = StubCell::start(|_| admitted(), |_| ok("{}")).await;
    let router = StubRouter::before(&[("eu-1", &cell)]).await;
    let request = http::Request::builder()
        .method(Method::PATCH)
        .uri(format!("http://{}/v1/user/profile?x=1", router.at))
        .header("authorization", format!("Bearer {}", router.key))
        .header("cellar-user", "alice")
        .header("cellar-caller", "root")
        .header("cellar-home", "eu-9; epoch=9")
        .header("cellar-request-id", "r-1")
        .header("if-match", "\"tag\"")
        .header("connection", "close, if-none-match")
        .header("if-none-match", "\"old\"")
        .body(Full::new(Bytes::from_static(b"{\"name\":\"A\"}")))
        .unwrap();
    let reply = router.reply(request).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "{}"));
    assert!(reply.headers["server-timing"].to_str().unwrap().contains("route;dur="));
    let seen = cell.state.seen.lock().unwrap().pop().unwrap();
    assert_eq!((seen.method, seen.target.as_str()), (Method::PATCH, "/v1/user/profile?x=1"));
    assert_eq!(seen.body, "{\"name\":\"A\"}");
    let header = |name: &str| seen.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(header("cellar-user").as_deref(), Some("alice"));
    assert_eq!(header("cellar-caller").as_deref(), Some("app"));
    assert_eq!(header("cellar-request-id").as_deref(), Some("r-1"));
    assert_eq!(header("if-match").as_deref(), Some("\"tag\""));
    assert!(header("cellar-deadline-ms").unwrap().parse::<u64>().unwrap() <= 2_000);
    for gone in ["authorization", "cellar-home", "if-none-match"] {
        assert_eq!(header(gone), None, "{gone}");
    }
}

#[tokio::test]
async fn a_421_is_followed_with_the_same_body_and_a_caller_never_sees_one() {
    let old = StubCell::start(|_| admitted(), |_| misdirected("eu-2", 3)).await;
    let new = StubCell::start(|_| admitted(), |_| ok("here")).await;
    let router = StubRouter::before(&[("eu-1", &old), ("eu-2", &new)]).await;
    let user = on_cell(&router, "eu-1");
    let reply = router.send(Method::POST, "/v1/user/preferences", user.as_str(), r#"{"a":1}"#).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "here"));
    assert_eq!(new.state.seen.lock().unwrap()[0].body, r#"{"a":1}"#);

    let lost = StubCell::start(|_| admitted(), |_| misdirected("eu-1", 0)).await;
    let router = StubRouter::before(&[("eu-1", &lost)]).await;
    let reply = router.send(Method::GET, "/v1/user/profile", "nobody", "").await;
    assert_eq!(reply.status, 404, "{}", reply.body);
}

#[tokio::test]
async fn a_body_above_64_kib_streams_and_one_above_the_limit_is_refused() {
    let cell = StubCell::start(|_| admitted(), |_| ok("taken")).await;
    let router = StubRouter::before(&[("eu-1", &cell)]).await;
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(100_000));
    let reply = router.send(Method::POST, "/v1/user/preferences", "alice", &long).await;
    assert_eq!((reply.status, reply.body.as_str()), (200, "taken"));
    assert_eq!(cell.state.seen.lock().unwrap()[0].body.len(), long.len());
    let huge = "x".repeat(cellar_server::limits::BODY_MAX + 1);
    assert_eq!(router.send(Method::POST, "/v1/user/preferences", "alice", &huge).await.status, 413);
}

#[tokio::test]
async fn a_sign_up_goes_to_the_owner_of_the_id_and_on_to_the_claims_cell() {
    let created =
        |_: &super::stub::Seen| (StatusCode::CREATED, r#"{"user_id":"u","tier":"pro","region":"eu"}"#).into_response();
    let claimed = StubCell::start(|_| admitted(), created).await;
    let drawn = StubCell::start(|_| admitted(), |_| misdirected("eu-2", 1)).await;
    let router = StubRouter::before(&[("eu-1", &drawn), ("eu-2", &claimed)]).await;
    let user = on_cell(&router, "eu-1");
    let body = format!(r#"{{"email":"a@example.org","tier":"pro","user_id":"{}"}}"#, user.as_str());
    let reply = router.send(Method::POST, "/v1/users", "x", &body).await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    let (first, second) =
        (drawn.state.seen.lock().unwrap().pop().unwrap(), claimed.state.seen.lock().unwrap().pop().unwrap());
    assert_eq!(first.body, second.body);
    assert_eq!(first.target, "/cell/v1/users");
    let placed: PlacedSignUp = serde_json::from_slice(&first.body).unwrap();
    // The process that has the user's shard makes the user.
    assert_eq!(first.headers["cellar-user"], user.as_str());
    assert_eq!((placed.user_id, placed.region.as_str()), (user, "eu"));
}

#[tokio::test]
async fn a_drawn_id_falls_on_an_open_cell() {
    let (open, full) = (StubCell::good().await, StubCell::good().await);
    let mut topology = super::stub::topology(&[("eu-1", open.url.clone()), ("eu-2", full.url.clone())]);
    topology.regions[0].cells[1].state = cellar_model::CellState::Full;
    let router = StubRouter::with(topology).await;
    for n in 0..10 {
        let body = format!(r#"{{"email":"a{n}@example.org","tier":"pro"}}"#);
        assert_eq!(router.send(Method::POST, "/v1/users", "x", &body).await.status, 200);
    }
    assert_eq!((open.state.seen.lock().unwrap().len(), full.state.seen.lock().unwrap().len()), (10, 0));
}

/// Goal: an id that was brought lives in the region that was asked for, on the owner of its point there, and one that
/// has the form of those that are drawn where it says.
#[tokio::test]
async fn a_brought_id_goes_to_the_region_that_was_asked_for() {
    let (eu, us) = (StubCell::good().await, StubCell::good().await);
    let mut topology = super::stub::topology(&[("eu-1", eu.url.clone())]);
    let mut other = super::stub::topology(&[("us-1", us.url.clone())]).regions.remove(0);
    other.name = RegionName::new("us").unwrap();
    topology.regions.push(other);
    let router = StubRouter::with(topology).await;
    let sign_up = async |user: &str, region: &str| {
        let body = format!(r#"{{"email":"a@example.org","tier":"pro","user_id":"{user}"{region}}}"#);
        router.send(Method::POST, "/v1/users", "x", &body).await.status
    };
    let minted = UserId::mint(&RegionName::new("us").unwrap(), 1 << 80);
    for (user, region, status, seen) in [
        ("ada", "", 200, (1, 0)),
        ("ada", r#","region":"us""#, 200, (1, 1)),
        (minted.as_str(), "", 200, (1, 2)),
        (minted.as_str(), r#","region":"eu""#, 422, (1, 2)),
        ("ada", r#","region":"moon""#, 422, (1, 2)),
    ] {
        assert_eq!(sign_up(user, region).await, status, "{user}{region}");
        assert_eq!((eu.seen(), us.seen()), seen, "{user}{region}");
    }
    let placed: PlacedSignUp = serde_json::from_slice(&us.state.seen.lock().unwrap()[0].body).unwrap();
    assert_eq!((placed.user_id.as_str(), placed.region.as_str()), ("ada", "us"));
}

/// Goal: a cell that is to join the ring gets its share of those who sign up, and nobody's requests before that.
#[tokio::test]
async fn a_pending_cell_takes_sign_ups_and_is_not_asked_for_users() {
    let (open, pending) = (StubCell::good().await, StubCell::good().await);
    let mut topology = super::stub::topology(&[("eu-1", open.url.clone()), ("eu-2", pending.url.clone())]);
    topology.regions[0].cells[1].state = cellar_model::CellState::Pending;
    let router = StubRouter::with(topology).await;
    for n in 0..40 {
        let body = format!(r#"{{"email":"a{n}@example.org","tier":"pro"}}"#);
        assert_eq!(router.send(Method::POST, "/v1/users", "x", &body).await.status, 200);
    }
    assert!(open.seen() > 0 && pending.seen() > 0, "{} {}", open.seen(), pending.seen());
    let before = pending.seen();
    for n in 0..10 {
        router.send(Method::GET, "/v1/user/profile", &format!("user-{n}"), "").await;
    }
    assert_eq!(pending.seen(), before);
}

#[tokio::test]
async fn a_log_in_finds_its_user_by_e_mail_and_a_strangers_costs_a_cell_the_same_work() {
    let wrong = |_: &super::stub::Seen| (StatusCode::UNAUTHORIZED, "no").into_response();
    let cell = StubCell::start(|_| admitted(), wrong).await;
    let router = StubRouter::before(&[("eu-1", &cell)]).await;
    let emails = router.peppers.hashes(&Email::parse("alice@example.org").unwrap());
    hold(&router, emails[0], "alice");
    for address in ["Alice@example.org", "nobody@example.org", "no address"] {
        let request = http::Request::builder()
            .method(Method::POST)
            .uri(format!("http://{}/v1/sessions", router.at))
            .header("cellar-user", "mallory")
            .body(Full::new(Bytes::from(format!(r#"{{"email":"{address}","password":"x"}}"#))))
            .unwrap();
        assert_eq!(router.reply(request).await.status, 401, "{address}");
    }
    let seen = cell.state.seen.lock().unwrap();
    let users: Vec<_> =
        seen.iter().map(|seen| seen.headers.get("cellar-user").map(|user| user.to_str().unwrap())).collect();
    assert_eq!(users, [Some("alice"), None, None]);
    assert!(seen.iter().all(|seen| !seen.headers.contains_key("cellar-caller")));
}

fn hold(router: &StubRouter, email: EmailHash, user: &str) {
    let claim = Claim {
        email,
        user: UserId::new(user).unwrap(),
        cell: CellName::new("eu-1").unwrap(),
        intent: Intent::random(),
        state: ClaimState::Held,
        op: Op::random(),
    };
    router.rows.claims.lock().unwrap().insert(email, claim);
}

/// Goal: an e-mail is found under either pepper, and one that its user has left under the first is found under
/// the next.
#[tokio::test]
async fn a_log_in_asks_under_the_next_pepper_where_the_first_does_not_know_or_is_wrong() {
    let answer = |seen: &super::stub::Seen| match seen.headers.get("cellar-user") {
        Some(user) if user == "bob" => ok("bob"),
        _ => (StatusCode::UNAUTHORIZED, "no").into_response(),
    };
    let cell = StubCell::start(|_| admitted(), answer).await;
    let router = StubRouter::before(&[("eu-1", &cell)]).await;
    let emails = |address: &str| router.peppers.hashes(&Email::parse(address).unwrap());
    hold(&router, emails("only@example.org")[1], "bob");
    hold(&router, emails("left@example.org")[0], "alice");
    hold(&router, emails("left@example.org")[1], "bob");
    hold(&router, emails("same@example.org")[0], "alice");
    hold(&router, emails("same@example.org")[1], "alice");
    for (address, status) in [("only@example.org", 200), ("left@example.org", 200), ("same@example.org", 401)] {
        let request = http::Request::builder()
            .method(Method::POST)
            .uri(format!("http://{}/v1/sessions", router.at))
            .body(Full::new(Bytes::from(format!(r#"{{"email":"{address}","password":"x"}}"#))))
            .unwrap();
        assert_eq!(router.reply(request).await.status, status, "{address}");
    }
    assert_eq!(cell.state.seen.lock().unwrap().len(), 1 + 2 + 1);
}
