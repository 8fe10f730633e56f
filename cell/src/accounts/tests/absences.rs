//! What is remembered of users, and of those who are not there.

use super::{KEY, World, borrowed, by_key, until};
use crate::accounts::CACHE_ABSENT;
use cellar_model::{UserId, header};
use futures::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};
use sqlx::Executor;

impl World {
    async fn profile_of(&self, user: &str) -> StatusCode {
        self.ask("GET", "/v1/user/profile", &by_key(user), Value::Null).await.status
    }

    /// Ids that Postgres was asked for.
    fn looked_up(&self) -> u64 {
        self.accounts.0.misses.get_or_create(&CACHE_ABSENT).get()
    }
}

/// Goal: an unknown id reaches Postgres once, however often and by how many at once it is asked for, and is known
/// from the moment it signs up.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_id_reaches_postgres_once_and_is_known_as_soon_as_it_signs_up() {
    let world = World::start().await;
    let ids: Vec<String> = (0..40).map(|n| format!("nobody-{n}")).collect();
    for _ in 0..3 {
        let asked = ids.iter().flat_map(|id| [id, id, id]).map(|id| world.profile_of(id));
        assert!(join_all(asked).await.iter().all(|status| *status == StatusCode::MISDIRECTED_REQUEST));
    }
    assert_eq!(world.looked_up(), ids.len() as u64);
    world.user(&ids[7]).await;
    assert_eq!(world.profile_of(&ids[7]).await, StatusCode::OK);
    assert_eq!(world.profile_of(&ids[8]).await, StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_pushes_no_real_user_out_of_memory() {
    let world = World::start().await;
    world.user("ada").await;
    assert_eq!(world.profile_of("ada").await, StatusCode::OK);
    let before = world.looked_up();
    let ada = UserId::new("ada").unwrap();
    // More than there is room for, of real users or of absences.
    let nobody = world.accounts.0.generations.current(&ada);
    for n in 0..200_000 {
        world.accounts.0.absent.put(UserId::new(&format!("nobody-{n}")).unwrap(), nobody);
    }
    assert_eq!(world.profile_of("ada").await, StatusCode::OK);
    assert_eq!(world.looked_up(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_account_is_remembered_and_let_in_as_soon_as_it_is_unblocked() {
    let world = World::start().await;
    world.user("ada").await;
    let ada = UserId::new("ada").unwrap();
    let becomes = async |state: &'static str| {
        sqlx::query("update users set state = $1").bind(state).execute(&world.pool).await.unwrap();
        world.accounts.forget(&ada);
    };
    becomes("blocked").await;
    let remembered = world.accounts.0.hits.get_or_create(&CACHE_ABSENT).get();
    for _ in 0..5 {
        assert_eq!(world.profile_of("ada").await, StatusCode::FORBIDDEN);
    }
    assert_eq!(world.accounts.0.hits.get_or_create(&CACHE_ABSENT).get(), remembered + 4);
    becomes("active").await;
    assert_eq!(world.profile_of("ada").await, StatusCode::OK);
}

/// Goal: a session that is over does not reach Postgres again and again; and what is remembered of it, under whatever
/// user it was presented, keeps nobody out.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_over_is_remembered_and_no_other_taken_for_it() {
    let world = World::start().await;
    world.user("ada").await;
    world.user("bob").await;
    let (over, good) = (world.session("ada").await, world.session("bob").await);
    world.ask("DELETE", "/v1/sessions", &by_key("ada"), Value::Null).await;
    let stolen = [(header::USER, "ada".to_owned()), good[1].clone(), good[2].clone()];
    for session in [&over, &stolen, &over, &stolen] {
        assert_eq!(world.profile_status(session).await, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(world.profile_status(&good).await, StatusCode::OK);
    // Answered without Postgres: nobody could read the table.
    let mut locked = world.pool.begin().await.unwrap();
    locked.execute("lock table sessions in access exclusive mode").await.unwrap();
    assert_eq!(world.ask("GET", "/v1/sessions", &borrowed(&over), Value::Null).await.status, StatusCode::UNAUTHORIZED);
}

/// Goal: rows read before a change fill no cache after it.
/// Method: a read is held up in Postgres, the user changes meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_fill_across_a_change_is_dropped_and_a_fill_lives_about_an_hour() {
    let world = World::start().await;
    world.user("ada").await;
    let ada = UserId::new("ada").unwrap();
    let key = world.accounts.0.cache.key("user", "ada");
    let client = redis::Client::open(world.redis_url.as_str()).unwrap();
    let mut cache = client.get_multiplexed_async_connection().await.unwrap();

    let mut locked = world.pool.begin().await.unwrap();
    locked.execute("lock table users in access exclusive mode").await.unwrap();
    let (accounts, reader) = (world.accounts.clone(), ada.clone());
    let reading = tokio::spawn(async move { accounts.person(&reader).await.map(|person| person.version) });
    let waits = "select exists (select from pg_locks where not granted)";
    until(async || sqlx::query_as::<_, (bool,)>(waits).fetch_one(&world.pool).await.unwrap().0).await;
    world.accounts.forget(&ada);
    locked.commit().await.unwrap();
    assert!(reading.await.unwrap().is_ok());
    let filled: bool = redis::cmd("EXISTS").arg(&key).query_async(&mut cache).await.unwrap();
    assert!(!filled, "read before the change");

    assert_eq!(world.profile_of("ada").await, StatusCode::OK);
    let lives_s: u64 = redis::cmd("TTL").arg(&key).query_async(&mut cache).await.unwrap();
    assert!((3_239..=3_960).contains(&lives_s), "{lives_s} s");
}

/// What enrols somebody counts like a sign-up.
#[tokio::test(flavor = "multi_thread")]
async fn an_enrolled_user_is_known_at_once() {
    let world = World::start().await;
    assert_eq!(world.profile_of("foreign-1").await, StatusCode::MISDIRECTED_REQUEST);
    let body = json!({"user_id": "foreign-1", "intent": "ab12", "tier": "pro"});
    let enrolled = world.ask("POST", "/cell/v1/enrolments", &KEY, body).await;
    assert_eq!(enrolled.status, StatusCode::CREATED, "{}", enrolled.body);
    assert_eq!(world.profile_of("foreign-1").await, StatusCode::OK);
}
