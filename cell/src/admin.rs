//! The cell's admin listener: metrics and health for anyone on it, the rest for operators.

mod keys;
mod policies;
mod users;

use crate::accounts::{Accounts, AccountsError};
use crate::audits::Audits;
use crate::catalog::CatalogFollower;
use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use cellar_directory::{OpenDirectory, catalog, pages};
use cellar_model::wire::{CellDecisions, CellInstances, CellShards, Explanations, LedgerExport, LedgerRow};
use cellar_model::{Problem, ProblemType, RegionName, RequestKey, Revision, Scope, TierDocument, TierName, UserId};
use cellar_quota::{Quota, QuotaError, rollout};
use cellar_server::{HttpProblem, JsonBody, Keys};
use http::StatusCode;
use serde::Deserialize;
use std::sync::Arc;

#[derive(Clone)]
pub(crate) struct AdminState {
    pub(crate) quota: Quota,
    pub(crate) audits: Audits,
    pub(crate) accounts: Accounts,
    pub(crate) catalog: Arc<CatalogFollower<OpenDirectory>>,
    pub(crate) directory: OpenDirectory,
    pub(crate) keys: Keys,
    pub(crate) region: RegionName,
    pub(crate) public: bool,
    pub(crate) session_lasts_h: u32,
}

/// `/admin/v1/…`, for operator keys.
pub(crate) fn routes(state: AdminState) -> Router {
    let mut routes = Router::new()
        .route("/admin/v1/audit", get(audit))
        .route("/admin/v1/accounts", get(accounts))
        .route("/admin/v1/instances", get(instances))
        .route("/admin/v1/instances/{life}/fence", post(fence))
        .route("/admin/v1/shards", get(shards))
        .route("/admin/v1/decisions", get(decisions))
        .route("/admin/v1/explain", get(explain))
        .route("/admin/v1/ledger", get(ledger_months))
        .route("/admin/v1/ledger/{month}", post(ledger_page).put(ledger_exported))
        .route("/admin/v1/mac-keys", get(keys::mac))
        .route("/admin/v1/users", get(users::export))
        .route("/admin/v1/users/import-placed", post(users::import_placed))
        .route("/admin/v1/policies/{name}/{version}/check", post(policies::check))
        .route("/admin/v1/tiers/check", post(check_tier));
    if state.public {
        // Without a router the catalog is changed here.
        routes = routes
            .route("/admin/v1/tiers", get(tiers))
            .route("/admin/v1/tiers/{name}", get(tier).put(put_tier))
            .route("/admin/v1/tiers/{name}/history", get(history))
            .route("/admin/v1/policies", get(policies::all))
            .route("/admin/v1/policies/{name}/{version}", get(policies::artifact).put(policies::put))
            .route("/admin/v1/policy-floors", get(policies::floors))
            .route("/admin/v1/policy-floors/{name}", put(policies::put_floor))
            .route("/admin/v1/users/import", post(users::import))
            .route("/admin/v1/keys", get(keys::all))
            .route("/admin/v1/keys/{name}", put(keys::put))
            .route("/admin/v1/keys/{name}/rotate", post(keys::rotate))
            .route("/admin/v1/keys/{name}/revoke", post(keys::revoke));
        // … and the directory is read here.
        routes = routes
            .route("/admin/v1/directory/homes", get(homes))
            .route("/admin/v1/directory/claims", get(claims))
            .route("/admin/v1/users/{id}", get(user));
    }
    let keys = state.keys.clone();
    routes.layer(axum::middleware::from_fn_with_state(keys, operators_only)).with_state(state)
}

async fn operators_only(State(keys): State<Keys>, request: Request, next: Next) -> Response {
    match keys.authenticate(request.headers()).and_then(|caller| caller.require(Scope::Admin)) {
        Ok(()) => next.run(request).await,
        Err(problem) => HttpProblem(problem).into_response(),
    }
}

#[derive(Deserialize)]
struct After {
    after: Option<UserId>,
}

/// A page of the books, user by user.
async fn audit(State(state): State<AdminState>, Query(query): Query<After>) -> Result<Response, HttpProblem> {
    let page = async {
        // Counted first: what comes after it shows in the page or not at all.
        let undrained = state.quota.undrained().await?;
        state.quota.audit().page(query.after.as_ref(), undrained).await
    };
    let page = page.await.map_err(unreadable)?;
    state.audits.shown(query.after.as_ref(), &page);
    Ok(axum::Json(page).into_response())
}

#[derive(Deserialize)]
struct WhichAccounts {
    after: Option<UserId>,
    user: Option<UserId>,
}

