//! Policies: versions put in the catalog, with their bytes.

use super::{failed, invalid};
use crate::app::Shared;
use axum::Json;
use axum::extract::{Path, State};
use bytes::Bytes;
use cellar_directory::catalog::{self, Put};
use cellar_directory::{Digest, PolicyEntry};
use cellar_model::{PolicyName, Problem, ProblemType};
use cellar_server::HttpProblem;

/// What every WebAssembly file begins with.
const MAGIC: &[u8] = b"\0asm";
const VERSION_BYTES_MAX: usize = 32;

/// `GET /admin/v1/policies`
pub(super) async fn list(State(app): State<Shared>) -> Json<Vec<PolicyEntry>> {
    match catalog::read(&app.directory).await {
        Ok(catalog) => Json(catalog.policies),
        Err(_) => Json(app.catalog().policies.clone()),
    }
}

/// `PUT /admin/v1/policies/{name}/{version}`: the artifact's bytes. A version is never changed: 409 for
/// other bytes, 200 for the same.
pub(super) async fn publish(
    State(app): State<Shared>,
    Path((name, version)): Path<(PolicyName, String)>,
    artifact: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<Json<PolicyEntry>, HttpProblem> {
    let artifact = artifact.map_err(|_| ProblemType::TooLarge)?;
    if !is_version(&version) {
        return Err(invalid("", "a version is three numbers: 1.4.2"));
    }
    if !artifact.starts_with(MAGIC) {
        return Err(invalid("", "these bytes are not WebAssembly"));
    }
    let entry = PolicyEntry { name, version, digest: Digest::of(&artifact) };
    match catalog::put_policy(&app.directory, &entry, &artifact).await.map_err(|error| failed(&error))? {
        Put::Done(_) => Ok(Json(entry)),
        Put::Stale(_) => {
            let detail = format!("{}@{} has other bytes; publish another version", entry.name, entry.version);
            Err(HttpProblem(Problem::new(ProblemType::Conflict).detail(detail)))
        }
    }
}

fn is_version(text: &str) -> bool {
    let numbers: Vec<_> = text.split('.').collect();
    let number = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    text.len() <= VERSION_BYTES_MAX && numbers.len() == 3 && numbers.iter().all(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_three_numbers() {
        assert!(is_version("1.4.2"));
        for bad in ["1", "1.4", "1.4.2.3", "1..2", "v1.4.2", "1.4.x", ""] {
            assert!(!is_version(bad), "{bad}");
        }
    }
}
