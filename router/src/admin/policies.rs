//! Policies: their versions, and the floors below which none decides.

use super::tiers::{done, judged};
use super::{AdminState, failed};
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use cellar_artifacts::certificate_of;
use cellar_directory::{PolicyEntry, PolicyFloor, catalog, floor};
use cellar_model::{Digest, PolicyName, Problem, ProblemType, VersionNumber};
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

/// Adds a policy version. One that is there is never changed, so what no cell would decide by is refused here: what
/// shows without a compiler, and a signature that does not count where it is to decide.
pub(super) async fn put(
    State(state): State<AdminState>,
    Path((name, version)): Path<(PolicyName, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, HttpProblem> {
    check_version(&version)?;
    let upload = read_upload(&headers, body).await?;
    let certificate = certificate_of(&upload).map_err(|error| invalid(format!("{error:#}")))?;
    let artifact = upload.artifact.0;
    let entry = PolicyEntry { name, version, digest: Digest::of(&artifact), signature: upload.signature, certificate };
    let asked = serde_json::to_vec(&entry).map_err(|_| ProblemType::Internal)?;
    if let Some(problem) = judged(&state, &headers, "/admin/v1/policies/check", asked).await?.into_iter().next() {
        return Err(invalid(problem.message));
    }
    if let Some(certificate) = upload.certificate {
        catalog::put_certificate(&state.directory, certificate.as_bytes()).await.map_err(failed)?;
    }
    let put = catalog::put_policy(&state.directory, &entry, &artifact).await.map_err(failed)?;
    done(put)?;
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
    match floor::raise(&state.directory, &floor).await.map_err(failed)?.problem(&floor) {
        Some(problem) => Err(problem.into()),
        None => Ok(axum::Json(floor).into_response()),
    }
}

fn invalid(detail: String) -> HttpProblem {
    Problem::new(ProblemType::Invalid).detail(detail).into()
}
