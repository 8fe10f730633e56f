//! The routes of accounts, as a cell serves them.

use super::caller::Caller;
use super::etag::IfMatch;
use super::merge_patch::PreferencesPatch;
use super::origin::Origin;
use super::person::Person;
use super::preferences::Written;
use super::user_routes::{self, Keep, named_routes};
use super::{Accounts, AccountsError, etag::Tag, profile};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cellar_model::{ProblemType, SessionId, UserId, wire};
use cellar_server::{JsonBody, PathPart, QueryOf, idempotency_key};
use cellar_trace::Hop;
use http::{HeaderMap, StatusCode};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// What routers and other cells ask. Who the caller is was written into headers before.
pub(crate) fn routes(accounts: Accounts) -> OpenApiRouter {
    let placed = OpenApiRouter::new().routes(routes!(sign_up)).routes(routes!(enrol));
    let between_cells = OpenApiRouter::new().routes(routes!(keep_forward)).routes(routes!(tell_intent));
    let named = named_routes(accounts.clone());
    public_routes(accounts.clone()).merge(named).merge(placed.merge(between_cells).with_state(accounts))
}

/// The same without what only a router may ask.
pub(crate) fn public_routes(accounts: Accounts) -> OpenApiRouter {
    user_routes::own_routes()
        .routes(routes!(log_in, list_sessions, revoke_all))
        .routes(routes!(revoke_session))
        .routes(routes!(read_profile, patch_profile))
        .routes(routes!(read_preferences, patch_preferences))
        .with_state(accounts)
}

/// Signs up a user whom a router has placed here.
///
/// The same intent gets the same answer.
#[utoipa::path(post, path = "/cell/v1/users", tag = "accounts", responses(
    (status = 201, description = "The user's id, tier and region"),
    (status = 409, description = "The e-mail, or the id, belongs to another account"),
    (status = 421, description = "An earlier attempt went to another cell, named in Cellar-Home"),
    (status = 422, description = "The e-mail, tier, name or password is not acceptable"),
    (status = 503, description = "Unknown: repeat with the same intent"),
))]
async fn sign_up(
    State(accounts): State<Accounts>,
    JsonBody(placed): JsonBody<wire::PlacedSignUp>,
) -> Result<Response, AccountsError> {
    let signed_up = accounts.sign_up(placed).await?;
    Ok((StatusCode::CREATED, Json(signed_up)).into_response())
}

/// Makes a user, without an e-mail, of an id that a router has seen for the first time.
#[utoipa::path(post, path = "/cell/v1/enrolments", tag = "accounts", responses(
    (status = 201, description = "The user's id, tier and region"),
    (status = 409, description = "The id is somebody's already"),
    (status = 421, description = "The id is somebody's, who has moved to the cell named in Cellar-Home"),
    (status = 422, description = "There is no such tier"),
    (status = 503, description = "Unknown: repeat with the same intent"),
))]
async fn enrol(
    State(accounts): State<Accounts>,
    JsonBody(placed): JsonBody<wire::PlacedEnrolment>,
) -> Result<Response, AccountsError> {
    let enrolled = accounts.enrol(placed).await?;
    Ok((StatusCode::CREATED, Json(enrolled)).into_response())
}

/// Takes down where a user lives, whom the ring places here. Asked by the user's home.
#[utoipa::path(put, path = "/cell/v1/forwards/{user}", tag = "accounts",
    params(("user" = String, Path, description = "The user's id")),
    responses(
        (status = 204, description = "Whoever asks here for the user is sent there, or to where they live since"),
        (status = 409, description = "This cell has the user itself, or another home of the same epoch"),
        (status = 421, description = "The cell that is told is not this one"),
    ))]
async fn keep_forward(
    State(accounts): State<Accounts>,
    PathPart(user): PathPart,
    JsonBody(news): JsonBody<wire::ForwardNews>,
) -> Result<StatusCode, AccountsError> {
    let user = UserId::new(&user).map_err(|_| ProblemType::Malformed)?;
    accounts.keep_forward(user, news).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Says what became of an intent, which is refused for good if it was open. Asked by a cell whose sign-up waits for
/// that.
#[utoipa::path(post, path = "/cell/v1/intents/{intent}", tag = "accounts",
    params(("intent" = String, Path, description = "As the home names it")),
    responses(
        (status = 200, description = "Committed or refused: neither ever changes"),
        (status = 421, description = "The cell that is asked is not this one"),
    ))]
async fn tell_intent(
    State(accounts): State<Accounts>,
    PathPart(intent): PathPart,
    JsonBody(question): JsonBody<wire::IntentQuestion>,
) -> Result<Json<wire::IntentAnswer>, AccountsError> {
    Ok(Json(accounts.tell_intent(&intent, &question).await?))
}

/// Logs in: with a service key by user id, or by e-mail and password.
#[utoipa::path(post, path = "/v1/sessions")]
async fn log_in(
    State(accounts): State<Accounts>,
    caller: Caller,
    headers: HeaderMap,
    JsonBody(body): JsonBody<wire::LogInBody>,
) -> Result<Response, AccountsError> {
    let logged_in = accounts.log_in(&caller, Origin::of(&headers), body).await?;
    Ok((StatusCode::CREATED, Json(logged_in)).into_response())
}

