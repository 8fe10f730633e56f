//! The public door of a cell without a router: what the router does before it forwards, done here.

use crate::accounts::{Accounts, AccountsError};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use cellar_directory::Email;
use cellar_model::wire::{PlacedSignUp, SignUpBody};
use cellar_model::{DeadlineMs, KeyName, Problem, ProblemType, RegionName, Scope, SettingProblem, UserId, header};
use cellar_server::{
    Attempts, HttpProblem, JsonBody, Keys, PathPart, TrustedProxies, front, idempotency_key, sign_up_intent,
    write_caller_address,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use std::net::IpAddr;
use std::sync::Arc;

/// What a request needs to come in.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) keys: Keys,
    /// A key needs one of these.
    pub(crate) scopes: &'static [Scope],
    pub(crate) proxies: TrustedProxies,
    /// Log-ins by password that failed.
    pub(crate) by_address: Arc<Attempts>,
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
pub(crate) async fn admit(State(door): State<Door>, request: Request, next: Next) -> Response {
    let log_in = request.uri().path() == "/v1/sessions" && request.method() == http::Method::POST;
    let (mut parts, body) = request.into_parts();
    let address = door.proxies.caller(&parts).filter(|_| log_in);
    if log_in && !parts.headers.contains_key(http::header::AUTHORIZATION) {
        front::strip(&mut parts.headers);
        write_address(&mut parts.headers, address);
        return door.log_in(Request::from_parts(parts, body), address, next).await;
    }
    match front::admit(&door.keys, &mut parts.headers, DeadlineMs::STANDARD) {
        Ok(admitted) => {
            write_address(&mut parts.headers, address);
            let request = Request::from_parts(parts, body);
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

/// Says whom the path names, as a router would. A path that names nobody is 404.
pub(crate) async fn name_user(
    State(accounts): State<Accounts>,
    PathPart(id): PathPart,
    mut request: Request,
    next: Next,
) -> Response {
    let user = match named(&accounts, &id).await {
        Ok(user) => user,
        Err(error) => return error.into_response(),
    };
    let told = request.headers().get(header::USER).is_some_and(|told| told.as_bytes() != user.as_str().as_bytes());
    let by_key = request.headers().get(header::SESSION).is_none();
    if told && by_key {
        let detail = "the path and the header Cellar-User name two users";
        return HttpProblem(Problem::new(ProblemType::Invalid).detail(detail)).into_response();
    }
    // An id's characters are all plain.
    if by_key && let Ok(value) = HeaderValue::from_str(user.as_str()) {
        request.headers_mut().insert(header::USER, value);
    }
    next.run(request).await
}

/// By id, or by e-mail: no id has an @.
async fn named(accounts: &Accounts, id: &str) -> Result<UserId, AccountsError> {
    let unknown = || AccountsError::from(ProblemType::UnknownUser);
    if !id.contains('@') {
        return UserId::new(id).map_err(|_| unknown());
    }
    let email = Email::parse(id).map_err(|_| unknown())?;
    accounts.user_of(&email).await?.ok_or_else(unknown)
}

fn write_address(headers: &mut HeaderMap, address: Option<IpAddr>) {
    if let Some(address) = address {
        write_caller_address(headers, address);
    }
}

impl Door {
    /// By password, counted for the caller's address if it fails.
    async fn log_in(&self, request: Request, address: Option<IpAddr>, next: Next) -> Response {
        let Some(address) = address else { return next.run(request).await };
        let attempt = match self.by_address.take_address(address) {
            Ok(attempt) => attempt,
            Err(problem) => return HttpProblem(problem).into_response(),
        };
        let answer = next.run(request).await;
        if !matches!(answer.status(), StatusCode::UNAUTHORIZED | StatusCode::TOO_MANY_REQUESTS) {
            self.by_address.give_back(attempt);
        }
        answer
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
