//! Tiers and policies: shown, checked by a cell, put in force.

use super::{AdminState, DryRun, cells, failed};
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cellar_directory::catalog::{self, Put};
use cellar_directory::{Digest, PolicyEntry};
use cellar_model::{
    ARTIFACT_BYTES_MAX, PolicyName, Problem, ProblemType, Revision, SettingProblem, TierDocument, TierName,
};
use cellar_server::{HttpProblem, JsonBody};
use http::{HeaderMap, Method, StatusCode};
use serde::Deserialize;

/// The most bytes of a cell's judgement on a tier.
const JUDGEMENT_BYTES_MAX: usize = 256 * 1024;
const VERSION_BYTES_MAX: usize = 32;
/// How a WebAssembly component begins. A core module has 1, 0, 0, 0 after the first four bytes.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

pub(super) async fn all(State(state): State<AdminState>) -> Result<Response, HttpProblem> {
    let catalog = catalog::read(&state.directory).await.map_err(failed)?;
    Ok(axum::Json(catalog.tiers).into_response())
}

pub(super) async fn one(State(state): State<AdminState>, Path(name): Path<String>) -> Result<Response, HttpProblem> {
    let catalog = catalog::read(&state.directory).await.map_err(failed)?;
    let tier = catalog.tiers.into_iter().find(|tier| tier.document.name.as_str() == name);
    Ok(axum::Json(tier.ok_or(ProblemType::NotFound)?).into_response())
}

/// Puts a tier in force; with `dry_run` says what would change and what is wrong.
pub(super) async fn put(
    State(state): State<AdminState>,
    Path(name): Path<TierName>,
    Query(query): Query<DryRun>,
    headers: HeaderMap,
    JsonBody(document): JsonBody<TierDocument>,
) -> Result<Response, HttpProblem> {
    if document.name != name {
        return Err(Problem::new(ProblemType::Invalid).detail("the document names another tier").into());
    }
    let held = catalog::read(&state.directory).await.map_err(failed)?;
    let before = held.tiers.into_iter().find(|tier| tier.document.name == name);
    let problems = check(&state, &headers, &document).await?;
    if query.dry_run {
        let before = before.map(|tier| tier.document);
        let answer = serde_json::json!({ "before": before, "after": document, "problems": problems });
        return Ok(axum::Json(answer).into_response());
    }
    if !problems.is_empty() {
        return Err(Problem::new(ProblemType::Invalid).errors(problems).into());
    }
    let put = catalog::put_tier(&state.directory, &document, before.map(|tier| tier.revision)).await.map_err(failed)?;
    Ok(axum::Json(serde_json::json!({ "name": name, "revision": done(put)? })).into_response())
}

/// What is wrong with a document, in the words of a cell: cells have the policies that settings are
/// for. Any one of them will do, since all follow the same catalog.
async fn check(
    state: &AdminState,
    headers: &HeaderMap,
    document: &TierDocument,
) -> Result<Vec<SettingProblem>, HttpProblem> {
    let map = state.routing.map().ok_or(ProblemType::TryAgain)?;
    let body = serde_json::to_vec(document).map_err(|_| ProblemType::Internal)?;
    let mut last = HttpProblem::from(ProblemType::TryAgain);
    for cell in map.cells() {
        let asked = cells::send(cell, Method::POST, "/admin/v1/tiers/check", headers, body.clone()).await;
        match asked {
            Ok(response) if response.status() == StatusCode::NO_CONTENT => return Ok(Vec::new()),
            Ok(response) if response.status() == StatusCode::UNPROCESSABLE_ENTITY => return judgement(response).await,
            Ok(response) => {
                let status = response.status().as_u16();
                let detail = format!("cell {} answers {status} to a tier's check", cell.name());
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

/// Adds a policy version. One that is there is never changed, so what no cell would let in is refused
/// here, as far as that shows without a compiler.
pub(super) async fn put_policy(
    State(state): State<AdminState>,
    Path((name, version)): Path<(PolicyName, String)>,
    body: Body,
) -> Result<Response, HttpProblem> {
    let numbers: Vec<&str> = version.split('.').collect();
    if version.len() > VERSION_BYTES_MAX || numbers.len() != 3 || numbers.iter().any(|n| n.parse::<u32>().is_err()) {
        return Err(Problem::new(ProblemType::Invalid).detail("a version is three numbers, 1.4.2").into());
    }
    let artifact = read_artifact(body).await?;
    let entry = PolicyEntry { name, version, digest: Digest::of(&artifact) };
    let put = catalog::put_policy(&state.directory, &entry, &artifact).await.map_err(failed)?;
    done(put)?;
    Ok(axum::Json(entry).into_response())
}

async fn read_artifact(body: Body) -> Result<Bytes, Problem> {
    let artifact = axum::body::to_bytes(body, ARTIFACT_BYTES_MAX).await.map_err(|_| {
        Problem::new(ProblemType::TooLarge).detail(format!("an artifact has at most {ARTIFACT_BYTES_MAX} bytes"))
    })?;
    if !artifact.starts_with(COMPONENT) {
        return Err(Problem::new(ProblemType::Invalid).detail("not a WebAssembly component"));
    }
    Ok(artifact)
}

fn done(put: Put) -> Result<Revision, HttpProblem> {
    match put {
        Put::Done(revision) => Ok(revision),
        Put::Stale(_) => {
            Err(Problem::new(ProblemType::Conflict).detail("something else is in force there meanwhile").into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_no_cell_would_let_in_is_refused_at_the_door() {
        let sent = |bytes: Vec<u8>| async { read_artifact(bytes.into()).await.map_err(|problem| problem.kind) };
        assert!(sent(COMPONENT.to_vec()).await.is_ok());
        for odd in [&b""[..], b"\0asm", b"\0asm\x01\0\0\0", b"MZ"] {
            assert_eq!(sent(odd.to_vec()).await, Err(ProblemType::Invalid), "{odd:?}");
        }
        let mut large = COMPONENT.to_vec();
        large.resize(ARTIFACT_BYTES_MAX, 0);
        assert!(sent(large.clone()).await.is_ok());
        large.push(0);
        assert_eq!(sent(large).await, Err(ProblemType::TooLarge));
    }
}
