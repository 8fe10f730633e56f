//! Service and operator keys, and which session keys this router holds.

use super::{AdminState, failed};
use axum::Json;
use axum::extract::{Path, State};
use cellar_directory::api_key::{self, KeyChange, Revoked};
use cellar_directory::catalog;
use cellar_model::wire::{KeyEntry, MacKeysShown, NewKey, RevokeKey, RotateKey};
use cellar_model::{KeyName, Problem, ProblemType};
use cellar_server::{HttpProblem, JsonBody};
use http::HeaderMap;

/// All of them, revoked ones too.
pub(super) async fn all(
    State(state): State<AdminState>,
    headers: HeaderMap,
) -> Result<Json<Vec<KeyEntry>>, HttpProblem> {
    let asking = state.keys.authenticate(&headers)?.name();
    let catalog = catalog::read(&state.directory).await.map_err(failed)?;
    let entry = |key| KeyEntry { yours: asking == KeyEntry::of(key).name, ..KeyEntry::of(key) };
    Ok(Json(catalog.keys.iter().map(entry).collect()))
}

/// Makes a key, whose holder has drawn it.
pub(super) async fn put(
    State(state): State<AdminState>,
    Path(name): Path<KeyName>,
    JsonBody(body): JsonBody<NewKey>,
) -> Result<Json<KeyEntry>, HttpProblem> {
    let wrong = |error| Problem::new(ProblemType::Invalid).errors(vec![error]);
    let document = body.document(name).map_err(wrong)?;
    changed(api_key::create(&state.directory, &document).await.map_err(failed)?)
}

pub(super) async fn rotate(
    State(state): State<AdminState>,
    Path(name): Path<KeyName>,
    JsonBody(body): JsonBody<RotateKey>,
) -> Result<Json<KeyEntry>, HttpProblem> {
    changed(api_key::rotate(&state.directory, &name, body.hash).await.map_err(failed)?)
}

pub(super) async fn revoke(
    State(state): State<AdminState>,
    Path(name): Path<KeyName>,
    JsonBody(body): JsonBody<RevokeKey>,
) -> Result<Json<KeyEntry>, HttpProblem> {
    let what = if body.old_only { Revoked::Old } else { Revoked::All };
    changed(api_key::revoke(&state.directory, &name, what).await.map_err(failed)?)
}

/// By their fingerprints: whoever rotates them waits until every process has them.
pub(super) async fn mac(State(state): State<AdminState>) -> Json<MacKeysShown> {
    Json(MacKeysShown { fingerprints: state.keys.mac().fingerprints(), session_lasts_h: None })
}

fn changed(change: KeyChange) -> Result<Json<KeyEntry>, HttpProblem> {
    match change {
        Ok(key) => Ok(Json(KeyEntry::of(&key))),
        Err(refusal) => Err(refusal.problem().into()),
    }
}
