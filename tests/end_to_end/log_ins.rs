//! Log-ins through a router: where they came from, and how many may fail.

use crate::support::World;
use cellar_devstack::Cellctl;
use cellar_model::wire::SignUpBody;
use serde_json::{Value, json};

/// Goal: an address whose log-ins fail is refused by the front door, the same for an account and for nobody; what an
/// application passes on is not counted for its address.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_whose_log_ins_fail_is_refused_and_an_application_is_not() {
    let mut cellctl = Cellctl::new().unwrap();
    cellctl.environment("CELLAR_ROUTER__ADDRESS_FAILURES", "3");
    cellctl.environment("CELLAR_ROUTER__ADDRESS_FAILURE_FORGIVEN_S", "3600");
    cellctl.environment("CELLAR_CELL__ACCOUNT_FAILURE_FORGIVEN_S", "3600");
    cellctl.environment("CELLAR_ROUTER__TRUSTED_PROXIES", "[\"127.0.0.0/8\"]");
    cellctl.keep(&["up", "--regions", "1", "--cells", "1"]).unwrap();
    let world = World::of(cellctl);
    let sign_up = SignUpBody {
        email: "ada@example.org".into(),
        name: None,
        password: Some("correct horse".into()),
        tier: "pro".parse().unwrap(),
        region: None,
        user_id: None,
    };
    world.client.sign_up(&sign_up, Some("ada")).await.unwrap();
    let http = reqwest::Client::builder().no_proxy().user_agent("browser/1").build().unwrap();
    let url = format!("{}/v1/sessions", world.urls[0]);
    let log_in = |email: &str, password: &str, address: &str, key: Option<&str>| {
        let body = json!({"email": email, "password": password, "device": {"name": "phone", "platform": "ios"}});
        let request = http.post(&url).header("x-forwarded-for", format!("6.6.6.6, {address}")).json(&body);
        let request = match key {
            Some(key) => request.bearer_auth(key),
            None => request,
        };
        async move { request.send().await.unwrap() }
    };
    let good = log_in("ada@example.org", "correct horse", "192.0.2.1", None).await;
    assert_eq!(good.status(), 201);
    let logged_in: Value = good.json().await.unwrap();
    let token = logged_in["session_token"].as_str().unwrap();
    let listed: Value = http.get(&url).bearer_auth(token).send().await.unwrap().json().await.unwrap();
    let expected = json!({"name": "phone", "platform": "ios", "address": "192.0.2.1", "user_agent": "browser/1"});
    assert_eq!(listed["sessions"][0]["device"], expected);

    for (n, email) in ["ada@example.org", "nobody@example.org", "no address"].into_iter().enumerate() {
        let wrong = log_in(email, "battery staple", "192.0.2.2", None).await;
        assert_eq!(wrong.status(), 401, "{n}");
    }
    let refused = log_in("ada@example.org", "correct horse", "192.0.2.2", None).await;
    assert_eq!(refused.status(), 429);
    let wait: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=3_600).contains(&wait));
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["type"], "/problems/too-many-attempts");
    assert_eq!(log_in("ada@example.org", "correct horse", "192.0.2.1", None).await.status(), 201, "another address");
    let key = Some(world.service_key.as_str());
    assert_eq!(log_in("ada@example.org", "correct horse", "192.0.2.2", key).await.status(), 201);
    assert_eq!(log_in("ada@example.org", "correct horse", "192.0.2.2", Some("csk_x")).await.status(), 401);

    // Of an e-mail that nobody has the failures are counted by one cell, however often it is asked.
    let mut statuses = Vec::new();
    for _ in 0..25 {
        statuses.push(log_in("nobody@example.org", "battery staple", "192.0.2.9", key).await.status().as_u16());
    }
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 19, "{statuses:?}");
    assert_eq!(statuses.last(), Some(&429));
}
