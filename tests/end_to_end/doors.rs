//! Credentials and verdict-to-HTTP stand once: a router and a public cell answer the same.

use crate::support::{T0, World};
use serde_json::json;

/// Goal: the same questions get the same answers, byte for byte, with and without a router.
/// Method: a fresh stack of each kind, a fresh user in each, the same requests in the same virtual time.
#[tokio::test(flavor = "multi_thread")]
async fn a_router_and_a_public_cell_give_the_same_answers_byte_for_byte() {
    let worlds = [World::cell(), World::up(&["up", "--regions", "1", "--cells", "1", "--clock", "virtual"])];
    let mut answers = Vec::new();
    for world in &worlds {
        let user = world.user("same@example.org", "free").await;
        let http = reqwest::Client::new();
        let url = format!("{}/v1/internal/quota/consume", world.urls[0]);
        let mut given = Vec::new();
        for body in [
            json!({"user_id": user, "cost": 20_000, "at_us": T0}),
            json!({"user_id": user, "cost": 1, "at_us": T0}),
            json!({"user_id": user, "cost": {"apples": 1}, "at_us": T0}),
            json!({"user_id": user, "cost": 20_001, "at_us": T0}),
            json!({"user_id": "nobody", "cost": 1, "at_us": T0}),
            json!({"user_id": user, "cost": -1}),
        ] {
            let response = http.post(&url).bearer_auth(&world.service_key).body(body.to_string()).send().await.unwrap();
            let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
            let fields = ["content-type", "ratelimit", "ratelimit-policy", "retry-after", "x-should-retry"].map(header);
            given.push((response.status().as_u16(), fields, response.text().await.unwrap()));
        }
        answers.push(given);
    }
    assert_eq!(answers[0].iter().map(|answer| answer.0).collect::<Vec<_>>(), [200, 429, 422, 422, 404, 422]);
    assert_eq!(answers[0], answers[1]);
}
