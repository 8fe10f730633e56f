//! Sessions looked at together.

use super::{World, borrowed, session_id};
use crate::accounts::{AccountsError, Caller};
use cellar_model::{PresentedSession, ProblemType, UserId};
use http::{HeaderMap, HeaderName, StatusCode};
use redis::Commands;
use serde_json::Value;

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
