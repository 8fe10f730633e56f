//! First sights of foreign ids, under keys that enrol and keys that do not.

use crate::support::{T0, World};
use cellar_devstack::Stack;
use cellar_directory::{OpenDirectory, catalog};
use cellar_model::{ApiKey, KeyDocument, KeyKind, KeyName, Scope, Secret, UserId};
use futures::future::join_all;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// A service key with both scopes, written into the directory.
async fn put_key(directory: &OpenDirectory, name: &str, auto_enrol: Option<&str>) -> String {
    let key = ApiKey::generate(KeyKind::Service, &mut rand::rng());
    let document = KeyDocument {
        name: KeyName::new(name).unwrap(),
        kind: KeyKind::Service,
        hash: key.hash(),
        scopes: vec![Scope::Quota, Scope::Users],
        auto_enrol: auto_enrol.map(|tier| tier.parse().unwrap()),
        previous: None,
        revoked: false,
    };
    catalog::put_key(directory, &document).await.unwrap();
    key.reveal().to_owned()
}

struct Sights {
    world: World,
    http: reqwest::Client,
}

impl Sights {
    /// Status and body of a check of one token.
    async fn consume(&self, key: &str, user: &str) -> (u16, Value) {
        let url = format!("{}/v1/internal/quota/consume", self.world.urls[0]);
        let body = json!({"user_id": user, "cost": {"requests": 0, "tokens": 1}, "at_us": T0});
        let request = self.http.post(url).bearer_auth(key).header("cellar-deadline-ms", "5000").body(body.to_string());
        let response = request.send().await.unwrap();
        (response.status().as_u16(), serde_json::from_str(&response.text().await.unwrap()).unwrap())
    }

    /// Waits until a key's check of `user` has this status: routers and cells read the catalog in their own time.
    async fn until(&self, status: u16, key: &str, user: &str) -> Value {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            let (seen, body) = self.consume(key, user).await;
            if seen == status {
                return body;
            }
            assert!(Instant::now() < until, "{user}: {seen} {body}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Goal: an id that nobody has seen is one user, whoever asks first, and only under a key that says so.
/// Method: 50 checks at once for each of two ids, of which a tier admits 30; then every book is compared.
#[tokio::test(flavor = "multi_thread")]
async fn first_sights_at_once_are_one_user_and_only_under_a_key_that_enrols() {
    let world = World::up(&["up", "--regions", "1", "--cells", "2", "--clock", "virtual"]);
    let stack = Stack::open(world.cellctl.stack()).unwrap();
    let directory = OpenDirectory::connect(&Secret::new(stack.state().directory_url.clone()), 1).await.unwrap();
    let enrols = put_key(&directory, "gateway", Some("bucket")).await;
    let other = put_key(&directory, "mobile", Some("bucket")).await;
    let strict = put_key(&directory, "strict", None).await;
    let odd = put_key(&directory, "odd", Some("gold")).await;
    world.bucket_tier("bucket", 30).await;
    let sights = Sights { world, http: reqwest::Client::new() };
    // Enough ids to meet both cells.
    for n in 0..8 {
        sights.until(200, &enrols, &format!("probe-{n}")).await;
    }

    // One key's, and two keys' that meet.
    for (user, keys) in [("acme-1", [&enrols, &enrols]), ("acme-2", [&enrols, &other])] {
        let answers = join_all((0..50).map(|n| sights.consume(keys[n % 2], user))).await;
        let of = |status: u16| answers.iter().filter(|(seen, _)| *seen == status).count();
        if keys[0] == keys[1] {
            assert_eq!((of(200), of(429)), (30, 20), "{answers:?}");
        } else {
            // Two sign-ups of one id may end in "unknown" for a few, and never in a second user.
            assert_eq!(of(200) + of(429) + of(503), 50, "{answers:?}");
        }
        sights.until(429, &other, user).await;
        let home = sights.world.cellctl.ok(&["user", "where", user, "--json"]).unwrap();
        let home: Value = serde_json::from_str(&home).unwrap();
        let user = user.parse::<UserId>().unwrap();
        assert_eq!(sights.world.books(home["cell"].as_str(), &user, "tokens").await, (30, 30, 30));
    }

    assert_eq!(sights.consume(&strict, "acme-3").await.0, 404);
    assert_eq!(sights.consume(&strict, "acme-1").await.0, 429);
    let (status, problem) = sights.consume(&odd, "acme-3").await;
    assert_eq!((status, &problem["type"]), (422, &json!("/problems/unknown-tier")));
    assert!(problem["detail"].as_str().unwrap().contains("there is no tier gold"), "{problem}");

    // A read may be the first sight as well.
    let profile = format!("{}/v1/user/profile", sights.world.urls[0]);
    let profile = sights.http.get(profile).bearer_auth(&enrols).header("cellar-user", "acme-4");
    let profile: Value = serde_json::from_str(&profile.send().await.unwrap().text().await.unwrap()).unwrap();
    assert_eq!(
        (&profile["user_id"], &profile["email"], &profile["tier"]),
        (&json!("acme-4"), &Value::Null, &json!("bucket"))
    );

    let listed = sights.world.cellctl.ok(&["user", "list"]).unwrap();
    for (user, times) in [("acme-1", 1), ("acme-2", 1), ("acme-3", 0), ("acme-4", 1)] {
        assert_eq!(listed.matches(user).count(), times, "{listed}");
    }
    let audit: Value = serde_json::from_str(&sights.world.cellctl.ok(&["audit", "--json"]).unwrap()).unwrap();
    assert_eq!(audit["mismatches"], json!([]), "{audit}");
    let audit = sights.world.cellctl.ok(&["directory", "audit", "--json"]).unwrap();
    let audit: Value = serde_json::from_str(&audit).unwrap();
    assert_eq!((&audit["disagreements"], &audit["under_way"]), (&json!([]), &json!([])), "{audit}");
}
