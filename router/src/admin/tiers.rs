//! Tiers: shown, checked by a cell, put in force.

use super::{AdminState, cells, failed};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use cellar_directory::catalog::{self, Put};
use cellar_model::{Problem, ProblemType, Revision, SettingProblem, TierDocument, TierName};
use cellar_server::{HttpProblem, JsonBody};
use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;

#[derive(Deserialize)]
pub(super) struct PutTier {
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

/// The most bytes of a cell's judgement.
const JUDGEMENT_BYTES_MAX: usize = 256 * 1024;

pub(super) async fn all(State(state): State<AdminState>) -> Result<Response, HttpProblem> {
    let catalog = catalog::read(&state.directory).await.map_err(failed)?;
    Ok(axum::Json(catalog.tiers).into_response())
}

pub(super) async fn one(State(state): State<AdminState>, Path(name): Path<String>) -> Result<Response, HttpProblem> {
    let catalog = catalog::read(&state.directory).await.map_err(failed)?;
    let tier = catalog.tiers.into_iter().find(|tier| tier.document.name.as_str() == name);
    Ok(axum::Json(tier.ok_or(ProblemType::NotFound)?).into_response())
}

/// A tier's revisions, newest first.
pub(super) async fn history(
    State(state): State<AdminState>,
    Path(name): Path<TierName>,
) -> Result<Response, HttpProblem> {
    let history = catalog::tier_history(&state.directory, &name).await.map_err(failed)?;
    if history.is_empty() {
        return Err(ProblemType::NotFound.into());
    }
    Ok(axum::Json(history).into_response())
}

/// Puts a tier in force; with `dry_run` says what would change and what is wrong.
pub(super) async fn put(
    State(state): State<AdminState>,
    Path(name): Path<TierName>,
    Query(query): Query<PutTier>,
    headers: HeaderMap,
    JsonBody(document): JsonBody<TierDocument>,
) -> Result<Response, HttpProblem> {
    if document.name != name {
        return Err(Problem::new(ProblemType::Invalid).detail("the document names another tier").into());
    }
    let held = catalog::read(&state.directory).await.map_err(failed)?;
    let before = held.tiers.into_iter().find(|tier| tier.document.name == name);
    let problems = check(&state, &headers, &document).await?;
    let revision = before.as_ref().map(|tier| tier.revision);
    if query.dry_run {
        let before = before.map(|tier| tier.document);
        let answer =
            serde_json::json!({ "before": before, "revision": revision, "after": document, "problems": problems });
        return Ok(axum::Json(answer).into_response());
    }
    if !problems.is_empty() {
        return Err(Problem::new(ProblemType::Invalid).errors(problems).into());
    }
    let put = catalog::put_tier(&state.directory, &document, query.expected(revision)).await.map_err(failed)?;
    Ok(axum::Json(serde_json::json!({ "name": name, "revision": done(put)? })).into_response())
}

/// What is wrong with a document, in the words of a cell: cells have the policies that settings are
/// for.
async fn check(
    state: &AdminState,
    headers: &HeaderMap,
    document: &TierDocument,
) -> Result<Vec<SettingProblem>, HttpProblem> {
    let body = serde_json::to_vec(document).map_err(|_| ProblemType::Internal)?;
    judged(state, headers, "/admin/v1/tiers/check", body).await
}

/// What a cell says is wrong with `body`. Any one of them will do, since all follow the same catalog.
pub(super) async fn judged(
    state: &AdminState,
    headers: &HeaderMap,
    path: &str,
    body: Vec<u8>,
) -> Result<Vec<SettingProblem>, HttpProblem> {
    let map = state.routing.map().ok_or(ProblemType::TryAgain)?;
    let mut last = HttpProblem::from(ProblemType::TryAgain);
    for cell in map.cells() {
        let asked = cells::send(cell, Method::POST, path, headers, body.clone()).await;
        match asked {
            Ok(response) if response.status() == StatusCode::NO_CONTENT => return Ok(Vec::new()),
            Ok(response) if response.status() == StatusCode::UNPROCESSABLE_ENTITY => return judgement(response).await,
            Ok(response) => {
                let status = response.status().as_u16();
                let detail = format!("cell {} answers {status} to {path}", cell.name());
                last = Problem::new(ProblemType::TryAgain).detail(detail).into();
            }
            Err(problem) => last = problem,
        }
    }
    Err(last)
}

async fn judgement(response: Response) -> Result<Vec<SettingProblem>, HttpProblem> {
    #[derive(Deserialize)]
    struct Judgement {
        detail: Option<String>,
        #[serde(default)]
        errors: Vec<SettingProblem>,
    }
    let body = axum::body::to_bytes(response.into_body(), JUDGEMENT_BYTES_MAX).await;
    let body = body.map_err(|_| ProblemType::TryAgain)?;
    let said: Judgement = serde_json::from_slice(&body).map_err(|_| ProblemType::Internal)?;
    if said.errors.is_empty() {
        // A refusal without a place is one all the same.
        let message = said.detail.unwrap_or_else(|| "the cell refuses it".to_owned());
        return Ok(vec![SettingProblem::new("", &message)]);
    }
    Ok(said.errors)
}

pub(super) fn done(put: Put) -> Result<Revision, HttpProblem> {
    match put {
        Put::Done(revision) => Ok(revision),
        Put::Stale(_) => {
            Err(Problem::new(ProblemType::Conflict).detail("something else is in force there meanwhile").into())
        }
    }
}