/// The active sessions, most recently active first. `last_active` is exact to five minutes; address and user agent
/// are those of the log-in.
#[utoipa::path(get, path = "/v1/sessions")]
async fn list_sessions(
    State(accounts): State<Accounts>,
    caller: Caller,
) -> Result<Json<wire::SessionList>, AccountsError> {
    let user = accounts.authorize(&caller).await?;
    Ok(Json(accounts.list_sessions(&user, caller.session()).await?))
}

/// Ends one session. In force for every request that starts after the answer.
#[utoipa::path(delete, path = "/v1/sessions/{id}")]
async fn revoke_session(
    State(accounts): State<Accounts>,
    caller: Caller,
    PathPart(id): PathPart,
) -> Result<StatusCode, AccountsError> {
    let user = accounts.authorize(&caller).await?;
    let session = SessionId::new(&id).map_err(|_| ProblemType::NotFound)?;
    accounts.revoke_session(&user, &session).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Logs out everywhere; with `keep=current`, everywhere else.
#[utoipa::path(delete, path = "/v1/sessions")]
async fn revoke_all(
    State(accounts): State<Accounts>,
    caller: Caller,
    QueryOf(query): QueryOf<Keep>,
) -> Result<StatusCode, AccountsError> {
    let user = accounts.authorize(&caller).await?;
    accounts.revoke_all(&user, query.session(&caller)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Basic info, tier and preferences.
#[utoipa::path(get, path = "/v1/user/profile")]
async fn read_profile(
    State(accounts): State<Accounts>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, AccountsError> {
    // Whether the user is here, and the session in force, is part of what a read costs.
    let read = async {
        let user = accounts.authorize(&caller).await?;
        answer_profile(&accounts, &user, &headers).await
    };
    cellar_trace::span(Hop::server("profile.read"), read, |read| read.as_ref().err().and_then(failed)).await
}

async fn answer_profile(accounts: &Accounts, user: &UserId, headers: &HeaderMap) -> Result<Response, AccountsError> {
    let person = accounts.person(user).await?;
    let tag = profile::tag(&person);
    if let Some(unchanged) = tag.known_to(headers)? {
        return Ok((unchanged, [tag.header()]).into_response());
    }
    Ok(([tag.header()], accounts.degraded(&person), Json(profile::body(user, &person)?)).into_response())
}

/// A read that failed, in its trace: a refusal is none.
fn failed(error: &AccountsError) -> Option<&'static str> {
    (error.problem().kind.status() >= 500).then_some("error")
}

/// Changes name or e-mail. Absent members stay, null removes the name.
///
/// A new e-mail counts from the answer on; sessions stay. A repeat under the same `Idempotency-Key` changes
/// nothing again.
#[utoipa::path(patch, path = "/v1/user/profile")]
async fn patch_profile(
    State(accounts): State<Accounts>,
    caller: Caller,
    headers: HeaderMap,
    JsonBody(patch): JsonBody<wire::ProfilePatch>,
) -> Result<Response, AccountsError> {
    let user = accounts.authorize(&caller).await?;
    let key = idempotency_key(&headers)?;
    accounts.patch_profile(&user, patch, &IfMatch::of(&headers)?, key.as_deref()).await?;
    answer_profile(&accounts, &user, &HeaderMap::new()).await
}

/// The preferences.
#[utoipa::path(get, path = "/v1/user/preferences")]
async fn read_preferences(
    State(accounts): State<Accounts>,
    caller: Caller,
    headers: HeaderMap,
) -> Result<Response, AccountsError> {
    let user = accounts.authorize(&caller).await?;
    answer_preferences(&accounts, &user, &headers).await
}

async fn answer_preferences(
    accounts: &Accounts,
    user: &UserId,
    headers: &HeaderMap,
) -> Result<Response, AccountsError> {
    let person = accounts.person(user).await?;
    let tag = Tag::of(&person.preferences_counters());
    if let Some(unchanged) = tag.known_to(headers)? {
        return Ok((unchanged, [tag.header()]).into_response());
    }
    Ok(shown_preferences(accounts, &person))
}

fn shown_preferences(accounts: &Accounts, person: &Person) -> Response {
    let tag = Tag::of(&person.preferences_counters());
    let kind = (http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    ([tag.header(), kind], accounts.degraded(person), person.preferences.clone()).into_response()
}

/// Applies a JSON merge patch: members are set, null deletes.
#[utoipa::path(post, path = "/v1/user/preferences")]
async fn patch_preferences(
    State(accounts): State<Accounts>,
    caller: Caller,
    headers: HeaderMap,
    JsonBody(patch): JsonBody<PreferencesPatch>,
) -> Result<Response, AccountsError> {
    let user = accounts.authorize(&caller).await?;
    match accounts.patch_preferences(&user, patch.0, &IfMatch::of(&headers)?).await? {
        Written::Through => answer_preferences(&accounts, &user, &HeaderMap::new()).await,
        Written::Journaled(person) => {
            let mut response = shown_preferences(&accounts, &person);
            *response.status_mut() = StatusCode::ACCEPTED;
            Ok(response)
        }
    }
}
