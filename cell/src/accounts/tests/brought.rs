//! Users brought from elsewhere with their hashes.

use super::{World, by_key};
use cellar_model::UserId;
use cellar_model::wire::{Brought, BroughtUser, PlacedUser};
use http::StatusCode;
use serde_json::{Value, json};

/// bcrypt of "correct horse", at its least cost.
fn bcrypt_hash() -> String {
    bcrypt::hash("correct horse", 4).unwrap()
}

fn placed(id: &str, intent: &str, line: Value) -> PlacedUser {
    let user: BroughtUser = serde_json::from_value(line).unwrap();
    PlacedUser { user_id: UserId::new(id).unwrap(), intent: intent.to_owned(), user }
}

fn created(id: &str) -> Brought {
    Brought::Created { user_id: UserId::new(id).unwrap() }
}

/// Goal: what is brought is there, once; again it changes nothing; what cannot be is told line by line.
#[tokio::test(flavor = "multi_thread")]
async fn users_are_brought_once_and_each_that_cannot_be_is_told_why() {
    let world = World::start().await;
    world.user("eve").await;
    let ada = json!({"email": "ada@example.org", "name": "Ada", "tier": "pro", "password_hash": bcrypt_hash(),
                     "preferences": {"theme": "dark", "size": 3}});
    let lines = || {
        vec![
            placed("eu_ada", "a1", ada.clone()),
            placed("eu_b", "a2", json!({"email": "eve@example.org", "tier": "pro"})),
            placed("eu_c", "a3", json!({"email": "c@example.org", "tier": "gold"})),
            placed("eu_d", "a4", json!({"email": "d@example.org", "tier": "pro", "password_hash": "secret"})),
            placed("eve", "a5", json!({"email": "e@example.org", "tier": "pro"})),
            placed("eu_f", "a6", json!({"email": "f@example.org", "tier": "pro", "preferences": {"": 1}})),
            placed("eu_g", "a7", json!({"email": "g@example.org", "tier": "pro"})),
        ]
    };
    let first = world.accounts.bring_all(lines()).await;
    assert_eq!((&first[0], &first[6]), (&created("eu_ada"), &created("eu_g")));
    let conflict = |problem: &str| Brought::Conflict { problem: problem.to_owned() };
    assert_eq!((&first[1], &first[4]), (&conflict("email-taken"), &conflict("conflict")));
    for (n, at) in [(2, "/tier"), (3, "/password_hash"), (5, "")] {
        assert!(matches!(&first[n], Brought::Invalid { pointer, .. } if pointer == at), "{:?}", first[n]);
    }
    let again = world.accounts.bring_all(lines()).await;
    assert_eq!(again[0], Brought::Unchanged { user_id: UserId::new("eu_ada").unwrap() });
    assert_eq!(again[1..6], first[1..6]);
    let profile = world.ask("GET", "/v1/user/profile", &by_key("eu_ada"), Value::Null).await.body;
    assert_eq!((&profile["name"], &profile["email"]), (&json!("Ada"), &json!("ada@example.org")));
    assert_eq!(profile["preferences"], json!({"theme": "dark", "size": 3}));
}

/// Goal: the password of a hash that was brought opens the account, at once for several, and the hash is ours then.
#[tokio::test(flavor = "multi_thread")]
async fn a_hash_that_was_brought_is_replaced_at_the_first_log_in() {
    let world = World::start().await;
    let line = json!({"email": "ada@example.org", "tier": "pro", "password_hash": bcrypt_hash()});
    assert_eq!(world.accounts.bring_all(vec![placed("ada", "b1", line)]).await, [created("ada")]);
    let hash = || async {
        let row: (String,) = sqlx::query_as("select password_hash from users").fetch_one(&world.pool).await.unwrap();
        row.0
    };
    let log_in = |password: &'static str| {
        world.ask("POST", "/v1/sessions", &[], json!({"email": "ada@example.org", "password": password}))
    };
    assert_eq!(log_in("battery staple").await.status, StatusCode::UNAUTHORIZED);
    assert!(hash().await.starts_with("$2b$04$"));
    for reply in futures::future::join_all((0..4).map(|_| log_in("correct horse"))).await {
        assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.body);
    }
    assert!(hash().await.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
    assert_eq!(log_in("correct horse").await.status, StatusCode::CREATED);
    assert_eq!(log_in("battery staple").await.status, StatusCode::UNAUTHORIZED);
}
