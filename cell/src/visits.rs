//! Requests about one user that are answered without a commit, where the cell has several processes: only
//! the one that has the user's shard answers, and only while a store says so.

use crate::accounts::Accounts;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use cellar_model::{Problem, ProblemType, TryAgain, UserId, header};
use cellar_quota::{NotHere, Quota, Visit};
use cellar_server::HttpProblem;
use http::{HeaderValue, Request as HttpRequest};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A change that was begun under the last owner and could not be answered any more is committed within
/// this time, or not at all: a statement may take 5 seconds. What was read meanwhile is forgotten then.
const LATE_CHANGES: Duration = Duration::from_secs(6);

#[derive(Clone)]
pub(crate) struct Visits {
    quota: Quota,
    accounts: Accounts,
    shards: u16,
    /// By shard, the fence under which the last visit was.
    fences: Arc<Mutex<HashMap<u16, u64>>>,
}

impl Visits {
    pub(crate) fn new(quota: Quota, accounts: Accounts, shards: u16) -> Self {
        Self { quota, accounts, shards, fences: Arc::default() }
    }

    /// Lets who asks about `user` in, with nothing remembered that another process may have changed since.
    pub(crate) async fn enter(&self, user: &UserId) -> Result<Visit, NotHere> {
        let visit = self.quota.visit(user).await?;
        self.remember(user, visit.fence().0);
        Ok(visit)
    }

    /// Under another fence than the last visit's, another process may have changed what this one
    /// remembers.
    fn remember(&self, user: &UserId, fence: u64) {
        let shard = user.placement_key().point().shard(self.shards);
        let mut fences = self.fences.lock().unwrap_or_else(PoisonError::into_inner);
        if fences.insert(shard, fence) == Some(fence) {
            return;
        }
        // Before the lock goes: who comes next finds everything forgotten.
        self.accounts.forget_all();
        let accounts = self.accounts.clone();
        tokio::spawn(async move {
            tokio::time::sleep(LATE_CHANGES).await;
            accounts.forget_all();
        });
    }
}

/// Lets a request about a user in while this process may answer it: else 421 with whose it is, or 503.
pub(crate) async fn visit(State(visits): State<Visits>, request: Request, next: Next) -> Response {
    let Some(user) = user_of(&request) else { return next.run(request).await };
    match visits.enter(&user).await {
        Ok(visit) => {
            let response = next.run(request).await;
            if visit.holds() { response } else { unconfirmed() }
        }
        Err(NotHere::OtherInstance(endpoint)) => {
            let mut response = HttpProblem(Problem::new(ProblemType::Misdirected)).into_response();
            if let Ok(value) = HeaderValue::from_str(&endpoint) {
                response.headers_mut().insert(header::INSTANCE, value);
            }
            response
        }
        Err(NotHere::Unconfirmed) => unconfirmed(),
    }
}

fn unconfirmed() -> Response {
    HttpProblem(Problem::new(ProblemType::TryAgain).detail(TryAgain::ShardClosed.label())).into_response()
}

/// Whom a request is about, by the router's header or by its path. What names nobody, or nobody well, is
/// for its handler to judge.
fn user_of<B>(request: &HttpRequest<B>) -> Option<UserId> {
    let named = request.headers().get(header::USER).and_then(|value| value.to_str().ok());
    let path = || request.uri().path().strip_prefix("/v1/internal/users/")?.split('/').next();
    UserId::new(named.or_else(path)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_named_by_header_or_path() {
        let request = |path: &str| HttpRequest::get(path).body(()).unwrap();
        assert_eq!(user_of(&request("/v1/internal/users/ada/override")), Some(UserId::new("ada").unwrap()));
        assert_eq!(user_of(&request("/v1/user/profile")), None);
        let mut named = request("/v1/internal/users/ada");
        named.headers_mut().insert(header::USER, HeaderValue::from_static("bob"));
        assert_eq!(user_of(&named), Some(UserId::new("bob").unwrap()));
    }
}
