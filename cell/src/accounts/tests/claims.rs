//! Claims left half way, and changes of e-mail.

use super::super::claims::Settled;
use super::super::email::NewEmail;
use super::{World, by_key, hash};
use cellar_directory::{Claim, ClaimState, Claims, Email, HomeState, Homes, Intent, Op, UserHome};
use cellar_model::{CellName, Epoch, UserId, header};
use http::StatusCode;
use serde_json::json;

/// A claim that a request left behind, as it would have written it.
async fn left_behind(world: &World, user: &str, email: &str, intent: &str) -> Claim {
    let claim = Claim {
        email: hash(b'a', email),
        user: UserId::new(user).unwrap(),
        cell: CellName::new("eu-1").unwrap(),
        intent: Intent::new(intent).unwrap(),
        state: ClaimState::Creating,
        op: Op::random(),
    };
    assert!(world.directory.create_claim(&claim).await.unwrap().is_applied());
    claim
}

async fn claim_of(world: &World, email: &str) -> Option<Claim> {
    world.directory.read_claim_serially(&hash(b'a', email)).await.unwrap()
}

/// A home that a sign-up left behind.
pub(super) async fn home_left_behind(world: &World, user: &str, cell: &str, intent: &str) {
    let home = UserHome {
        user: UserId::new(user).unwrap(),
        home: CellName::new(cell).unwrap(),
        epoch: Epoch(1),
        state: HomeState::Creating { intent: Intent::new(intent).unwrap() },
    };
    assert!(world.directory.create_home(&home).await.unwrap().is_applied());
}

fn keyed<'k>(user: &'k str, key: &'k str) -> [(&'k str, &'k str); 3] {
    [(header::CALLER, "gateway"), (header::USER, user), (header::IDEMPOTENCY_KEY, key)]
}

