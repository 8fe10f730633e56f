//! Enrolments: made once, finished by whoever comes next, and no worse than other users afterwards.

use super::{KEY, Reply, World};
use crate::accounts::asked::Asked;
use crate::accounts::sign_up::NewUser;
use cellar_directory::{HomeState, Homes, Intent, Opened, Opening};
use cellar_model::{CellName, Epoch, UserId, header};
use futures::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};

impl World {
    async fn enrol(&self, user: &str, intent: &str, tier: &str) -> Reply {
        let placed = json!({"user_id": user, "intent": intent, "tier": tier});
        self.ask("POST", "/cell/v1/enrolments", &KEY, placed).await
    }

    async fn home_state(&self, user: &str) -> Option<HomeState> {
        let home = self.directory.read_home(&UserId::new(user).unwrap()).await.unwrap();
        home.map(|home| home.state)
    }

    async fn openings(&self) -> i64 {
        sqlx::query_scalar("select count(*) from openings").fetch_one(&self.pool).await.unwrap()
    }

    fn opening(&self, user: &str, intent: &str) -> Opening {
        Opening {
            user: UserId::new(user).unwrap(),
            cell: CellName::new("eu-1").unwrap(),
            intent: Intent::new(intent).unwrap(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn first_sights_of_one_id_make_one_user_who_is_anybody_s_equal() {
    let world = World::start().await;
    // Three by one key, three by another.
    let sights = (0..6).map(|n| world.enrol("ada", if n < 3 { "aa" } else { "bb" }, "pro"));
    let statuses: Vec<_> = join_all(sights).await.iter().map(|reply| reply.status).collect();
    assert!(statuses.contains(&StatusCode::CREATED), "{statuses:?}");
    // Two keys that refuse each other's intents may end in "try again"; none in anything worse.
    let fine = [StatusCode::CREATED, StatusCode::CONFLICT, StatusCode::SERVICE_UNAVAILABLE];
    assert!(statuses.iter().all(|status| fine.contains(status)), "{statuses:?}");
    assert_eq!(world.enrol("ada", "aa", "pro").await.status, StatusCode::CONFLICT);
    assert_eq!(world.home_state("ada").await, Some(HomeState::Active));
    let users: i64 = sqlx::query_scalar("select count(*) from users").fetch_one(&world.pool).await.unwrap();
    assert_eq!((users, world.openings().await), (1, 0));

    let key = [(header::CALLER, "gateway"), (header::USER, "ada")];
    let profile = world.ask("GET", "/v1/user/profile", &key, Value::Null).await;
    assert_eq!((&profile.body["email"], &profile.body["tier"]), (&Value::Null, &json!("pro")));
    // From the cache the second time.
    let profile = world.ask("GET", "/v1/user/profile", &key, Value::Null).await;
    assert_eq!(profile.body["email"], Value::Null);
    world.session("ada").await;
    let log_in = json!({"email": "ada@example.org", "password": "correct horse"});
    assert_eq!(world.ask("POST", "/v1/sessions", &[], log_in).await.status, StatusCode::UNAUTHORIZED);

    // An e-mail said later is claimed like any other, and leaves none.
    let said = json!({"email": "ada@example.org"});
    let profile = world.ask("PATCH", "/v1/user/profile", &key, said).await;
    assert_eq!(profile.body["email"], "ada@example.org", "{}", profile.body);
    let again = json!({"email": "ada@example.org", "tier": "pro"});
    assert_eq!(world.sign_up("bob", "cc", again).await.status, StatusCode::CONFLICT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tier_that_is_not_there_leaves_no_trace() {
    let world = World::start().await;
    let reply = world.enrol("ada", "aa", "gold").await;
    assert_eq!(reply.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(reply.body["type"], "/problems/unknown-tier");
    assert_eq!(world.home_state("ada").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enrolment_that_stopped_before_its_commit_goes_on_at_the_next_first_sight() {
    let world = World::start().await;
    world.opening("ada", "aa").open(&world.directory).await.unwrap();
    assert_eq!(world.enrol("ada", "aa", "pro").await.status, StatusCode::CREATED);
    assert_eq!(world.home_state("ada").await, Some(HomeState::Active));

    // Also if another key saw it first, and if its own intent has been refused meanwhile.
    world.opening("bob", "cc").open(&world.directory).await.unwrap();
    let (intent, bob) = (Intent::new("bb").unwrap(), UserId::new("bob").unwrap());
    world.accounts.refuse_or_tell(&intent, &bob).await.unwrap();
    assert_eq!(world.enrol("bob", "bb", "pro").await.status, StatusCode::CREATED);
    assert_eq!(world.home_state("bob").await, Some(HomeState::Active));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committed_enrolment_that_stopped_is_confirmed_behind_it() {
    let world = World::start().await;
    let opening = world.opening("ada", "aa");
    let opened = opening.open(&world.directory).await.unwrap();
    assert_eq!(opened, Opened::Creating { epoch: Epoch(1) });
    let new =
        NewUser { email: None, name: None, password_hash: None, tier: "pro".parse().unwrap(), preferences: Vec::new() };
    world.accounts.commit(&opening, Epoch(1), &new, &Asked::of_the_intent()).await.unwrap();
    assert_eq!(
        (world.home_state("ada").await, world.openings().await),
        (Some(HomeState::Creating { intent: opening.intent }), 1)
    );
    world.accounts.confirm_openings().await.unwrap();
    assert_eq!((world.home_state("ada").await, world.openings().await), (Some(HomeState::Active), 0));
}
