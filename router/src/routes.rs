//! What callers may ask of a router, besides the quota routes.

use crate::app::Shared;
use crate::forward::for_caller;
use axum::extract::{Request, State};
use axum::response::Response;
use cellar_model::Scope;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) fn routes(app: Shared) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(sign_up))
        .routes(routes!(log_in, list_sessions, revoke_sessions))
        .routes(routes!(revoke_session))
        .routes(routes!(read_profile, patch_profile))
        .routes(routes!(read_preferences, patch_preferences))
        .routes(routes!(read_quota))
        .with_state(app)
}

/// Sign up a user (service key)
#[utoipa::path(post, path = "/v1/users", tag = "accounts", responses(
    (status = 201, description = "The user's id, tier and region"),
    (status = 409, description = "The e-mail, or the id, belongs to another account"),
    (status = 503, description = "Unknown: repeat with the same Idempotency-Key")))]
async fn sign_up(State(app): State<Shared>, request: Request) -> Response {
    for_caller(app.timed("users", request, |request| app.sign_up(request)).await)
}

/// Log in: by user id with a service key, or by e-mail and password
#[utoipa::path(post, path = "/v1/sessions", tag = "accounts", responses(
    (status = 201, description = "The session and its token, which is shown this once"),
    (status = 401, description = "No account has this e-mail and password")))]
async fn log_in(State(app): State<Shared>, request: Request) -> Response {
    for_caller(app.timed("sessions", request, |request| app.log_in(request)).await)
}

/// The active sessions
#[utoipa::path(get, path = "/v1/sessions", tag = "accounts", responses(
    (status = 200, description = "The sessions, and the last log-in")))]
async fn list_sessions(State(app): State<Shared>, request: Request) -> Response {
    for_caller(app.forward("sessions", Scope::Users, request).await)
}

/// Log out everywhere; with `keep=current`, everywhere else
#[utoipa::path(delete, path = "/v1/sessions", tag = "accounts",
    params(("keep" = Option<String>, Query, description = "`current`, or nothing")),
    responses((status = 204, description = "They are revoked")))]
async fn revoke_sessions(State(app): State<Shared>, request: Request) -> Response {
    for_caller(app.forward("sessions", Scope::Users, request).await)
}

/// End one session
#[utoipa::path(delete, path = "/v1/sessions/{id}", tag = "accounts",
    params(("id" = String, Path, description = "A session's id")),
    responses((status = 204, description = "It is revoked"), (status = 404, description = "No such session")))]
async fn revoke_session(State(app): State<Shared>, request: Request) -> Response {
    for_caller(app.forward("sessions", Scope::Users, request).await)
}

/// Basic info, tier and preferences
#[utoipa::path(get, path = "/v1/user/profile", tag = "accounts", responses(
    (status = 200, description = "The profile, with an ETag")))]
async fn read_profile(State(app): State<Shared>, request: Request) -> Response {
    for_caller(app.forward("profile", Scope::Users, request).await)
}

/// Change the name
#[utoipa::path(patch, path = "/v1/user/profile", tag = "accounts", responses(
    (status = 200, description = "The profile as it is now")))]
async fn patch_profile(State(app): State<Shared>, request: Request) -> Response {
    for_caller(app.forward("profile", Scope::Users, request).await)
}

/// The preferences
#[utoipa::path(get, path = "/v1/user/preferences", tag = "accounts", responses(
    (status = 200, description = "A JSON object, with an ETag")))]
async fn read_preferences(State(app): State<Shared>, request: Request) -> Response {
    for_caller(app.forward("preferences", Scope::Users, request).await)
}

/// Apply a JSON merge patch to the preferences
#[utoipa::path(post, path = "/v1/user/preferences", tag = "accounts", responses(
    (status = 200, description = "The preferences as they are now")))]
async fn patch_preferences(State(app): State<Shared>, request: Request) -> Response {
    for_caller(app.forward("preferences", Scope::Users, request).await)
}

/// What is left of the user's quota, without spending
#[utoipa::path(get, path = "/v1/user/quota", tag = "quota", responses(
    (status = 200, description = "Each policy of the user's tier, with what is left")))]
async fn read_quota(State(app): State<Shared>, request: Request) -> Response {
    for_caller(app.forward("quota", Scope::Quota, request).await)
}
