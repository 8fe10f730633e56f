//! The public door of a cell without a router: what the router does before it forwards, done here.

use crate::accounts::{Accounts, AccountsError, Caller};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use cellar_model::wire::{PlacedSignUp, SignUpBody};
use cellar_model::{DeadlineMs, KeyName, Problem, ProblemType, RegionName, Scope, UserId, header};
use cellar_server::{HttpProblem, JsonBody, Keys, front, idempotency_key};
use http::{HeaderMap, StatusCode};
use sha2::{Digest, Sha256};

/// Checks the credential and writes our headers; a log-in by password comes without one.
pub(crate) async fn admit(State(keys): State<Keys>, mut request: Request, next: Next) -> Response {
    let log_in = request.uri().path() == "/v1/sessions" && request.method() == http::Method::POST;
    if log_in && !request.headers().contains_key(http::header::AUTHORIZATION) {
        front::strip(request.headers_mut());
        return next.run(request).await;
    }
    match front::admit(&keys, request.headers_mut(), DeadlineMs::STANDARD) {
        Ok(admitted) => {
            if let cellar_server::Caller::Service { .. } | cellar_server::Caller::Operator { .. } = admitted.caller
                && let Err(problem) = admitted.caller.require(Scope::Users)
            {
                return HttpProblem(problem).into_response();
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
#[utoipa::path(post, path = "/v1/users", tag = "accounts", responses(
    (status = 201, description = "The user's id, tier and region"),
    (status = 409, description = "The e-mail, or the id, belongs to another account")))]
pub(crate) async fn sign_up(
    State(state): State<PublicSignUp>,
    caller: Caller,
    headers: HeaderMap,
    JsonBody(body): JsonBody<SignUpBody>,
) -> Result<Response, AccountsError> {
    if caller.session().is_some() {
        return Err(Problem::new(ProblemType::Forbidden).into());
    }
    if body.region.as_ref().is_some_and(|region| *region != state.region) {
        return Err(Problem::new(ProblemType::Invalid)
            .detail(format!("this cell serves {} only", state.region))
            .into());
    }
    let caller = headers.get(header::CALLER).and_then(|name| name.to_str().ok()?.parse().ok());
    let placed = PlacedSignUp {
        user_id: body.user_id.clone().unwrap_or_else(|| UserId::mint(&state.region, uuid::Uuid::now_v7().as_u128())),
        region: state.region.clone(),
        intent: intent(caller.as_ref(), idempotency_key(&headers)?.as_deref()),
        body,
    };
    let signed_up = state.accounts.sign_up(placed).await?;
    Ok((StatusCode::CREATED, axum::Json(signed_up)).into_response())
}

/// The same for a repeat under the same key, random without one.
fn intent(caller: Option<&KeyName>, key: Option<&str>) -> String {
    let Some(key) = key else { return hex::encode(rand::random::<[u8; 16]>()) };
    let mut hash = Sha256::new();
    hash.update(caller.map_or("", KeyName::as_str));
    hash.update([0]);
    hash.update(key);
    hex::encode(&hash.finalize()[..16])
}
