//! The operators' API: catalog, topology, users, and what cells say of themselves.

mod cells;
mod judgement;
mod keys;
mod policies;
mod tiers;
mod topology;
mod users;

use crate::route::Routing;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use cellar_directory::{DirectoryError, ErrorKind, OpenDirectory, Peppers, UserHome, pages};
use cellar_model::{Problem, ProblemType, RegionName, Scope, UserId};
use cellar_server::{HttpProblem, Keys};
use std::sync::Arc;

/// Whether what a document would do is only to be said.
#[derive(serde::Deserialize)]
struct DryRun {
    #[serde(default)]
    dry_run: bool,
}

#[derive(Clone)]
pub(crate) struct AdminState {
    pub(crate) directory: OpenDirectory,
    pub(crate) routing: Arc<Routing>,
    pub(crate) keys: Keys,
    pub(crate) peppers: Peppers,
    /// Where users live who name no region.
    pub(crate) region: RegionName,
}

/// `/admin/v1/…`, for operator keys.
pub(crate) fn routes(state: AdminState) -> Router {
    let keys = state.keys.clone();
    Router::new()
        .route("/admin/v1/tiers", get(tiers::all))
        .route("/admin/v1/tiers/{name}", get(tiers::one).put(tiers::put))
        .route("/admin/v1/tiers/{name}/history", get(tiers::history))
        .route("/admin/v1/policies", get(policies::all))
        .route("/admin/v1/policies/{name}/{version}", get(policies::artifact).put(policies::put))
        .route("/admin/v1/policy-floors", get(policies::floors))
        .route("/admin/v1/policy-floors/{name}", put(policies::put_floor))
        .route("/admin/v1/users/import", post(users::import))
        .route("/admin/v1/keys", get(keys::all))
        .route("/admin/v1/keys/{name}", put(keys::put))
        .route("/admin/v1/keys/{name}/rotate", post(keys::rotate))
        .route("/admin/v1/keys/{name}/revoke", post(keys::revoke))
        .route("/admin/v1/mac-keys", get(keys::mac))
        .route("/admin/v1/topology", get(topology::show).put(topology::put))
        .route("/admin/v1/topology/count", post(topology::count))
        .route("/admin/v1/users/{id}", get(user))
        .route("/admin/v1/directory/homes", get(homes))
        .route("/admin/v1/directory/claims", get(claims))
        .route("/admin/v1/cells/{cell}/{what}", get(cells::ask))
        .route("/admin/v1/cells/{cell}/decisions", get(cells::decisions))
        .route("/admin/v1/cells/{cell}/explain", get(cells::explain))
        .route("/admin/v1/cells/{cell}/ledger/{month}", post(cells::ledger).put(cells::ledger))
        .route("/admin/v1/cells/{cell}/instances/{life}/fence", post(cells::fence))
        .layer(axum::middleware::from_fn_with_state(keys, operators_only))
        .with_state(state)
}

async fn operators_only(State(keys): State<Keys>, request: Request<Body>, next: Next) -> Response {
    match keys.authenticate(request.headers()).and_then(|caller| caller.require(Scope::Admin)) {
        Ok(()) => next.run(request).await,
        Err(problem) => HttpProblem(problem).into_response(),
    }
}

/// Where a user lives, and who says so: the directory, or without it this router's own knowledge.
async fn user(State(state): State<AdminState>, Path(id): Path<String>) -> Result<Response, HttpProblem> {
    use cellar_directory::Homes;
    let user = UserId::new(&id).map_err(|error| Problem::new(ProblemType::Invalid).detail(error.to_string()))?;
    let found = match state.directory.read_home(&user).await {
        Ok(row) => by_directory(row.ok_or(ProblemType::UnknownUser)?),
        Err(error) if matches!(error.kind(), ErrorKind::TryAgain { .. }) => by_router(&state.routing, &user)?,
        Err(error) => return Err(failed(error)),
    };
    let (cell, epoch, home_state, source) = found;
    let map = state.routing.map();
    let region = map.and_then(|map| Some(map.topology.cell(&cell.parse().ok()?)?.0.name.clone()));
    Ok(axum::Json(serde_json::json!({
        "user_id": user, "region": region, "cell": cell, "epoch": epoch, "state": home_state, "source": source,
    }))
    .into_response())
}

type Found = (String, Option<u64>, Option<String>, &'static str);

fn by_directory(row: UserHome) -> Found {
    let home = pages::home(row);
    (home.cell.to_string(), Some(home.epoch.0), Some(home.state), "directory")
}

#[derive(serde::Deserialize)]
struct From {
    after: Option<String>,
}

/// A page of all homes.
async fn homes(State(state): State<AdminState>, Query(from): Query<From>) -> Result<Response, HttpProblem> {
    Ok(axum::Json(pages::homes(&state.directory, from.after).await.map_err(failed)?).into_response())
}

/// A page of all claims.
async fn claims(State(state): State<AdminState>, Query(from): Query<From>) -> Result<Response, HttpProblem> {
    Ok(axum::Json(pages::claims(&state.directory, from.after).await.map_err(failed)?).into_response())
}

fn by_router(routing: &Routing, user: &UserId) -> Result<Found, HttpProblem> {
    if let Some((cell, epoch)) = routing.exception(user) {
        return Ok((cell.to_string(), Some(epoch.0), None, "exception"));
    }
    let map = routing.map().ok_or(ProblemType::TryAgain)?;
    Ok((map.ring_owner(user).to_string(), None, None, "ring"))
}

/// What became of a question to the directory.
fn failed(error: DirectoryError) -> HttpProblem {
    tracing::warn!(error = &error as &dyn std::error::Error, "the directory did not do what an operator asked");
    error.problem().into()
}
