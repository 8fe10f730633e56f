//! Policies on the admin listener: whether one could decide here, for routers; at a public cell all there is of them.

use super::AdminState;
use crate::catalog::WayBack;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cellar_artifacts::certificate_of;
use cellar_directory::{DirectoryError, PolicyEntry, PolicyFloor, catalog, floor};
use cellar_model::{PolicyName, PolicyUpload, Problem, ProblemType, VersionNumber};
use cellar_server::{HttpProblem, JsonBody, check_version, read_upload};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

#[derive(Deserialize)]
pub(super) struct PutPolicy {
    /// Although what decides now could not read what it writes.
    #[serde(default)]
    without_way_back: bool,
}

/// 204 if this version could decide here, and for the tiers that name its major; else why not.
pub(super) async fn check(
    State(state): State<AdminState>,
    Path((name, version)): Path<(PolicyName, String)>,
    Query(query): Query<PutPolicy>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, HttpProblem> {
    judged(&state, name, version, &query, &headers, body).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The version that was sent, if it may decide here, the host lets it in and tiers could go on with it.
async fn judged(
    state: &AdminState,
    name: PolicyName,
    version: String,
    query: &PutPolicy,
    headers: &HeaderMap,
    body: Body,
) -> Result<(PolicyEntry, PolicyUpload), HttpProblem> {
    check_version(&version)?;
    let mut upload = read_upload(headers, body).await?;
    let certificate = certificate_of(&upload).map_err(|error| invalid(format!("{error:#}")))?;
    let entry = PolicyEntry::of_upload(name, version, &upload, certificate);
    let may_decide = state.catalog.may_decide(&entry).await;
    may_decide.map_err(|why| invalid(format!("{} {} may not decide here: {why}", entry.name, entry.version)))?;
    let artifact = Bytes::from(std::mem::take(&mut upload.artifact.0));
    let policy = state.catalog.gate(&artifact).await.map_err(invalid)?;
    upload.artifact.0 = artifact.into();
    let way_back = if query.without_way_back { WayBack::Waived } else { WayBack::Needed };
    let fits = state.catalog.check_version(&entry, &policy, way_back).await;
    fits.map_err(|problems| {
        let detail = "tiers that name its major would decide by it, and could not";
        HttpProblem(Problem::new(ProblemType::Invalid).detail(detail).errors(problems))
    })?;
    Ok((entry, upload))
}

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

/// Adds a policy version that may decide here and that the host lets in; tiers that name its major decide by it from
/// now on.
pub(super) async fn put(
    State(state): State<AdminState>,
    Path((name, version)): Path<(PolicyName, String)>,
    Query(query): Query<PutPolicy>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpProblem> {
    let (entry, upload) = judged(&state, name, version, &query, &headers, body).await?;
    catalog::publish(&state.directory, &entry, &upload).await.map_err(failed)?.done()?;
    state.catalog.follow_now().await;
    Ok(axum::Json(entry).into_response())
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
    let raised = floor::raise(&state.directory, &floor).await.map_err(failed)?;
    match raised.problem(&floor) {
        Some(problem) => Err(problem.into()),
        None => {
            state.catalog.follow_now().await;
            Ok(axum::Json(floor).into_response())
        }
    }
}

/// What became of a question to the directory.
fn failed(error: DirectoryError) -> HttpProblem {
    tracing::warn!(error = &error as &dyn std::error::Error, "the directory did not do what an operator asked");
    error.problem().into()
}

fn invalid(detail: String) -> HttpProblem {
    Problem::new(ProblemType::Invalid).detail(detail).into()
}
