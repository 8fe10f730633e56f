//! What a cell's process says of itself, asked once a second at its admin listener: so a router knows that one cannot
//! serve, or does not answer at all, before a user's request has failed by it.
//!
//! It decides nothing about ownership. New users are not placed where they would be refused, and a process that does
//! not answer has its breaker opened; what it still serves, degraded or not, goes on to it as ever.

use super::breaker::Breaker;
use axum::body::Body;
use http::uri::{Authority, Uri};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use serde::Deserialize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A process that takes longer to say how it is could not serve anybody in time either.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// Looks in a row without an answer that make one silent. One may have met a restart.
const SILENT_LOOKS: u32 = 2;
/// A dozen conditions of some hundred bytes each.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// Reasons of a process that are kept.
const REASONS_CHARS_MAX: usize = 300;
/// In these a cell serves its users and refuses new ones.
const REFUSES_NEW: [&str; 1] = ["postgres-away"];

/// What is known of one process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Health {
    /// It has not been heard yet, or says that it serves.
    #[default]
    Serves,
    /// It serves its users, and would refuse new ones.
    RefusesNew,
    /// It says that it cannot serve, and why.
    NotReady(String),
    /// So many looks in a row it has not answered.
    Silent(u32),
}

/// Looks until it is dropped.
pub(super) struct Looking {
    held: Arc<Mutex<Health>>,
    _stop: Option<DropGuard>,
}

#[derive(Deserialize)]
struct Said {
    ready: bool,
    #[serde(default)]
    reasons: Vec<String>,
    #[serde(default)]
    conditions: Vec<SaidCondition>,
}

#[derive(Deserialize)]
struct SaidCondition {
    name: String,
}

impl Looking {
    /// At a process that nobody can ask: it is taken to serve until a request fails.
    pub(super) fn at(admin: Option<Authority>, client: Client<HttpConnector, Body>, breaker: Arc<Breaker>) -> Self {
        let held = Arc::<Mutex<Health>>::default();
        let uri = admin.and_then(|admin| {
            Uri::builder().scheme("http").authority(admin).path_and_query("/conditions").build().ok()
        });
        let stop = uri.map(|uri| {
            let stop = CancellationToken::new();
            tokio::spawn(look(uri, client, breaker, held.clone(), stop.clone()));
            stop.drop_guard()
        });
        Self { held, _stop: stop }
    }

    pub(super) fn health(&self) -> Health {
        lock(&self.held).clone()
    }
}

fn lock(held: &Mutex<Health>) -> MutexGuard<'_, Health> {
    // Nothing that holds it can panic half way.
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn look(
    uri: Uri,
    client: Client<HttpConnector, Body>,
    breaker: Arc<Breaker>,
    held: Arc<Mutex<Health>>,
    stop: CancellationToken,
) {
    let mut answers = breaker.answers();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        let said = timeout(ANSWER_MAX, ask(&uri, &client)).await.ok().flatten();
        let health = match said {
            Some(health) => health,
            // Its admin listener alone may be out of reach: who is answered by the other one is not silent.
            None if breaker.answers() != answers => Health::Serves,
            None => Health::Silent(match *lock(&held) {
                Health::Silent(looks) => looks.saturating_add(1),
                _ => 1,
            }),
        };
        answers = breaker.answers();
        let was_silent = matches!(*lock(&held), Health::Silent(looks) if looks >= SILENT_LOOKS);
        match health {
            Health::Silent(SILENT_LOOKS) => breaker.open(),
            Health::Silent(_) => {}
            _ if was_silent => breaker.close(),
            _ => {}
        }
        *lock(&held) = health;
    }
}

/// None: it does not answer. One of another build, that knows no conditions, is taken to serve.
async fn ask(uri: &Uri, client: &Client<HttpConnector, Body>) -> Option<Health> {
    let request = Request::get(uri.clone()).body(Body::empty()).ok()?;
    let response = client.request(request).await.ok()?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await.ok()?.to_bytes();
    if status != StatusCode::OK {
        return Some(Health::Serves);
    }
    Some(serde_json::from_slice(&body).map_or(Health::Serves, read))
}

fn read(said: Said) -> Health {
    if !said.ready {
        return Health::NotReady(said.reasons.join("; ").chars().take(REASONS_CHARS_MAX).collect());
    }
    let refuses = said.conditions.iter().any(|one| REFUSES_NEW.contains(&one.name.as_str()));
    if refuses { Health::RefusesNew } else { Health::Serves }
}