/// Whom this cell has: a page, or one of them.
async fn accounts(
    State(state): State<AdminState>,
    Query(query): Query<WhichAccounts>,
) -> Result<Response, AccountsError> {
    let page = match &query.user {
        Some(user) => state.accounts.account(user).await?,
        None => state.accounts.accounts_page(query.after.as_ref()).await?,
    };
    Ok(axum::Json(page).into_response())
}

#[derive(Deserialize)]
struct From {
    after: Option<String>,
}

/// A page of all homes.
async fn homes(State(state): State<AdminState>, Query(from): Query<From>) -> Result<Response, HttpProblem> {
    let page = pages::homes(&state.directory, from.after).await.map_err(|_| directory_down())?;
    Ok(axum::Json(page).into_response())
}

/// A page of all claims.
async fn claims(State(state): State<AdminState>, Query(from): Query<From>) -> Result<Response, HttpProblem> {
    let page = pages::claims(&state.directory, from.after).await.map_err(|_| directory_down())?;
    Ok(axum::Json(page).into_response())
}

/// Where a user lives.
async fn user(State(state): State<AdminState>, Path(id): Path<String>) -> Result<Response, HttpProblem> {
    use cellar_directory::Homes;
    let user = UserId::new(&id).map_err(|error| Problem::new(ProblemType::Invalid).detail(error.to_string()))?;
    let home = state.directory.read_home(&user).await.map_err(|_| directory_down())?;
    let home = pages::home(home.ok_or(ProblemType::UnknownUser)?);
    Ok(axum::Json(serde_json::json!({
        "user_id": user, "region": state.region, "cell": home.cell, "epoch": home.epoch, "state": home.state,
        "source": "directory",
    }))
    .into_response())
}

/// The cell's shards, and what of each the ledger lacks.
async fn shards(State(state): State<AdminState>) -> Result<axum::Json<CellShards>, HttpProblem> {
    let shards = state.quota.shards().await.map_err(unreadable)?;
    Ok(axum::Json(CellShards { undrained: shards.iter().map(|shard| shard.undrained).sum(), shards }))
}

/// The lives of the cell's processes.
async fn instances(State(state): State<AdminState>) -> Result<axum::Json<CellInstances>, HttpProblem> {
    let instances = state.quota.instances().await.map_err(unreadable)?;
    Ok(axum::Json(CellInstances { instances }))
}

/// An operator's word that a life is over: nobody waits for what it may have acknowledged.
async fn fence(State(state): State<AdminState>, Path(life): Path<String>) -> Result<StatusCode, HttpProblem> {
    let known = state.quota.fence_instance(&life).await.map_err(unreadable)?;
    if known { Ok(StatusCode::NO_CONTENT) } else { Err(ProblemType::NotFound.into()) }
}

fn unreadable(error: QuotaError) -> HttpProblem {
    tracing::warn!(error = &error as &dyn std::error::Error, "the cell's books cannot be read or written");
    ProblemType::TryAgain.into()
}

fn unread(error: QuotaError) -> HttpProblem {
    tracing::warn!(error = &error as &dyn std::error::Error, "the ledger cannot be read");
    ProblemType::TryAgain.into()
}

/// The months of the ledger, oldest first.
async fn ledger_months(State(state): State<AdminState>) -> Result<Response, HttpProblem> {
    Ok(axum::Json(state.quota.ledger().months().await.map_err(unread)?).into_response())
}

#[derive(Deserialize)]
struct WithChecks {
    #[serde(default)]
    checks: bool,
}

/// Rows of a month after the one sent (`null`: from its first).
async fn ledger_page(
    State(state): State<AdminState>,
    Path(month): Path<String>,
    Query(with): Query<WithChecks>,
    JsonBody(after): JsonBody<Option<LedgerRow>>,
) -> Result<Response, HttpProblem> {
    let ledger = state.quota.ledger();
    let page = match with.checks {
        true => ledger.page_with_checks(&month, after.as_ref()).await,
        false => ledger.page(&month, after.as_ref()).await,
    };
    let page = page.map_err(unread)?;
    let odd = || Problem::new(ProblemType::Invalid).detail("a month is written as 2023-11");
    Ok(axum::Json(page.ok_or_else(odd)?).into_response())
}

/// Remembers a complete export: 409 if the month has other rows by now.
async fn ledger_exported(
    State(state): State<AdminState>,
    Path(month): Path<String>,
    JsonBody(export): JsonBody<LedgerExport>,
) -> Result<StatusCode, HttpProblem> {
    if state.quota.ledger().mark_exported(&month, export.rows, &export.sha256).await.map_err(unread)? {
        return Ok(StatusCode::NO_CONTENT);
    }
    let detail = "the month has another number of rows by now: export it again";
    Err(HttpProblem(Problem::new(ProblemType::Conflict).detail(detail)))
}

