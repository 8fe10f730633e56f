//! What callers can ask of a router besides quota: the table of contents.

use super::Requests;
use super::cargo::{Cargo, Outgoing};
use super::enrol::FirstSight;
use super::requests::refused;
use super::stale::StalePreferences;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use cellar_directory::Peppers;
use cellar_model::{DeadlineMs, Problem, ProblemType, RegionName, Scope, UserId};
use cellar_server::{Attempts, Caller, HttpMetrics, HttpProblem, Keys, TrustedProxies, front};
use http::{HeaderName, HeaderValue, Method};
use std::sync::Arc;
use std::time::Instant;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Reads below it are of the user alone, and may be the first sight of one.
const USER_ROUTES: &str = "/v1/user/";

/// What the routes need.
#[derive(Clone)]
pub(crate) struct Front {
    pub(crate) requests: Requests,
    pub(crate) keys: Keys,
    pub(crate) metrics: HttpMetrics,
    pub(crate) peppers: Peppers,
    pub(crate) stale: StalePreferences,
    /// Where users sign up who name no region.
    pub(crate) region: RegionName,
    pub(crate) proxies: TrustedProxies,
    /// Log-ins by password that failed.
    pub(crate) by_address: Arc<Attempts>,
}

/// A request that may go to its user's cell.
pub(super) struct Going {
    pub(super) caller: Caller,
    pub(super) user: UserId,
    /// A read of a foreign id may be its first sight.
    pub(super) sight: FirstSight,
    pub(super) outgoing: Outgoing,
    pub(super) until: tokio::time::Instant,
}

pub(crate) fn routes(front: Front) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(sign_up))
        .routes(routes!(log_in, list_sessions, revoke_all))
        .routes(routes!(revoke_session))
        .routes(routes!(read_profile, patch_profile))
        .routes(routes!(read_preferences, patch_preferences))
        .routes(routes!(read_quota))
        .routes(routes!(read_usage))
        .routes(routes!(erase))
        .routes(routes!(change_password))
        .routes(routes!(export))
        .merge(super::named::routes())
        .with_state(front)
}

/// Sign up a user
#[utoipa::path(post, path = "/v1/users")]
async fn sign_up(State(front): State<Front>, request: Request) -> Response {
    let began = Instant::now();
    let answer = front.sign_up(request).await;
    front.answered("users", began, answer)
}

/// Log in: with a service key by user id, or by e-mail and password
#[utoipa::path(post, path = "/v1/sessions")]
async fn log_in(State(front): State<Front>, request: Request) -> Response {
    let began = Instant::now();
    let answer = front.log_in(request).await;
    front.answered("sessions", began, answer)
}

/// The active sessions, and the last log-in
#[utoipa::path(get, path = "/v1/sessions")]
async fn list_sessions(State(front): State<Front>, request: Request) -> Response {
    front.forward("sessions", &[Scope::Users], request).await
}

/// Log out everywhere; with `keep=current`, everywhere else
#[utoipa::path(delete, path = "/v1/sessions")]
async fn revoke_all(State(front): State<Front>, request: Request) -> Response {
    front.forward("sessions", &[Scope::Users], request).await
}

/// End one session
#[utoipa::path(delete, path = "/v1/sessions/{id}")]
async fn revoke_session(State(front): State<Front>, request: Request) -> Response {
    front.forward("sessions", &[Scope::Users], request).await
}

/// Basic info, tier and preferences
#[utoipa::path(get, path = "/v1/user/profile")]
async fn read_profile(State(front): State<Front>, request: Request) -> Response {
    front.forward("profile", &[Scope::Users], request).await
}

/// Change name or e-mail: absent members stay, null removes the name
#[utoipa::path(patch, path = "/v1/user/profile")]
async fn patch_profile(State(front): State<Front>, request: Request) -> Response {
    front.forward("profile", &[Scope::Users], request).await
}

/// The preferences
#[utoipa::path(get, path = "/v1/user/preferences")]
async fn read_preferences(State(front): State<Front>, request: Request) -> Response {
    let began = Instant::now();
    let answer = front.read_preferences(request).await;
    front.answered("preferences", began, answer)
}

/// Apply a JSON merge patch: members are set, null deletes
#[utoipa::path(post, path = "/v1/user/preferences")]
async fn patch_preferences(State(front): State<Front>, request: Request) -> Response {
    let began = Instant::now();
    let answer = front.patch_preferences(request).await;
    front.answered("preferences", began, answer)
}