impl Health {
    pub(crate) fn takes_new_users(&self) -> bool {
        match self {
            Health::Serves => true,
            Health::Silent(looks) => *looks < SILENT_LOOKS,
            Health::RefusesNew | Health::NotReady(_) => false,
        }
    }

    /// Why it cannot serve, if it cannot.
    pub(crate) fn why_not(&self) -> Option<String> {
        match self {
            Health::Serves | Health::RefusesNew => None,
            Health::NotReady(why) => Some(format!("says that it cannot serve: {why}")),
            Health::Silent(looks) if *looks < SILENT_LOOKS => None,
            Health::Silent(looks) => Some(format!("has not answered for {looks} looks, one a second")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use hyper_util::rt::TokioExecutor;
    use std::net::SocketAddr;

    #[test]
    fn a_cell_that_serves_and_has_no_postgres_gets_no_new_users() {
        let said = |text: &str| read(serde_json::from_str(text).unwrap());
        let serves = said(r#"{"ready":true,"reasons":[],"conditions":[{"name":"redis-away"}]}"#);
        assert!(serves.takes_new_users() && serves.why_not().is_none());
        let refuses = said(r#"{"ready":true,"conditions":[{"name":"postgres-away","what":"…"}]}"#);
        assert!(!refuses.takes_new_users() && refuses.why_not().is_none());
        let closed = said(r#"{"ready":false,"reasons":["all 4 shards are closed"],"conditions":[]}"#);
        assert!(!closed.takes_new_users());
        assert_eq!(closed.why_not().unwrap(), "says that it cannot serve: all 4 shards are closed");
        assert!(Health::Silent(1).takes_new_users() && Health::Silent(1).why_not().is_none());
    }

    async fn at(routes: axum::Router) -> Authority {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at: SocketAddr = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        at.to_string().parse().unwrap()
    }

    fn looking(at: Authority) -> (Looking, Arc<Breaker>) {
        let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        let breaker = Arc::new(Breaker::new());
        (Looking::at(Some(at), client, breaker.clone()), breaker)
    }

    async fn until(looking: &Looking, wanted: impl Fn(&Health) -> bool) {
        for _ in 0..1_000 {
            if wanted(&looking.health()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("it is {:?}", looking.health());
    }

    /// Goal: what a process says is known without a request that failed, and one that knows nothing of conditions is
    /// taken to serve.
    #[tokio::test]
    async fn what_a_process_says_is_known_before_a_request_fails() {
        let closed = r#"{"ready":false,"reasons":["stopping"],"conditions":[]}"#;
        let stopping = at(axum::Router::new().route("/conditions", get(move || async move { closed }))).await;
        let (looking_at, breaker) = looking(stopping);
        until(&looking_at, |health| matches!(health, Health::NotReady(why) if why == "stopping")).await;
        assert!(breaker.allows(), "what it serves still is its own to say");
        let (old, _) = looking(at(axum::Router::new()).await);
        tokio::time::sleep(LOOK_EVERY * 2).await;
        assert_eq!(old.health(), Health::Serves);
    }

    /// Goal: a process that does not answer is not asked by a user first; one whose data listener answers is no such.
    #[tokio::test]
    async fn a_process_that_does_not_answer_is_held_back_from_unless_requests_are_answered() {
        let nowhere: Authority = "127.0.0.1:1".parse().unwrap();
        let (silent, breaker) = looking(nowhere.clone());
        until(&silent, |health| matches!(health, Health::Silent(looks) if *looks >= SILENT_LOOKS)).await;
        assert!(breaker.is_open());
        let (answering, breaker) = looking(nowhere);
        for _ in 0..40 {
            breaker.answered();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!((answering.health(), breaker.is_open()), (Health::Serves, false));
    }

    /// Goal: a process that is heard again is asked again, without a user who tries first.
    #[tokio::test]
    async fn a_process_that_is_heard_again_is_asked_again() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let here = listener.local_addr().unwrap();
        drop(listener);
        let (looking_at, breaker) = looking(here.to_string().parse().unwrap());
        until(&looking_at, |health| matches!(health, Health::Silent(looks) if *looks >= SILENT_LOOKS)).await;
        let listener = tokio::net::TcpListener::bind(here).await.unwrap();
        let serves = r#"{"ready":true,"reasons":[],"conditions":[]}"#;
        let routes = axum::Router::new().route("/conditions", get(move || async move { serves }));
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        until(&looking_at, |health| *health == Health::Serves).await;
        assert!(!breaker.is_open() && breaker.allows());
    }
}
