//! Exactly the limit, however many ask at once.

use crate::support::{World, known, sign_up_body, tokens};
use futures::future::join_all;

/// Goal: a monthly bucket of N admits exactly N, and N stand in the ledger.
/// Method: 64 clients race over one user, each asking until it is denied.
#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_clients_racing_over_a_bucket_of_a_thousand_get_a_thousand() {
    let world = World::cell();
    world.bucket_tier("bucket", 1_000).await;
    let user = world.user("race@example.org", "bucket").await;

    let racers = (0..64).map(|_| async {
        let mut admitted = 0u64;
        while known(&world.client, &tokens(&user, 1, None)).await.is_allowed() {
            admitted += 1;
        }
        admitted
    });
    let admitted: u64 = join_all(racers).await.into_iter().sum();

    assert_eq!(admitted, 1_000);
    assert_eq!(world.books(None, &user, "tokens").await, (1_000, 1_000, 1_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_answered_in_order_over_the_cells_of_both_regions() {
    let world = World::two_regions();
    let mut users = Vec::new();
    for n in 0..8 {
        let mut body = sign_up_body(&format!("batch-{n}@example.org"), "free");
        body.region = Some(if n % 2 == 0 { "eu" } else { "us" }.parse().unwrap());
        users.push(world.client.sign_up(&body, None).await.unwrap().user_id);
    }
    let checks = users.iter().map(|user| tokens(user, 10, None).body).collect();
    let results = world.client.consume_batch(checks).await.unwrap();
    assert_eq!(results.len(), 8);
    assert!(results.iter().all(|item| item.as_ref().is_ok_and(cellar_client::Decision::is_allowed)));
    assert_eq!(world.books(Some("eu-1"), &users[0], "tokens").await, (10, 10, 10));
    assert_eq!(world.books(Some("us-1"), &users[1], "tokens").await, (10, 10, 10));
}
