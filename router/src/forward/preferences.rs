//! Preferences: forwarded like any request, and shown as they were while their cell does not answer.

use super::requests::{refusal, refused};
use super::routes::{Front, Going};
use super::stale::StalePreferences;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use cellar_model::{Problem, Refusal, Scope, TryAgain, UserId};
use cellar_server::Caller;
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tokio::time::{Instant, timeout_at};

impl Front {
    pub(super) async fn read_preferences(&self, request: Request) -> Result<Response, Problem> {
        let going = self.admit(&[Scope::Users], request).await?;
        let session = matches!(going.caller, Caller::Session { .. });
        let Going { user, sight, outgoing, until, .. } = going;
        let answer = self.requests.send(&user, sight, outgoing, until).await;
        if session {
            return Ok(answer.unwrap_or_else(refused));
        }
        let answer = match answer {
            Ok(answer) if answer.status() == StatusCode::OK => self.keep(&user, answer, until).await,
            answer => answer,
        };
        Ok(match answer {
            Ok(answer) if answer.status() == StatusCode::SERVICE_UNAVAILABLE => self.stale(&user).unwrap_or(answer),
            Ok(answer) => {
                if answer.status().is_client_error() {
                    // Blocked, gone, moved out of reach of this key: not shown any more.
                    self.stale.forget(&user);
                }
                answer
            }
            Err(reason @ Refusal::TryAgain { .. }) => self.stale(&user).unwrap_or_else(|| refused(reason)),
            Err(reason) => refused(reason),
        })
    }

    pub(super) async fn patch_preferences(&self, request: Request) -> Result<Response, Problem> {
        let Going { user, sight, outgoing, until, .. } = self.admit(&[Scope::Users], request).await?;
        // Before it is sent: who has written does not read what was there before.
        self.stale.forget(&user);
        Ok(self.requests.send(&user, sight, outgoing, until).await.unwrap_or_else(refused))
    }

    /// Keeps what a cell has answered, unless it is large.
    async fn keep(&self, user: &UserId, answer: Response, until: Instant) -> Result<Response, Refusal> {
        if !StalePreferences::fits(answer.size_hint().exact()) {
            return Ok(answer);
        }
        let (head, body) = answer.into_parts();
        let Ok(Ok(json)) = timeout_at(until, body.collect()).await else {
            return Err(refusal(TryAgain::Unknown));
        };
        let json = json.to_bytes();
        self.stale.keep(user, &head.headers, json.clone(), Instant::now());
        Ok(Response::from_parts(head, Body::from(json)))
    }

    fn stale(&self, user: &UserId) -> Option<Response> {
        let answer = self.stale.answer(user, Instant::now());
        if answer.is_some() {
            self.requests.routing.metrics.stale.inc();
        }
        answer
    }
}