#[tokio::test(flavor = "multi_thread")]
async fn another_email_is_taken_the_old_one_is_free_and_sessions_stay() {
    let world = World::start().await;
    world.user("ada").await;
    world.user("bob").await;
    let session = world.session("ada").await;
    let change = |key: &'static str, email: &'static str| {
        let world = &world;
        async move { world.ask("PATCH", "/v1/user/profile", &keyed("ada", key), json!({"email": email})).await }
    };
    let changed = change("k1", "New@example.org").await;
    assert_eq!((changed.status, &changed.body["email"]), (StatusCode::OK, &json!("New@example.org")));
    assert_eq!(world.profile_status(&session).await, StatusCode::OK);
    assert_eq!(claim_of(&world, "ada@example.org").await, None);
    assert_eq!(claim_of(&world, "new@example.org").await.unwrap().state, ClaimState::Held);

    // A repeat is the same change; the key is of that change only; another's address stays another's.
    assert_eq!(change("k1", "new@example.org").await.status, StatusCode::OK);
    assert_eq!(change("k1", "third@example.org").await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(claim_of(&world, "third@example.org").await, None);
    assert_eq!(change("k2", "bob@example.org").await.status, StatusCode::CONFLICT);
    assert_eq!(change("k3", "not an address").await.status, StatusCode::UNPROCESSABLE_ENTITY);
    let gone = world.ask("PATCH", "/v1/user/profile", &by_key("ada"), json!({"email": null})).await;
    assert_eq!(gone.status, StatusCode::UNPROCESSABLE_ENTITY);

    // Back again, and the first key's late repeat changes nothing.
    assert_eq!(change("k4", "ada@example.org").await.status, StatusCode::OK);
    let late = change("k1", "new@example.org").await;
    assert_eq!((late.status, &late.body["email"]), (StatusCode::OK, &json!("ada@example.org")));
    assert_eq!(claim_of(&world, "new@example.org").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_email_that_is_refused_leaves_the_address_free() {
    let world = World::start().await;
    world.user("ada").await;
    let stale = [by_key("ada")[0], by_key("ada")[1], ("if-match", "\"7-7\"")];
    let refused = world.ask("PATCH", "/v1/user/profile", &stale, json!({"email": "new@example.org"})).await;
    assert_eq!(refused.status, StatusCode::PRECONDITION_FAILED);
    // Found by the row only: the profile was read before.
    let late = NewEmail {
        email: Email::parse("new@example.org").unwrap(),
        name: None,
        expected: Some(7),
        intent: Intent::new("ee01").unwrap(),
    };
    assert!(world.accounts.change_email(&UserId::new("ada").unwrap(), late).await.is_err());
    assert_eq!(claim_of(&world, "new@example.org").await, None);
    assert_eq!(claim_of(&world, "ada@example.org").await.unwrap().state, ClaimState::Held);
}

/// Goal: whatever a request left behind, one look at the rows settles it.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_left_half_way_is_held_or_freed_by_the_rows_of_its_cell() {
    let world = World::start().await;
    // Never committed: refused for good, and free.
    let claim = left_behind(&world, "ada", "ada@example.org", "aa01").await;
    assert_eq!(world.accounts.settle(&claim).await.unwrap(), Settled::Freed);
    assert_eq!(claim_of(&world, "ada@example.org").await, None);
    let body = || json!({"email": "ada@example.org", "tier": "pro"});
    assert_eq!(world.sign_up("ada", "aa01", body()).await.status, StatusCode::CONFLICT);
    assert_eq!(world.sign_up("ada", "aa02", body()).await.status, StatusCode::CREATED);

    // Committed, and stopped before home and claim were confirmed: both are.
    let held = claim_of(&world, "ada@example.org").await.unwrap();
    let creating = Claim { state: ClaimState::Creating, op: Op::random(), ..held.clone() };
    assert!(world.directory.change_claim(&held.op, &creating).await.unwrap().is_applied());
    assert_eq!(world.accounts.settle(&creating).await.unwrap(), Settled::Held);
    assert_eq!(claim_of(&world, "ada@example.org").await.unwrap().state, ClaimState::Held);

    // By the same intent, for the same user, and for another e-mail: no account has that.
    let other = left_behind(&world, "ada", "other@example.org", "aa02").await;
    assert_eq!(world.accounts.settle(&other).await.unwrap(), Settled::Freed);

    // Another cell's.
    let elsewhere = Claim { cell: CellName::new("eu-2").unwrap(), ..creating };
    assert_eq!(world.accounts.settle(&elsewhere).await.unwrap(), Settled::Left);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_left_half_way_is_taken_over_and_its_intent_refused() {
    let world = World::start().await;
    home_left_behind(&world, "ada", "eu-1", "dd01").await;
    let body = || json!({"email": "ada@example.org", "tier": "pro"});
    assert_eq!(world.sign_up("ada", "dd02", body()).await.status, StatusCode::CREATED);
    let home = world.directory.read_home_serially(&UserId::new("ada").unwrap()).await.unwrap().unwrap();
    assert_eq!(home.state, HomeState::Active);
    let first = world.sign_up("ada", "dd01", json!({"email": "late@example.org", "tier": "pro"})).await;
    assert_eq!(first.status, StatusCode::CONFLICT);
    assert_eq!(claim_of(&world, "late@example.org").await, None);

    // Of another cell's intent only that cell can say what became of it, and there is none of this name.
    home_left_behind(&world, "bob", "eu-2", "dd03").await;
    let bob = world.sign_up("bob", "dd04", json!({"email": "bob@example.org", "tier": "pro"})).await;
    assert_eq!(bob.status, StatusCode::SERVICE_UNAVAILABLE, "{}", bob.body);
}

/// Goal: a release that could not be made with its change is made later, as often as it takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_release_due_is_made_later_and_of_its_own_claim_only() {
    let world = World::start().await;
    world.user("ada").await;
    let hash = hash(b'a', "ada@example.org");
    let due = |intent: String| {
        sqlx::query("insert into releases (place, pepper, value_hash, intent, user_id) values (0, $1, $2, $3, 'ada')")
            .bind(hash.pepper.to_string())
            .bind(hash.hash.to_vec())
            .bind(intent)
            .execute(&world.pool)
    };
    // Of an intent by which nobody holds it any more.
    due("ff01".into()).await.unwrap();
    assert_eq!(world.accounts.release_all().await.unwrap(), 1);
    assert!(claim_of(&world, "ada@example.org").await.is_some());
    due(hex::encode("ada")).await.unwrap();
    assert_eq!(world.accounts.release_of(&UserId::new("ada").unwrap()).await.unwrap(), 1);
    assert_eq!(claim_of(&world, "ada@example.org").await, None);
    assert_eq!(world.accounts.release_all().await.unwrap(), 0);
}