/// What this process has counted of shadows and candidates.
async fn decisions(State(state): State<AdminState>) -> axum::Json<CellDecisions> {
    let tiers = state.catalog.tiers().borrow().clone();
    axum::Json(CellDecisions { processes: vec![rollout::report(&tiers)] })
}

#[derive(Deserialize)]
struct WhichRequest {
    request_id: String,
}

/// What this process remembers of a request, among its last decisions.
async fn explain(
    State(state): State<AdminState>,
    Query(which): Query<WhichRequest>,
) -> Result<axum::Json<Explanations>, HttpProblem> {
    let request = RequestKey::of(&which.request_id);
    if !request.is_some() {
        return Err(HttpProblem(Problem::new(ProblemType::Invalid).detail("request_id names the request")));
    }
    Ok(axum::Json(Explanations { processes: vec![state.quota.explain(request)] }))
}

/// 204 if this document could be put in force, else everything that is wrong with it.
async fn check_tier(
    State(state): State<AdminState>,
    JsonBody(document): JsonBody<TierDocument>,
) -> Result<StatusCode, HttpProblem> {
    match state.catalog.check(&document).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(errors) => Err(HttpProblem(Problem::new(ProblemType::Invalid).errors(errors))),
    }
}

async fn tiers(State(state): State<AdminState>) -> Result<Response, HttpProblem> {
    let catalog = catalog::read(&state.directory).await.map_err(|_| directory_down())?;
    Ok(axum::Json(catalog.tiers).into_response())
}

async fn tier(State(state): State<AdminState>, Path(name): Path<TierName>) -> Result<Response, HttpProblem> {
    let catalog = catalog::read(&state.directory).await.map_err(|_| directory_down())?;
    let tier = catalog.tiers.into_iter().find(|tier| tier.document.name == name);
    Ok(axum::Json(tier.ok_or(ProblemType::NotFound)?).into_response())
}

/// A tier's revisions, newest first.
async fn history(State(state): State<AdminState>, Path(name): Path<TierName>) -> Result<Response, HttpProblem> {
    let history = catalog::tier_history(&state.directory, &name).await.map_err(|_| directory_down())?;
    if history.is_empty() {
        return Err(ProblemType::NotFound.into());
    }
    Ok(axum::Json(history).into_response())
}

#[derive(Deserialize)]
struct PutTier {
    #[serde(default)]
    dry_run: bool,
    /// The revision that the document was made from; 0: there was no such tier.
    expected: Option<Revision>,
}

impl PutTier {
    /// What has to be in force for the document to come after it; `held` if nobody says.
    fn expected(&self, held: Option<Revision>) -> Option<Revision> {
        self.expected.map_or(held, |expected| (expected != Revision(0)).then_some(expected))
    }
}

/// Puts a tier in force, or with `dry_run` says what would change and what is wrong.
async fn put_tier(
    State(state): State<AdminState>,
    Path(name): Path<TierName>,
    Query(query): Query<PutTier>,
    JsonBody(document): JsonBody<TierDocument>,
) -> Result<Response, HttpProblem> {
    if document.name != name {
        return Err(HttpProblem(Problem::new(ProblemType::Invalid).detail("the document names another tier")));
    }
    let held = catalog::read(&state.directory).await.map_err(|_| directory_down())?;
    let revision = held.revision_of(&name);
    let before = held.tiers.into_iter().find(|tier| tier.document.name == name);
    let problems = state.catalog.check(&document).await.err().unwrap_or_default();
    if query.dry_run {
        let before = before.map(|tier| tier.document);
        let answer =
            serde_json::json!({ "before": before, "revision": revision, "after": document, "problems": problems });
        return Ok(axum::Json(answer).into_response());
    }
    if !problems.is_empty() {
        return Err(HttpProblem(Problem::new(ProblemType::Invalid).errors(problems)));
    }
    match catalog::put_tier(&state.directory, &document, query.expected(revision)).await {
        Ok(catalog::Put::Done(revision)) => {
            state.catalog.follow_now().await;
            Ok(axum::Json(serde_json::json!({ "name": name, "revision": revision })).into_response())
        }
        Ok(catalog::Put::Stale(_)) => {
            Err(HttpProblem(Problem::new(ProblemType::Conflict).detail("the tier has changed meanwhile")))
        }
        Err(_) => Err(directory_down()),
    }
}

fn directory_down() -> HttpProblem {
    HttpProblem(Problem::new(ProblemType::TryAgain).detail("the directory does not answer"))
}
