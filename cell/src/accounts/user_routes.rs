//! The routes about one whole account: as its user asks, and as a service key asks about anybody's.

use super::caller::Caller;
use super::details::DetailsRow;
use super::etag::IfMatch;
use super::named::Named;
use super::password::By;
use super::terms::NewTerms;
use super::{Accounts, AccountsError};
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cellar_model::wire::{PasswordBody, TierBody};
use cellar_model::{PresentedSession, Secret, UserId};
use cellar_server::{JsonBody, QueryOf};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Of the caller's own account, or the one a service key names in `Cellar-User`.
pub(super) fn own_routes() -> OpenApiRouter<Accounts> {
    OpenApiRouter::new().routes(routes!(erase_own)).routes(routes!(change_own_password)).routes(routes!(export_own))
}

/// Of the account that the path names, for service keys alone.
pub(crate) fn named_routes(accounts: Accounts) -> OpenApiRouter {
    OpenApiRouter::new()
        .routes(routes!(show, erase))
        .routes(routes!(change_tier))
        .routes(routes!(block, unblock))
        .routes(routes!(change_password))
        .routes(routes!(export))
        .with_state(accounts)
}

/// Erases the account.
#[utoipa::path(delete, path = "/v1/user")]
async fn erase_own(State(accounts): State<Accounts>, caller: Caller) -> Result<StatusCode, AccountsError> {
    // Of a key a repeat finds the user erased already.
    let user = match caller.user.clone().filter(|_| caller.is_key()) {
        Some(user) => user,
        None => accounts.authorize(&caller).await?,
    };
    accounts.erase(&user).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Changes the password, and logs out everywhere; with `keep=current`, everywhere else.
///
/// A session says the present password as well.
#[utoipa::path(put, path = "/v1/user/password")]
async fn change_own_password(
    State(accounts): State<Accounts>,
    caller: Caller,
    QueryOf(query): QueryOf<Keep>,
    JsonBody(body): JsonBody<PasswordBody>,
) -> Result<StatusCode, AccountsError> {
    let user = accounts.authorize(&caller).await?;
    let keep = query.session(&caller)?;
    let by = match (caller.is_key(), body.current_password) {
        (true, None) => By::Key,
        (_, Some(current)) => By::Session { current: Secret::new(current) },
        (false, None) => return Err(AccountsError::invalid("/current_password", "is missing")),
    };
    accounts.change_password(&user, Secret::new(body.password), by, keep).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Everything about the person: account, preferences, sessions, quota, and every row of the ledger.
#[utoipa::path(get, path = "/v1/user/export")]
async fn export_own(State(accounts): State<Accounts>, caller: Caller) -> Result<Response, AccountsError> {
    let user = accounts.authorize(&caller).await?;
    accounts.export(&user).await
}

/// The account, also one that is blocked.
#[utoipa::path(get, path = "/v1/internal/users/{id}")]
async fn show(State(accounts): State<Accounts>, named: Named, headers: HeaderMap) -> Result<Response, AccountsError> {
    let user = accounts.named(named).await?;
    let details = accounts.details(&user).await?;
    if let Some(unchanged) = details.tag().known_to(&headers)? {
        return Ok((unchanged, [details.tag().header()]).into_response());
    }
    answer(details, &user)
}

fn answer(details: DetailsRow, user: &UserId) -> Result<Response, AccountsError> {
    Ok(([details.tag().header()], Json(details.body(user)?)).into_response())
}

/// Erases the account.
#[utoipa::path(delete, path = "/v1/internal/users/{id}")]
async fn erase(State(accounts): State<Accounts>, named: Named) -> Result<StatusCode, AccountsError> {
    let user = accounts.named(named).await?;
    accounts.erase(&user).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Puts the user in another tier. What was spent stays spent, wherever the new tier has the same policy.
#[utoipa::path(put, path = "/v1/internal/users/{id}/tier")]
async fn change_tier(
    State(accounts): State<Accounts>,
    named: Named,
    headers: HeaderMap,
    JsonBody(body): JsonBody<TierBody>,
) -> Result<Response, AccountsError> {
    let user = accounts.named(named).await?;
    accounts.change_terms(&user, NewTerms::Tier(body.tier), &IfMatch::of(&headers)?).await?;
    answer(accounts.details(&user).await?, &user)
}

/// Blocks the account: no session, no log-in, no spending. What was spent before is still settled.
#[utoipa::path(put, path = "/v1/internal/users/{id}/block")]
async fn block(State(accounts): State<Accounts>, named: Named) -> Result<StatusCode, AccountsError> {
    set_blocked(&accounts, named, true).await
}

/// Ends a block. Sessions that were not over before it are in force again.
#[utoipa::path(delete, path = "/v1/internal/users/{id}/block")]
async fn unblock(State(accounts): State<Accounts>, named: Named) -> Result<StatusCode, AccountsError> {
    set_blocked(&accounts, named, false).await
}

async fn set_blocked(accounts: &Accounts, named: Named, blocked: bool) -> Result<StatusCode, AccountsError> {
    let user = accounts.named(named).await?;
    let unconditionally = IfMatch::default();
    let change = accounts.change_terms(&user, NewTerms::Blocked(blocked), &unconditionally);
    if blocked {
        accounts.revoking(change).await?
    } else {
        change.await?
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Gives the account another password, and logs out everywhere.
#[utoipa::path(put, path = "/v1/internal/users/{id}/password")]
async fn change_password(
    State(accounts): State<Accounts>,
    named: Named,
    JsonBody(body): JsonBody<PasswordBody>,
) -> Result<StatusCode, AccountsError> {
    let user = accounts.named(named).await?;
    let by = match body.current_password {
        None => By::Key,
        Some(current) => By::Session { current: Secret::new(current) },
    };
    accounts.change_password(&user, Secret::new(body.password), by, None).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Everything about the person: account, preferences, sessions, quota, and every row of the ledger.
#[utoipa::path(get, path = "/v1/internal/users/{id}/export")]
async fn export(State(accounts): State<Accounts>, named: Named) -> Result<Response, AccountsError> {
    let user = accounts.named(named).await?;
    accounts.export(&user).await
}

/// Which session a log-out everywhere is to leave.
#[derive(Deserialize)]
pub(super) struct Keep {
    keep: Option<String>,
}

impl Keep {
    pub(super) fn session<'c>(&self, caller: &'c Caller) -> Result<Option<&'c PresentedSession>, AccountsError> {
        match self.keep.as_deref() {
            None => Ok(None),
            Some("current") => {
                let current = caller.session();
                Ok(Some(current.ok_or_else(|| AccountsError::invalid("", "only a session has a current one"))?))
            }
            Some(_) => Err(AccountsError::invalid("", "keep is `current` or absent")),
        }
    }
}
