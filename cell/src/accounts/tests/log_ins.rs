//! Log-ins that fail, and when they are looked at no more.

use super::{Reply, World};
use cellar_model::header;
use http::StatusCode;
use serde_json::json;

/// As many may fail as the tests' cell allows.
const FAILURES: usize = 5;

async fn log_in(world: &World, email: &str, password: &str, address: &str) -> Reply {
    let headers = [(header::CLIENT_ADDRESS, address)];
    world.ask("POST", "/v1/sessions", &headers, json!({"email": email, "password": password})).await
}

/// Goal: the limit is the same, to the byte, for an account and for an e-mail that nobody has; the right password is
/// refused like any other.
#[tokio::test(flavor = "multi_thread")]
async fn a_limited_account_looks_like_one_that_is_not_there() {
    let world = World::start().await;
    world.user("ada").await;
    for email in ["ada@example.org", "nobody@example.org"] {
        for _ in 0..FAILURES {
            let wrong = log_in(&world, email, "battery staple", "192.0.2.1").await;
            assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
        }
    }
    let refused = log_in(&world, "Ada@Example.org", "correct horse", "192.0.2.1").await;
    let nobody = log_in(&world, "nobody@example.org", "correct horse", "192.0.2.1").await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.body["type"], "/problems/too-many-attempts");
    assert_eq!((nobody.status, &nobody.body), (refused.status, &refused.body));
    let wait = |reply: &Reply| reply.headers[http::header::RETRY_AFTER].to_str().unwrap().parse::<u64>().unwrap();
    assert!((3_000..=3_600).contains(&wait(&refused)));
    // An application that vouches for its user is not held up.
    let vouched = world.ask("POST", "/v1/sessions", &super::KEY, json!({"user_id": "ada"})).await;
    assert_eq!(vouched.status, StatusCode::CREATED);
}

/// Goal: strangers do not keep an owner out who is logged in where they ask from, and have that limit neither.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_is_let_in_where_they_are_logged_in_already() {
    let world = World::start().await;
    world.user("ada").await;
    let (home, stranger) = ("192.0.2.1", "198.51.100.1");
    for _ in 0..FAILURES + 2 {
        // A log-in that does not fail costs nothing.
        assert_eq!(log_in(&world, "ada@example.org", "correct horse", home).await.status, StatusCode::CREATED);
    }
    for _ in 0..FAILURES {
        log_in(&world, "ada@example.org", "battery staple", stranger).await;
    }
    let limited = StatusCode::TOO_MANY_REQUESTS;
    assert_eq!(log_in(&world, "ada@example.org", "correct horse", stranger).await.status, limited);
    assert_eq!(log_in(&world, "ada@example.org", "correct horse", home).await.status, StatusCode::CREATED);
    for _ in 0..FAILURES {
        log_in(&world, "ada@example.org", "battery staple", home).await;
    }
    assert_eq!(log_in(&world, "ada@example.org", "correct horse", home).await.status, limited);
}
