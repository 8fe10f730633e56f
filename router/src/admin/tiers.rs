//! Tiers: shown, checked by a cell, put in force.

use super::judgement::{self, Judgement};
use super::{AdminState, failed};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use cellar_directory::catalog;
use cellar_model::{Problem, ProblemType, Revision, TierDocument, TierName};
use cellar_server::{HttpProblem, JsonBody};
use http::HeaderMap;
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
    let revision = held.revision_of(&name);
    let before = held.tiers.into_iter().find(|tier| tier.document.name == name);
    let asked = serde_json::to_vec(&document).map_err(|_| ProblemType::Internal)?;
    // Cells have the policies that settings are for.
    let Judgement { problems, silent } = judgement::of_cells(&state, &headers, "/admin/v1/tiers/check", asked).await?;
    if query.dry_run {
        let before = before.map(|tier| tier.document);
        let answer = serde_json::json!({
            "before": before, "revision": revision, "after": document, "problems": problems, "silent": silent,
        });
        return Ok(axum::Json(answer).into_response());
    }
    if !problems.is_empty() {
        return Err(Problem::new(ProblemType::Invalid).errors(problems).into());
    }
    let put = catalog::put_tier(&state.directory, &document, query.expected(revision)).await.map_err(failed)?;
    Ok(axum::Json(serde_json::json!({ "name": name, "revision": put.done()?, "silent": silent })).into_response())
}
