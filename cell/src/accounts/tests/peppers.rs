//! One pepper after the other, with processes of the cell that have the present one, both, or the next.

use super::super::backfill::Backfill;
use super::super::claims::Settled;
use super::{World, by_key, hash};
use cellar_directory::{Claim, ClaimState, Claims, Decided, Intent, Op};
use cellar_model::{CellName, UserId, header};
use http::StatusCode;
use serde_json::{Value, json};

async fn claim_under(world: &World, pepper: u8, email: &str) -> Option<Claim> {
    world.directory.read_claim_serially(&hash(pepper, email)).await.unwrap()
}

/// A claim that an attempt of another process has left.
async fn left(world: &World, pepper: u8, email: &str, user: &str, cell: &str, intent: &str) -> Claim {
    let claim = Claim {
        email: hash(pepper, email),
        user: UserId::new(user).unwrap(),
        cell: CellName::new(cell).unwrap(),
        intent: Intent::new(intent).unwrap(),
        state: ClaimState::Creating,
        op: Op::random(),
    };
    assert!(world.directory.create_claim(&claim).await.unwrap().is_applied());
    claim
}

fn body(email: &str) -> Value {
    json!({"email": email, "password": "correct horse", "tier": "pro"})
}

async fn change(world: &World, user: &str, key: &str, email: &str) -> StatusCode {
    let headers = [(header::CALLER, "gateway"), (header::USER, user), (header::IDEMPOTENCY_KEY, key)];
    world.ask("PATCH", "/v1/user/profile", &headers, json!({"email": email})).await.status
}

async fn held(world: &World, pepper: u8, email: &str) -> Option<UserId> {
    let claim = claim_under(world, pepper, email).await?;
    assert_eq!(claim.state, ClaimState::Held);
    Some(claim.user)
}

fn user(id: &str) -> Option<UserId> {
    Some(UserId::new(id).unwrap())
}

