//! Session and quota in one call: who was logged out before a request began is not let through.

use crate::support::World;
use cellar_client::Credential;
use cellar_devstack::Stack;
use cellar_model::UserId;
use cellar_model::wire::{Device, LogInBody, LoggedIn};
use futures::future::{join, join_all};
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};

/// Each with a session of its own, which is revoked while it is asked with.
const ROUNDS: usize = 240;
/// In one round of so many the cache is emptied meanwhile.
const EMPTIED_EVERY: usize = 8;
/// Two at each router.
const CALLERS: usize = 4;

async fn log_in(world: &World, user: &UserId) -> LoggedIn {
    let device = Device { name: "phone".into(), platform: "android".into() };
    let body = LogInBody { email: None, password: None, user_id: Some(user.clone()), device };
    world.client.log_in(&body).await.unwrap()
}

/// The status of an admit of one token at a router.
async fn admit(world: &World, http: &reqwest::Client, router: usize, token: &str) -> u16 {
    let cost = json!({"requests": 0, "tokens": 1});
    let request = http.post(format!("{}/v1/internal/admit", world.urls[router])).bearer_auth(&world.service_key);
    let request = request.header("cellar-deadline-ms", "20000").json(&json!({"session_token": token, "cost": cost}));
    request.send().await.unwrap().status().as_u16()
}

async fn empty_caches(world: &World) {
    let stack = Stack::open(world.cellctl.stack()).unwrap();
    for cache in stack.state().processes.iter().filter(|process| process.role.label() == "redis-cache") {
        let cache = redis::Client::open(format!("redis://127.0.0.1:{}", cache.ports[0])).unwrap();
        let mut connection = cache.get_multiplexed_async_connection().await.unwrap();
        redis::cmd("FLUSHALL").exec_async(&mut connection).await.unwrap();
    }
}

/// Goal: an admit that starts after the answer to its session's revocation never succeeds, and one that is
/// refused charges nothing.
/// Method: through two routers before a cell of two processes, callers ask all the time while the session is
/// revoked. Each looks first whether the answer is there; one look later he stops.
#[tokio::test(flavor = "multi_thread")]
async fn no_admit_that_starts_after_the_answer_to_a_revocation_succeeds() {
    let world = World::up(&["up", "--regions", "2", "--cells", "1", "--instances", "2"]);
    world.bucket_tier("bucket", 1_000_000).await;
    let mut users = Vec::new();
    for n in 0..4 {
        users.push((world.user(&format!("admit-{n}@example.org"), "bucket").await, 0u64));
    }
    let http = reqwest::Client::new();
    for round in 0..ROUNDS {
        let place = round % users.len();
        let session = log_in(&world, &users[place].0).await;
        let revoked = AtomicBool::new(false);
        let callers = (0..CALLERS).map(async |n| {
            let mut admitted = 0;
            loop {
                let over = revoked.load(Ordering::SeqCst);
                match (admit(&world, &http, n % 2, &session.session_token).await, over) {
                    (200, false) => admitted += 1,
                    (401, true) => return admitted,
                    (401, false) => {}
                    (status, over) => panic!("round {round}: {status}, revoked before: {over}"),
                }
            }
        });
        let revocation = async {
            // So that there is something in the cache.
            assert_eq!(admit(&world, &http, round % 2, &session.session_token).await, 200);
            if round % EMPTIED_EVERY == 0 {
                empty_caches(&world).await;
            }
            let its_own = world.client.with_credential(Credential::new(session.session_token.clone()));
            its_own.revoke_session(&session.session_id).await.unwrap();
            revoked.store(true, Ordering::SeqCst);
            1
        };
        let (admitted, one) = join(join_all(callers), revocation).await;
        users[place].1 += admitted.into_iter().sum::<u64>() + one;
    }
    for (user, admitted) in &users {
        assert!(*admitted >= (ROUNDS / users.len()) as u64);
        let cell = if user.as_str().starts_with("eu") { "eu-1" } else { "us-1" };
        assert_eq!(world.books(Some(cell), user, "tokens").await, (*admitted, *admitted, *admitted));
    }
}