/// What is left of the user's quota, without spending
#[utoipa::path(get, path = "/v1/user/quota")]
async fn read_quota(State(front): State<Front>, request: Request) -> Response {
    front.forward("quota", &[Scope::Quota, Scope::Users], request).await
}

/// What the user was charged, by day
#[utoipa::path(get, path = "/v1/user/usage")]
async fn read_usage(State(front): State<Front>, request: Request) -> Response {
    front.forward("usage", &[Scope::Quota, Scope::Users], request).await
}

/// Erase the account
#[utoipa::path(delete, path = "/v1/user")]
async fn erase(State(front): State<Front>, request: Request) -> Response {
    let began = Instant::now();
    let answer = front.erase(request).await;
    front.answered("users", began, answer)
}

/// Change the password, and log out everywhere; with `keep=current`, everywhere else
#[utoipa::path(put, path = "/v1/user/password")]
async fn change_password(State(front): State<Front>, request: Request) -> Response {
    front.forward("password", &[Scope::Users], request).await
}

/// Everything about the person
#[utoipa::path(get, path = "/v1/user/export")]
async fn export(State(front): State<Front>, request: Request) -> Response {
    let began = Instant::now();
    let answer = front.send_known(request).await;
    front.answered("export", began, answer)
}

impl Front {
    /// What is kept of the user here goes as well, whatever comes of it.
    async fn erase(&self, request: Request) -> Result<Response, Problem> {
        let Going { user, outgoing, until, .. } = self.admit(&[Scope::Users], request).await?;
        let answer = self.requests.send(&user, FirstSight::Unknown, outgoing, until).await;
        self.stale.forget(&user);
        Ok(answer.unwrap_or_else(refused))
    }

    /// Of a user who is there already: nobody is enrolled by it.
    async fn send_known(&self, request: Request) -> Result<Response, Problem> {
        let Going { user, outgoing, until, .. } = self.admit(&[Scope::Users], request).await?;
        Ok(self.requests.send(&user, FirstSight::Unknown, outgoing, until).await.unwrap_or_else(refused))
    }

    /// Takes a request to its user's cell. A key needs one of `scopes`; a session speaks for itself.
    async fn forward(&self, route: &'static str, scopes: &[Scope], request: Request) -> Response {
        let began = Instant::now();
        let answer = self.admit_and_send(scopes, request).await;
        self.answered(route, began, answer)
    }

    async fn admit_and_send(&self, scopes: &[Scope], request: Request) -> Result<Response, Problem> {
        let Going { user, sight, outgoing, until, .. } = self.admit(scopes, request).await?;
        Ok(self.requests.send(&user, sight, outgoing, until).await.unwrap_or_else(refused))
    }

    /// Checks who asks and for whom, and makes the request ready to be sent.
    pub(super) async fn admit(&self, scopes: &[Scope], request: Request) -> Result<Going, Problem> {
        let (mut parts, body) = request.into_parts();
        let admitted = front::admit(&self.keys, &mut parts.headers, DeadlineMs::STANDARD)?;
        let until = tokio::time::Instant::now() + admitted.deadline.duration();
        let session = matches!(admitted.caller, Caller::Session { .. });
        if !session && !scopes.iter().any(|scope| admitted.caller.require(*scope).is_ok()) {
            return Err(Problem::new(ProblemType::Forbidden));
        }
        let user = admitted
            .user
            .ok_or_else(|| Problem::new(ProblemType::Invalid).detail("name the user in the header Cellar-User"))?;
        let read = parts.method == Method::GET && parts.uri.path().starts_with(USER_ROUTES);
        let sight = FirstSight::from(admitted.caller.enrolment().filter(|_| read));
        let outgoing = Outgoing::new(parts, Cargo::load(body).await?);
        Ok(Going { caller: admitted.caller, user, sight, outgoing, until })
    }

    pub(super) fn answered(&self, route: &'static str, began: Instant, answer: Result<Response, Problem>) -> Response {
        let response = answer.unwrap_or_else(|problem| HttpProblem(problem).into_response());
        cellar_trace::note("cellar.route", route);
        self.metrics.request(route, response.status().as_u16(), began.elapsed());
        response
    }
}

/// Says on every answer how long it took here. Answers to checks say so themselves.
pub(crate) async fn time_answers(request: Request, next: Next) -> Response {
    let began = Instant::now();
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let timed = headers.get_all(SERVER_TIMING).iter().any(|value| value.as_bytes().starts_with(b"route;"));
    if !timed && let Ok(value) = HeaderValue::from_str(&format!("route;dur={:.3}", began.elapsed().as_secs_f64() * 1e3))
    {
        headers.append(SERVER_TIMING, value);
    }
    response
}
