//! The same request twice is charged once and answered the same.

use crate::support::{World, known, status_of, tokens};
use cellar_client::Decision;
use futures::StreamExt;

/// Goal: 1,000 keys sent twice are charged once each, and both answers are equal.
/// Method: half of them at the same time, half one after the other.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_keys_sent_twice_are_charged_once_with_equal_bodies() {
    let world = World::cell();
    world.bucket_tier("bucket", 1_000_000).await;
    let user = world.user("keys@example.org", "bucket").await;

    futures::stream::iter(0..1_000)
        .for_each_concurrent(32, |n| {
            let (client, check) = (world.client.clone(), tokens(&user, 3, Some(&format!("key-{n}"))));
            async move {
                let (first, second) = if n % 2 == 0 {
                    tokio::join!(known(&client, &check), known(&client, &check))
                } else {
                    let first = known(&client, &check).await;
                    (first, known(&client, &check).await)
                };
                assert!(first.is_allowed());
                assert_eq!(first, second, "key {n}");
            }
        })
        .await;

    assert_eq!(world.books(None, &user, "tokens").await, (3_000, 3_000, 3_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_with_another_body_is_refused_and_a_denied_one_is_decided_anew() {
    let world = World::cell();
    world.bucket_tier("bucket", 100).await;
    let user = world.user("reuse@example.org", "bucket").await;

    assert_eq!(status_of(world.client.consume(&tokens(&user, 60, Some("a"))).await), 200);
    assert_eq!(status_of(world.client.consume(&tokens(&user, 61, Some("a"))).await), 422);
    assert_eq!(status_of(world.client.consume(&tokens(&user, 50, Some("b"))).await), 429);
    // Nothing was kept of the denial: the same key may ask for less.
    let less = world.client.consume(&tokens(&user, 40, Some("b"))).await.unwrap();
    assert!(matches!(less, Decision::Allowed(_)));
}
