//! Sessions looked at together.

use super::{World, borrowed, by_key, session_id};
use crate::accounts::{AccountsError, Caller};
use cellar_model::{PresentedSession, ProblemType, UserId};
use http::{HeaderMap, HeaderName, StatusCode};
use redis::Commands;
use serde_json::{Value, json};

type Headers = [(&'static str, String); 3];

fn presented(session: &Headers) -> (UserId, PresentedSession) {
    let headers: HeaderMap =
        session.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect();
    let caller = Caller::from_headers(&headers).unwrap();
    (caller.user.clone().unwrap(), caller.session().unwrap().clone())
}

/// 0 for one that is in force, 421 for a user of another cell.
async fn statuses(world: &World, sessions: &[Headers]) -> Vec<u16> {
    let presented: Vec<_> = sessions.iter().map(presented).collect();
    let presented: Vec<_> = presented.iter().map(|(user, session)| (user, session)).collect();
    let found = world.accounts.authorize_all(&presented).await;
    let status = |found: Result<(), AccountsError>| found.err().map_or(0, |error| error.problem().kind.status());
    found.into_iter().map(status).collect()
}

/// Goal: each of many sessions is judged by itself and in its place, from the cache as from Postgres.
#[tokio::test(flavor = "multi_thread")]
async fn many_sessions_are_judged_each_by_itself_and_in_order() {
    let world = World::start().await;
    for user in ["ada", "eve", "mallory"] {
        world.user(user).await;
    }
    let (ada, eve, mallory) = (world.session("ada").await, world.session("eve").await, world.session("mallory").await);
    let mut stranger = ada.clone();
    stranger[0].1 = "stranger".to_owned();
    let mut forged = eve.clone();
    forged[2].1 = format!("{} {}", session_id(&eve), "0".repeat(64));
    let mut borrowed_one = ada.clone();
    borrowed_one[0].1 = "eve".to_owned();
    sqlx::query("update users set state = 'blocked' where user_id = 'mallory'").execute(&world.pool).await.unwrap();

    let all = [stranger, ada.clone(), forged, ada.clone(), borrowed_one, mallory, eve.clone()];
    let (unauthorized, blocked) = (ProblemType::Unauthorized.status(), ProblemType::Blocked.status());
    let expected = [421, 0, unauthorized, 0, unauthorized, blocked, 0];
    for _ in 0..2 {
        assert_eq!(statuses(&world, &all).await, expected);
    }
    let path = format!("/v1/sessions/{}", session_id(&ada));
    let revoked = world.ask("DELETE", &path, &borrowed(&ada), Value::Null).await;
    assert_eq!(revoked.status, StatusCode::NO_CONTENT);
    for emptied in [false, true] {
        if emptied {
            let cache = redis::Client::open(world.redis_url.as_str()).unwrap();
            let _: () = cache.get_connection().unwrap().flushall().unwrap();
        }
        assert_eq!(
            statuses(&world, &all).await,
            [421, unauthorized, unauthorized, unauthorized, unauthorized, blocked, 0]
        );
    }
}

/// Sets when every session was last active, as far as it is written.
async fn unused_for(world: &World, hours: i32) {
    let statement = "update session_activity set last_active = now() - make_interval(hours => $1)";
    sqlx::query(statement).bind(hours).execute(&world.pool).await.unwrap();
}

/// Goal: a session that nobody uses is over, by check and by list, and leaves its place; one whose use is noted and
/// not yet written is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_nobody_uses_is_over_and_one_in_use_is_not() {
    let world = World::start().await;
    world.user("ada").await;
    let listed = || async {
        world.ask("GET", "/v1/sessions", &by_key("ada"), Value::Null).await.body["sessions"].as_array().unwrap().len()
    };
    let (used, unused) = (world.session("ada").await, world.session("ada").await);
    assert_eq!(statuses(&world, std::slice::from_ref(&used)).await, [0]);
    // Fourteen days and ten minutes are what it may be unused for.
    unused_for(&world, 14 * 24).await;
    assert_eq!((statuses(&world, std::slice::from_ref(&used)).await, listed().await), (vec![0], 2));
    unused_for(&world, 14 * 24 + 1).await;
    let cache = redis::Client::open(world.redis_url.as_str()).unwrap();
    let _: () = cache.get_connection().unwrap().flushall().unwrap();
    assert_eq!(statuses(&world, &[used.clone(), unused.clone()]).await, [0, 401]);
    assert_eq!(listed().await, 1);
    // A process that does not know of the note believes it once it is written.
    let beside = world.beside(b"a");
    let _: () = cache.get_connection().unwrap().flushall().unwrap();
    world.accounts.0.activity.write(&world.pool).await.unwrap();
    assert_eq!(statuses(&beside, &[used.clone(), unused]).await, [0, 401]);
    world.session("ada").await;
    let rows: (i64,) = sqlx::query_as("select count(*) from sessions").fetch_one(&world.pool).await.unwrap();
    assert_eq!(rows.0, 2, "the unused one has made room");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_shows_where_its_log_in_came_from() {
    let world = World::start().await;
    world.user("ada").await;
    let body = json!({"user_id": "ada", "device": {"name": "phone", "platform": "ios"}});
    let agent = format!("browser/1 {}", "x".repeat(400));
    let headers =
        [super::KEY[0], (cellar_model::header::CLIENT_ADDRESS, "2001:db8::7"), ("user-agent", agent.as_str())];
    assert_eq!(world.ask("POST", "/v1/sessions", &headers, body).await.status, StatusCode::CREATED);
    let list = world.ask("GET", "/v1/sessions", &by_key("ada"), Value::Null).await;
    let expected = json!({"name": "phone", "platform": "ios", "address": "2001:db8::7", "user_agent": agent[..256]});
    assert_eq!(list.body["sessions"][0]["device"], expected);
}
