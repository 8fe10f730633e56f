//! Requests about the account that a path names: by id, or by e-mail.

use super::cargo::{Cargo, Outgoing, read_whole};
use super::enrol::FirstSight;
use super::log_in::name_user;
use super::requests::{refusal, refused};
use super::routes::Front;
use axum::extract::{Request, State};
use axum::response::Response;
use cellar_directory::Email;
use cellar_model::{DeadlineMs, Problem, ProblemType, Refusal, Scope, UserId};
use cellar_server::{PathPart, front};
use http::StatusCode;
use std::time::Instant;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

const ROUTE: &str = "users";

pub(super) fn routes() -> OpenApiRouter<Front> {
    OpenApiRouter::new()
        .routes(routes!(show, erase))
        .routes(routes!(change_tier))
        .routes(routes!(block, unblock))
        .routes(routes!(change_password))
        .routes(routes!(export))
}

/// The account, also one that is blocked
#[utoipa::path(get, path = "/v1/internal/users/{id}")]
async fn show(State(front): State<Front>, PathPart(id): PathPart, request: Request) -> Response {
    front.forward_named(&id, request).await
}

/// Erase the account
#[utoipa::path(delete, path = "/v1/internal/users/{id}")]
async fn erase(State(front): State<Front>, PathPart(id): PathPart, request: Request) -> Response {
    front.forward_named(&id, request).await
}

/// Put the user in another tier
#[utoipa::path(put, path = "/v1/internal/users/{id}/tier")]
async fn change_tier(State(front): State<Front>, PathPart(id): PathPart, request: Request) -> Response {
    front.forward_named(&id, request).await
}

/// Block the account: no session, no log-in, no spending
#[utoipa::path(put, path = "/v1/internal/users/{id}/block")]
async fn block(State(front): State<Front>, PathPart(id): PathPart, request: Request) -> Response {
    front.forward_named(&id, request).await
}

/// End a block
#[utoipa::path(delete, path = "/v1/internal/users/{id}/block")]
async fn unblock(State(front): State<Front>, PathPart(id): PathPart, request: Request) -> Response {
    front.forward_named(&id, request).await
}

/// Give the account another password, and log out everywhere
#[utoipa::path(put, path = "/v1/internal/users/{id}/password")]
async fn change_password(State(front): State<Front>, PathPart(id): PathPart, request: Request) -> Response {
    front.forward_named(&id, request).await
}

/// Everything about the person
#[utoipa::path(get, path = "/v1/internal/users/{id}/export")]
async fn export(State(front): State<Front>, PathPart(id): PathPart, request: Request) -> Response {
    front.forward_named(&id, request).await
}

impl Front {
    async fn forward_named(&self, id: &str, request: Request) -> Response {
        let began = Instant::now();
        let answer = self.send_named(id, request).await;
        self.answered(ROUTE, began, answer)
    }

    async fn send_named(&self, id: &str, request: Request) -> Result<Response, Problem> {
        let (mut parts, body) = request.into_parts();
        let admitted = front::admit(&self.keys, &mut parts.headers, DeadlineMs::STANDARD)?;
        admitted.caller.require(Scope::Users)?;
        let until = tokio::time::Instant::now() + admitted.deadline.duration();
        let unknown = || Problem::new(ProblemType::UnknownUser);
        let bytes = read_whole(body).await?;
        // Under a pepper that not every process has, the claim may be of who has left the e-mail: then the other
        // one says whose it is. No id has an @.
        let hashes = match id.contains('@') {
            true => self.peppers.hashes(&Email::parse(id).map_err(|_| unknown())?),
            false => Vec::new(),
        };
        let candidates = if hashes.is_empty() { vec![None] } else { hashes.iter().map(Some).collect() };
        for hash in candidates {
            let user = match hash {
                None => UserId::new(id).map_err(|_| unknown())?,
                Some(hash) => match self.requests.routing.user_of(hash).await {
                    Ok(Some(user)) => user,
                    Ok(None) => continue,
                    Err(reason) => return Ok(refused(refusal(reason))),
                },
            };
            if admitted.user.as_ref().is_some_and(|told| *told != user) {
                let detail = "the path and the header Cellar-User name two users";
                return Err(Problem::new(ProblemType::Invalid).detail(detail));
            }
            let mut parts = parts.clone();
            name_user(&mut parts.headers, &user);
            let erases = parts.method == http::Method::DELETE;
            let outgoing = Outgoing::new(parts, Cargo::Kept(bytes.clone()));
            let answer = self.requests.send(&user, FirstSight::Unknown, outgoing, until).await;
            if erases {
                // Whatever came of it.
                self.stale.forget(&user);
            }
            match hash {
                Some(hash) if is_nobody(&answer) => self.requests.routing.doubt_email(hash),
                _ => return Ok(answer.unwrap_or_else(refused)),
            }
        }
        Err(unknown())
    }
}

fn is_nobody(answer: &Result<Response, Refusal>) -> bool {
    match answer {
        Ok(response) => response.status() == StatusCode::NOT_FOUND,
        Err(refusal) => *refusal == Refusal::UnknownUser,
    }
}