/// Goal: an e-mail is one user's and a repeat gets its first answer, whichever processes are asked.
#[tokio::test(flavor = "multi_thread")]
async fn processes_of_neighbouring_sets_find_each_others_users_and_answers() {
    let old = World::start().await;
    let (both, new) = (old.beside(b"ab"), old.beside(b"b"));
    assert_eq!(old.sign_up("ada", "a1", body("ada@example.org")).await.status, StatusCode::CREATED);
    assert_eq!(both.sign_up("eve", "e1", body("Ada@example.org")).await.body["type"], "/problems/email-taken");
    // A repeat with another draw makes up for the claim that its first attempt did not know of.
    let again = both.sign_up("other", "a1", body("ada@example.org")).await;
    assert_eq!((again.status, &again.body["user_id"]), (StatusCode::CREATED, &json!("ada")));
    assert_eq!(held(&both, b'b', "ada@example.org").await, user("ada"));

    assert_eq!(both.sign_up("bob", "b1", body("bob@example.org")).await.status, StatusCode::CREATED);
    for (process, intent) in [(&old, "e2"), (&new, "e3")] {
        assert_eq!(process.sign_up("eve", intent, body("bob@example.org")).await.status, StatusCode::CONFLICT);
        let again = process.sign_up("other", "b1", body("bob@example.org")).await;
        assert_eq!((again.status, &again.body["user_id"]), (StatusCode::CREATED, &json!("bob")));
    }
    assert_eq!(new.sign_up("cy", "c1", body("cy@example.org")).await.status, StatusCode::CREATED);
    let again = both.sign_up("other", "c1", body("cy@example.org")).await;
    assert_eq!((again.status, &again.body["user_id"]), (StatusCode::CREATED, &json!("cy")));
    for email in ["ada@example.org", "bob@example.org", "cy@example.org"] {
        let device = json!({"name": "laptop", "platform": "linux"});
        let log_in = json!({"email": email, "password": "correct horse", "device": device});
        assert_eq!(both.ask("POST", "/v1/sessions", &[], log_in).await.status, StatusCode::CREATED, "{email}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_email_taken_under_the_next_pepper_frees_the_first_after_its_intent_is_refused() {
    let old = World::start().await;
    let (both, new) = (old.beside(b"ab"), old.beside(b"b"));
    assert_eq!(new.sign_up("ada", "a1", body("ada@example.org")).await.status, StatusCode::CREATED);
    assert_eq!(both.sign_up("bob", "b1", body("ada@example.org")).await.body["type"], "/problems/email-taken");
    assert_eq!(claim_under(&both, b'a', "ada@example.org").await, None);
    let refused = both.accounts.decision_of(&Intent::new("b1").unwrap()).await.unwrap();
    assert_eq!(refused, Some(Decided::Refused));
    // Somebody whom the next pepper does not stop is under way with the first: the answer is kept all the same.
    left(&both, b'a', "ada@example.org", "eve", "eu-1", "e1").await;
    let again = both.sign_up("other", "a1", body("ada@example.org")).await;
    assert_eq!((again.status, &again.body["user_id"]), (StatusCode::CREATED, &json!("ada")));

    // A change of e-mail does the same.
    assert_eq!(both.sign_up("cy", "c1", body("cy@example.org")).await.status, StatusCode::CREATED);
    assert_eq!(new.sign_up("dan", "d1", body("dan@example.org")).await.status, StatusCode::CREATED);
    assert_eq!(change(&both, "cy", "k", "dan@example.org").await, StatusCode::CONFLICT);
    assert_eq!(claim_under(&both, b'a', "dan@example.org").await, None);
    assert_eq!(held(&both, b'b', "dan@example.org").await, user("dan"));
}

/// Goal: claims of one intent end up with one user and cell, those of the last pepper's.
#[tokio::test(flavor = "multi_thread")]
async fn claims_of_one_intent_that_disagree_follow_the_last_peppers() {
    let both = World::start().await.beside(b"ab");
    // Within the cell.
    left(&both, b'b', "ada@example.org", "ada", "eu-1", "a1").await;
    let made = both.sign_up("draw", "a1", body("ada@example.org")).await;
    assert_eq!((made.status, &made.body["user_id"]), (StatusCode::CREATED, &json!("ada")));
    for pepper in *b"ab" {
        assert_eq!(held(&both, pepper, "ada@example.org").await, user("ada"));
    }
    // Another cell's: this one refuses the intent, and only then lets the first claim go there.
    left(&both, b'b', "bob@example.org", "bob", "us-1", "b1").await;
    let sent = both.sign_up("draw", "b1", body("bob@example.org")).await;
    assert_eq!(sent.status, StatusCode::MISDIRECTED_REQUEST);
    assert_eq!(sent.headers[header::HOME], "us-1; epoch=1");
    let first = claim_under(&both, b'a', "bob@example.org").await.unwrap();
    assert_eq!((first.user.as_str(), first.cell.as_str(), first.state), ("bob", "us-1", ClaimState::Creating));
    let refused = both.accounts.decision_of(&Intent::new("b1").unwrap()).await.unwrap();
    assert_eq!(refused, Some(Decided::Refused));
    // One that has been committed here already stays here, and a late claim that names another cell is nothing.
    assert_eq!(both.beside(b"a").sign_up("cy", "c1", body("cy@example.org")).await.status, StatusCode::CREATED);
    left(&both, b'b', "cy@example.org", "draw", "us-1", "c1").await;
    let again = both.sign_up("cy", "c1", body("cy@example.org")).await;
    assert_eq!((again.status, &again.body["user_id"]), (StatusCode::CREATED, &json!("cy")));
    assert_eq!(held(&both, b'a', "cy@example.org").await, user("cy"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_email_claims_and_releases_under_both() {
    let both = World::start().await.beside(b"ab");
    both.user("ada").await;
    assert_eq!(change(&both, "ada", "k1", "new@example.org").await, StatusCode::OK);
    assert_eq!(change(&both, "ada", "k1", "new@example.org").await, StatusCode::OK);
    for pepper in *b"ab" {
        assert_eq!(claim_under(&both, pepper, "ada@example.org").await, None);
        assert_eq!(held(&both, pepper, "new@example.org").await, user("ada"));
    }
    both.user("ada2").await;
    assert_eq!(change(&both, "ada", "k2", "ada@example.org").await, StatusCode::OK);
}

/// Goal: after a pass everyone with an e-mail is found by a process that has the next pepper only.
#[tokio::test(flavor = "multi_thread")]
async fn a_pass_gives_everyone_a_claim_under_the_next_pepper_and_then_the_first_may_go() {
    let old = World::start().await;
    // More than one page of them.
    for n in 0..70 {
        old.user(&format!("u{n}")).await;
    }
    let (both, new) = (old.beside(b"ab"), old.beside(b"b"));
    // What a sign-up under the next pepper has left stands in one's way until it is settled.
    let stray = left(&both, b'b', "u7@example.org", "eve", "eu-1", "e1").await;
    let pass = || async {
        let (mut backfill, mut pages) = (Backfill::default(), 1);
        both.accounts.backfill(&mut backfill).await.unwrap();
        while !backfill.rests() {
            both.accounts.backfill(&mut backfill).await.unwrap();
            pages += 1;
        }
        pages
    };
    assert_eq!(pass().await, 2);
    assert_eq!(claim_under(&both, b'b', "u7@example.org").await.unwrap(), stray);
    assert_eq!(both.accounts.settle(&stray).await.unwrap(), Settled::Freed);
    pass().await;
    for n in 0..70 {
        assert_eq!(held(&both, b'b', &format!("u{n}@example.org")).await, user(&format!("u{n}")));
    }
    assert_eq!(new.sign_up("eve", "e2", body("u7@example.org")).await.status, StatusCode::CONFLICT);
    // A key that was used before the next pepper was known, and the pepper it was kept under is gone.
    let again = new.sign_up("u7", &hex::encode("u7"), body("u7@example.org")).await;
    assert_eq!((again.status, &again.body["user_id"]), (StatusCode::CREATED, &json!("u7")));
}

/// Goal: what a process that lacks the next pepper cannot release is freed by one that has it.
#[tokio::test(flavor = "multi_thread")]
async fn a_held_claim_of_who_has_left_is_freed_and_a_pepper_that_is_not_known_left_alone() {
    let old = World::start().await;
    let both = old.beside(b"ab");
    both.user("ada").await;
    both.user("bob").await;
    assert_eq!(change(&old, "ada", "k", "new@example.org").await, StatusCode::OK);
    let stale = claim_under(&both, b'b', "ada@example.org").await.unwrap();
    let page = [stale.clone(), claim_under(&both, b'b', "bob@example.org").await.unwrap()];
    assert_eq!(both.accounts.held_and_left(&page).await.unwrap(), [&stale]);
    assert_eq!(old.accounts.held_and_left(&page).await.unwrap(), [&stale; 0]);
    assert_eq!(old.accounts.settle(&stale).await.unwrap(), Settled::Left);
    assert_eq!(both.accounts.settle(&page[1]).await.unwrap(), Settled::Left);
    assert_eq!(both.accounts.settle(&stale).await.unwrap(), Settled::Freed);
    assert_eq!(claim_under(&both, b'b', "ada@example.org").await, None);
    assert_eq!(both.sign_up("eve", "e1", body("ada@example.org")).await.status, StatusCode::CREATED);

    let unknown = left(&both, b'b', "open@example.org", "cy", "eu-1", "c1").await;
    assert_eq!(old.accounts.settle(&unknown).await.unwrap(), Settled::Left);
    assert_eq!(old.accounts.decision_of(&unknown.intent).await.unwrap(), None);
    let person = both.ask("GET", "/v1/user/profile", &by_key("bob"), Value::Null).await;
    assert_eq!(person.status, StatusCode::OK);
}
