//! The same request twice is charged once and answered the same.

use crate::support::{World, status_of, tokens};
use cellar_client::Decision;
use futures::StreamExt;

/// Goal: 1,000 keys sent twice are charged once each, and both bodies are equal byte for byte.
/// Method: half of them at the same time, half one after the other; the bodies as they came.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_keys_sent_twice_are_charged_once_with_equal_bodies() {
    let world = World::cell();
    world.bucket_tier("bucket", 1_000_000).await;
    let user = world.user("keys@example.org", "bucket").await;
    let (http, url) = (reqwest::Client::new(), format!("{}/v1/internal/quota/consume", world.urls[0]));
    let send = async |n: u32| {
        let body = serde_json::to_string(&tokens(&user, 3, None).body).unwrap();
        let request = http.post(&url).bearer_auth(&world.service_key).header("idempotency-key", format!("\"key-{n}\""));
        let response = request.body(body).send().await.unwrap();
        let replayed = response.headers().contains_key("idempotency-replayed");
        assert_eq!(response.status(), 200, "key {n}");
        (response.bytes().await.unwrap(), replayed)
    };

    futures::stream::iter(0..1_000)
        .for_each_concurrent(32, async |n| {
            let (first, second) = if n % 2 == 0 {
                tokio::join!(send(n), send(n))
            } else {
                let first = send(n).await;
                (first, send(n).await)
            };
            assert_eq!(first.0, second.0, "key {n}");
            assert_eq!(u8::from(first.1) + u8::from(second.1), 1, "one of key {n}'s answers is the replay");
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
