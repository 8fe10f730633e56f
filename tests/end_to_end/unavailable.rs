//! Neither Redis nor Postgres can be asked: what tiers allow meanwhile, and what becomes of it.

use crate::faults::{ask_whole as ask, kill9, store_becomes};
use crate::support::World;
use std::time::Duration;
use tokio::time::Instant;

/// Goal: with both stores dead a user spends what his tier allows and no more; what he spent is charged once
/// the stores are back, even if the cell dies first; and each key keeps its answer.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_tier_allows_without_stores_is_charged_once_they_are_back() {
    let world = World::cell();
    world.tier_of("gold", "on_unavailable = { allow_up_to = { tokens = 30 } }\n", 1_000).await;
    let user = world.user("gold@example.org", "gold").await;
    let stranger = world.user("stranger@example.org", "gold").await;
    assert_eq!(ask(&world, &user, "before", 10).await.0, 200);
    kill9(&world, "redis-quota").await;
    kill9(&world, "postgres").await;

    let until = Instant::now() + Duration::from_secs(30);
    let first = loop {
        let answer = ask(&world, &user, "k0", 10).await;
        if answer.0 == 200 {
            break answer;
        }
        assert!(answer.0 == 503 && Instant::now() < until, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert_eq!(first.1.as_deref(), Some("unavailable"));
    let mut firsts = vec![first];
    for key in ["k1", "k2"] {
        let answer = ask(&world, &user, key, 10).await;
        assert_eq!((answer.0, answer.1.as_deref()), (200, Some("unavailable")));
        firsts.push(answer);
    }
    assert_eq!(ask(&world, &user, "k3", 1).await.0, 503, "more than the tier allows");
    assert_eq!(ask(&world, &stranger, "s0", 1).await.0, 503, "never served by this process");
    assert_eq!(ask(&world, &user, "k0", 10).await.2, firsts[0].2);

    kill9(&world, "local-1-0").await;
    for role in ["postgres", "redis-quota", "local-1-0"] {
        world.cellctl.ok(&["restart", role]).unwrap();
    }
    store_becomes(&world, &user, None).await;
    for (n, first) in firsts.iter().enumerate() {
        let again = ask(&world, &user, &format!("k{n}"), 10).await;
        assert_eq!((again.0, &again.2), (200, &first.2), "k{n}");
    }
    assert_eq!(world.books(None, &user, "tokens").await, (40, 40, 40));
}
