//! Policies: their versions, and the floors below which none decides.

use super::judgement::{self, Judgement};
use super::{AdminState, failed};
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use cellar_artifacts::certificate_of;
use cellar_directory::{PolicyEntry, PolicyFloor, catalog, floor};
use cellar_model::{PolicyName, Problem, ProblemType, VersionNumber};
use cellar_server::{HttpProblem, JsonBody, check_version, read_upload};
use http::HeaderMap;
use serde::Deserialize;

/// The policy versions that the directory has.
pub(super) async fn all(State(state): State<AdminState>) -> Result<Response, HttpProblem> {
    let catalog = catalog::read(&state.directory).await.map_err(failed)?;
    Ok(axum::Json(catalog.policies).into_response())
}

/// The component of a policy version.
pub(super) async fn artifact(
    State(state): State<AdminState>,
    Path((name, version)): Path<(PolicyName, String)>,
) -> Result<Response, HttpProblem> {
    let found = catalog::artifact_of(&state.directory, &name, &version).await.map_err(failed)?;
    Ok(found.ok_or(ProblemType::NotFound)?.into_response())
}

#[derive(Deserialize)]
pub(super) struct PutPolicy {
    /// Although what decides now could not read what it writes.
    #[serde(default)]
    without_way_back: bool,
}

/// Adds a policy version. One that is there is never changed, so what some cell would not decide by, and what tiers
/// that name its major could not go on with or come back from, is refused here.
pub(super) async fn put(
    State(state): State<AdminState>,
    Path((name, version)): Path<(PolicyName, String)>,
    Query(query): Query<PutPolicy>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpProblem> {
    check_version(&version)?;
    let upload = read_upload(&headers, body).await?;
    let certificate = certificate_of(&upload).map_err(|error| invalid(format!("{error:#}")))?;
    let asked = serde_json::to_vec(&upload).map_err(|_| ProblemType::Internal)?;
    let waived = if query.without_way_back { "?without_way_back=true" } else { "" };
    let path = format!("/admin/v1/policies/{name}/{version}/check{waived}");
    let Judgement { problems, silent } = judgement::of_cells(&state, &headers, &path, asked).await?;
    match &problems[..] {
        [] => {}
        [problem] if problem.pointer.is_empty() => return Err(invalid(problem.message.clone())),
        _ => return Err(Problem::new(ProblemType::Invalid).errors(problems).into()),
    }
    let entry = PolicyEntry::of_upload(name, version, &upload, certificate);
    catalog::publish(&state.directory, &entry, &upload).await.map_err(failed)?.done()?;
    let mut answer = serde_json::to_value(entry).map_err(|_| ProblemType::Internal)?;
    answer["silent"] = silent.into();
    Ok(axum::Json(answer).into_response())
}

pub(super) async fn floors(State(state): State<AdminState>) -> Result<Response, HttpProblem> {
    let catalog = catalog::read(&state.directory).await.map_err(failed)?;
    Ok(axum::Json(catalog.floors).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FloorBody {
    version: VersionNumber,
}

/// Raises the floor of a policy; it never goes down.
pub(super) async fn put_floor(
    State(state): State<AdminState>,
    Path(name): Path<PolicyName>,
    JsonBody(body): JsonBody<FloorBody>,
) -> Result<Response, HttpProblem> {
    let floor = PolicyFloor { name, version: body.version };
    match floor::raise(&state.directory, &floor).await.map_err(failed)?.problem(&floor) {
        Some(problem) => Err(problem.into()),
        None => Ok(axum::Json(floor).into_response()),
    }
}

fn invalid(detail: String) -> HttpProblem {
    Problem::new(ProblemType::Invalid).detail(detail).into()
}
