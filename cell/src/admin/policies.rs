//! Policies on the admin listener: whether one could decide here, for routers; at a public cell all there is of them.

use super::{AdminState, directory_down};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cellar_artifacts::certificate_of;
use cellar_directory::{PolicyEntry, PolicyFloor, catalog, floor};
use cellar_model::{Digest, PolicyName, Problem, ProblemType, VersionNumber};
use cellar_server::{HttpProblem, JsonBody, check_version, read_upload};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;

/// 204 if this version could decide here, its artifact unseen; else why not.
pub(super) async fn check(
    State(state): State<AdminState>,
    JsonBody(entry): JsonBody<PolicyEntry>,
) -> Result<StatusCode, HttpProblem> {
    may_decide(&state, &entry).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn may_decide(state: &AdminState, entry: &PolicyEntry) -> Result<(), HttpProblem> {
    let judged = state.catalog.may_decide(entry).await;
    judged.map_err(|why| invalid(format!("{} {} may not decide here: {why}", entry.name, entry.version)))
}

/// The policy versions that the directory has.
pub(super) async fn all(State(state): State<AdminState>) -> Result<Response, HttpProblem> {
    let catalog = catalog::read(&state.directory).await.map_err(|_| directory_down())?;
    Ok(axum::Json(catalog.policies).into_response())
}

/// The component of a policy version.
pub(super) async fn artifact(
    State(state): State<AdminState>,
    Path((name, version)): Path<(PolicyName, String)>,
) -> Result<Response, HttpProblem> {
    let found = catalog::artifact_of(&state.directory, &name, &version).await.map_err(|_| directory_down())?;
    Ok(found.ok_or(ProblemType::NotFound)?.into_response())
}

/// Adds a policy version that may decide here and that the host lets in; tiers that name its major decide by it from
/// now on.
pub(super) async fn put(
    State(state): State<AdminState>,
    Path((name, version)): Path<(PolicyName, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpProblem> {
    check_version(&version)?;
    let upload = read_upload(&headers, body).await?;
    let certificate = certificate_of(&upload).map_err(|error| invalid(format!("{error:#}")))?;
    let artifact = Bytes::from(upload.artifact.0);
    let entry = PolicyEntry { name, version, digest: Digest::of(&artifact), signature: upload.signature, certificate };
    may_decide(&state, &entry).await?;
    state.catalog.gate(&artifact).await.map_err(invalid)?;
    if let Some(certificate) = upload.certificate {
        let stored = catalog::put_certificate(&state.directory, certificate.as_bytes()).await;
        stored.map_err(|_| directory_down())?;
    }
    match catalog::put_policy(&state.directory, &entry, &artifact).await {
        Ok(catalog::Put::Done(_)) => {
            state.catalog.follow_now().await;
            Ok(axum::Json(entry).into_response())
        }
        Ok(catalog::Put::Stale(_)) => {
            Err(HttpProblem(Problem::new(ProblemType::Conflict).detail("that version is there, with other bytes")))
        }
        Err(_) => Err(directory_down()),
    }
}

pub(super) async fn floors(State(state): State<AdminState>) -> Result<Response, HttpProblem> {
    let catalog = catalog::read(&state.directory).await.map_err(|_| directory_down())?;
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
    let raised = floor::raise(&state.directory, &floor).await.map_err(|_| directory_down())?;
    match raised.problem(&floor) {
        Some(problem) => Err(problem.into()),
        None => {
            state.catalog.follow_now().await;
            Ok(axum::Json(floor).into_response())
        }
    }
}

fn invalid(detail: String) -> HttpProblem {
    Problem::new(ProblemType::Invalid).detail(detail).into()
}
