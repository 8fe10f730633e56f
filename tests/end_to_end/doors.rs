//! Credentials and verdict-to-HTTP stand once: a router and a public cell answer the same.

use crate::support::{T0, World, sign_up_body};
use cellar_client::Credential;
use cellar_devstack::Stack;
use cellar_directory::{OpenDirectory, catalog};
use cellar_model::wire::{Device, LogInBody};
use cellar_model::{ApiKey, KeyDocument, KeyKind, KeyName, Scope, Secret, UserId};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// What of an answer is compared: its status, its headers but for times and connection, its body.
type Given = (u16, [Option<String>; 7], String);

const COMPARED: [&str; 7] = [
    "content-type",
    "ratelimit",
    "ratelimit-policy",
    "retry-after",
    "x-should-retry",
    "idempotency-replayed",
    "cellar-degraded",
];

async fn given(request: RequestBuilder) -> Given {
    let response = request.send().await.unwrap();
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    (response.status().as_u16(), COMPARED.map(header), response.text().await.unwrap())
}

/// A world with two users and a key that may ask about quotas, and nothing else.
struct Doors {
    world: World,
    quota_key: String,
    http: reqwest::Client,
}

impl Doors {
    async fn open(arguments: &[&str]) -> Doors {
        // Admissions of such a Redis say what they are worth: one more header to compare.
        let world = World::up(&[arguments, &["--clock", "virtual", "--fsync", "everysec"]].concat());
        let quota_key = put_quota_key(&world).await;
        // A catalog is read whole: where this tier is in force, so is the key.
        world.bucket_tier("bucket", 1_000).await;
        for (user, tier) in [("same", "free"), ("other", "bucket")] {
            let mut body = sign_up_body(&format!("{user}@example.org"), tier);
            body.user_id = Some(UserId::new(user).unwrap());
            world.client.sign_up(&body, None).await.unwrap();
        }
        let doors = Doors { world, quota_key, http: reqwest::Client::new() };
        // A router reads it in its own time.
        let until = Instant::now() + Duration::from_secs(20);
        while doors.quota(&doors.quota_key, Some("other")).await.0 == 401 {
            assert!(Instant::now() < until, "the key does not come into force");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        doors
    }

    async fn get(&self, path: &str, key: &str, user: Option<&str>) -> Given {
        let request = self.http.get(format!("{}{path}", self.world.urls[0])).bearer_auth(key);
        given(match user {
            Some(user) => request.header("cellar-user", user),
            None => request,
        })
        .await
    }

    /// What is left, in wall time: only that there is a `RateLimit` can be compared.
    async fn quota(&self, key: &str, user: Option<&str>) -> Given {
        let (status, mut headers, body) = self.get("/v1/user/quota", key, user).await;
        headers[1] = headers[1].take().map(|_| "in wall time".to_owned());
        (status, headers, body)
    }

    /// Admits of one session until it has been revoked, and after. What names the session is its own in each world.
    async fn admits(&self) -> Vec<Given> {
        let user_id = Some(UserId::new("other").unwrap());
        let log_in = LogInBody { email: None, password: None, user_id, device: Device::default() };
        let session = self.world.client.log_in(&log_in).await.unwrap();
        let token = session.session_token.as_str();
        let admit = async |key: &str, body: Value| {
            let url = format!("{}/v1/internal/admit", self.world.urls[0]);
            let request = self.http.post(url).bearer_auth(&self.world.service_key).header("idempotency-key", key);
            let (status, headers, body) = given(request.body(body.to_string())).await;
            (status, headers, body.replace(&session.session_id, "the session"))
        };
        let of = |token: &str, cost: Value| json!({"session_token": token, "cost": cost, "at_us": T0});
        let mut answers = vec![
            admit("a", of(token, json!(5))).await,
            admit("a", of(token, json!(5))).await,
            admit("a", of(token, json!(6))).await,
            admit("b", of(token, json!(993))).await,
            admit("b", of(token, json!(1_001))).await,
            admit("b", of("cst1.other.b.c.d", json!(1))).await,
            admit("b", json!({"cost": 1})).await,
            admit("b", json!({"user_id": "other", "session_token": token})).await,
            given(self.http.post(format!("{}/v1/internal/admit", self.world.urls[0])).bearer_auth(token).body("{}"))
                .await,
        ];
        let its_own = self.world.client.with_credential(Credential::new(session.session_token.clone()));
        its_own.revoke_session(&session.session_id).await.unwrap();
        answers.push(admit("a", of(token, json!(5))).await);
        answers
    }

    async fn post(&self, what: &str, idempotency_key: Option<&str>, body: Value) -> Given {
        let url = format!("{}/v1/internal/quota/{what}", self.world.urls[0]);
        let request = self.http.request(Method::POST, url).bearer_auth(&self.world.service_key).body(body.to_string());
        given(match idempotency_key {
            Some(key) => request.header("idempotency-key", key),
            None => request,
        })
        .await
    }
}

async fn put_quota_key(world: &World) -> String {
    let stack = Stack::open(world.cellctl.stack()).unwrap();
    let directory = OpenDirectory::connect(&Secret::new(stack.state().directory_url.clone()), 1).await.unwrap();
    let key = ApiKey::generate(KeyKind::Service, &mut rand::rng());
    let document = KeyDocument {
        name: KeyName::new("gateway").unwrap(),
        kind: KeyKind::Service,
        hash: key.hash(),
        scopes: vec![Scope::Quota],
        auto_enrol: None,
        previous: None,
        revoked: false,
    };
    catalog::put_key(&directory, &document).await.unwrap();
    key.reveal().to_owned()
}

/// Goal: the same questions get the same answers, byte for byte, with and without a router.
/// Method: a fresh stack of each kind, the same users in each, the same requests in the same virtual time.
#[tokio::test(flavor = "multi_thread")]
async fn a_router_and_a_public_cell_give_the_same_answers_byte_for_byte() {
    let mut answers = Vec::new();
    for kind in [&["cell", "up"][..], &["up", "--regions", "1", "--cells", "1"]] {
        let doors = Doors::open(kind).await;
        let consume = async |key: Option<&str>, cost: Value| {
            doors.post("consume", key, json!({"user_id": "same", "cost": cost, "at_us": T0})).await
        };
        let batch = json!({"checks": [
            {"user_id": "other", "cost": 3, "at_us": T0},
            {"user_id": "nobody", "cost": 1, "at_us": T0},
            {"user_id": "other", "cost": {"apples": 1}, "at_us": T0},
            {"user_id": "same", "cost": 1, "at_us": T0},
        ]});
        let key = &doors.quota_key;
        let mut given = vec![
            consume(Some("k"), json!(5)).await,
            consume(Some("k"), json!(5)).await,
            consume(Some("k"), json!(6)).await,
            consume(None, json!(19_995)).await,
            consume(None, json!(1)).await,
            consume(None, json!({"apples": 1})).await,
            consume(None, json!(20_001)).await,
            doors.post("consume", None, json!({"user_id": "nobody", "cost": 1, "at_us": T0})).await,
            doors.post("consume", None, json!({"user_id": "same", "cost": -1})).await,
            doors.post("batch", Some("b"), batch.clone()).await,
            doors.post("batch", Some("b"), batch).await,
            doors.quota(key, Some("other")).await,
            doors.quota(key, Some("nobody")).await,
            doors.quota(key, None).await,
            doors.get("/v1/user/profile", key, Some("other")).await,
            doors.quota("csk_junk", Some("other")).await,
        ];
        given.extend(doors.admits().await);
        answers.push(given);
    }
    let [cell, router] = [&answers[0], &answers[1]];
    for (n, (cell, router)) in cell.iter().zip(router).enumerate() {
        assert_eq!(cell, router, "request {n}");
    }
    let statuses: Vec<u16> = cell.iter().map(|answer| answer.0).collect();
    let (before, admits) = statuses.split_at(16);
    assert_eq!(before, [200, 200, 422, 200, 429, 422, 422, 404, 422, 200, 200, 200, 404, 422, 403, 401]);
    assert_eq!(admits, [200, 200, 422, 429, 422, 401, 422, 422, 403, 401]);
    let [admitted, again, denied, over] = [&cell[16], &cell[17], &cell[19], &cell[25]];
    assert_eq!((&admitted.1[5], again.1[5].as_deref(), &admitted.2), (&None, Some("true"), &again.2));
    let whose = r#""user_id":"other","session_id":"the session""#;
    assert!(admitted.2.starts_with(&format!(r#"{{"allowed":true,{whose}"#)), "{}", admitted.2);
    assert!(denied.2.contains(&format!(r#""allowed":false,{whose}"#)), "{}", denied.2);
    assert!(over.2.contains("/problems/invalid-session"), "{}", over.2);
    let [first, again] = [&cell[0], &cell[1]];
    assert_eq!((&first.1[5], again.1[5].as_deref(), &first.2), (&None, Some("true"), &again.2));
    assert_eq!(first.1[6].as_deref(), Some("unsafe-ack"));
    let results: Value = serde_json::from_str(&cell[10].2).unwrap();
    let statuses: Vec<&Value> = results["results"].as_array().unwrap().iter().map(|item| &item["status"]).collect();
    assert_eq!(statuses, [200, 404, 422, 429]);
}
