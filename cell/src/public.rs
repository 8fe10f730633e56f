//! The public door of a cell without a router: what the router does before it forwards, done here.

use crate::accounts::{Accounts, AccountsError};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use cellar_model::wire::{PlacedSignUp, SignUpBody};
use cellar_model::{DeadlineMs, KeyName, Problem, ProblemType, RegionName, Scope, SettingProblem, UserId, header};
use cellar_server::{HttpProblem, JsonBody, Keys, front, idempotency_key, sign_up_intent};
use http::{HeaderMap, StatusCode};

/// What a request needs to come in.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) keys: Keys,
    /// A key needs one of these.
    pub(crate) scopes: &'static [Scope],
    pub(crate) sessions: Sessions,
}

/// What a session's token opens here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sessions {
    /// It speaks for itself.
    ComeIn,
    StayOut,
}

/// Checks the credential and writes our headers; a log-in by password comes without one.
pub(crate) async fn admit(State(door): State<Door>, mut request: Request, next: Next) -> Response {
    let log_in = request.uri().path() == "/v1/sessions" && request.method() == http::Method::POST;
    if log_in && !request.headers().contains_key(http::header::AUTHORIZATION) {
        front::strip(request.headers_mut());
        return next.run(request).await;
    }
    match front::admit(&door.keys, request.headers_mut(), DeadlineMs::STANDARD) {
        Ok(admitted) => {
            let session = matches!(admitted.caller, cellar_server::Caller::Session { .. });
            let may = match session {
                true => door.sessions == Sessions::ComeIn,
                false => door.scopes.iter().any(|scope| admitted.caller.require(*scope).is_ok()),
            };
            if !may {
                return HttpProblem(Problem::new(ProblemType::Forbidden)).into_response();
            }
            next.run(request).await
        }
        Err(problem) => HttpProblem(problem).into_response(),
    }
}

#[derive(Clone)]
pub(crate) struct PublicSignUp {
    pub(crate) accounts: Accounts,
    pub(crate) region: RegionName,
}

/// Sign up a user
#[utoipa::path(post, path = "/v1/users")]
pub(crate) async fn sign_up(
    State(state): State<PublicSignUp>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<SignUpBody>,
) -> Result<Response, AccountsError> {
    if body.region.as_ref().is_some_and(|region| *region != state.region) {
        let error = SettingProblem::new("/region", &format!("this cell serves {} only", state.region));
        return Err(Problem::new(ProblemType::Invalid).errors(vec![error]).into());
    }
    // The door has written it.
    let by = headers.get(header::CALLER).and_then(|name| KeyName::new(name.to_str().ok()?).ok());
    let by = by.ok_or(ProblemType::Unauthorized)?;
    let placed = PlacedSignUp {
        user_id: body.user_id.clone().unwrap_or_else(|| UserId::mint(&state.region, uuid::Uuid::now_v7().as_u128())),
        region: state.region.clone(),
        intent: sign_up_intent(&by, idempotency_key(&headers)?.as_deref()),
        body,
    };
    let signed_up = state.accounts.sign_up(placed).await?;
    Ok((StatusCode::CREATED, axum::Json(signed_up)).into_response())
}
