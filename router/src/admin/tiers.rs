//! Tiers: shown, compared, put in force.

use super::cells::admin_call;
use super::{failed, invalid};
use crate::app::{App, Shared};
use crate::forward::try_again;
use axum::Json;
use axum::extract::{Path, Query, State};
use cellar_directory::catalog::{self, Catalog, Put};
use cellar_directory::{DirectoryError, PolicyEntry};
use cellar_model::{
    Pin, PolicyRef, Problem, ProblemType, RevisedTier, Revision, SettingProblem, TierDocument, TierName, TryAgain,
};
use cellar_server::{HttpProblem, JsonBody};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A problem document with all that is wrong, as a cell sends it.
#[derive(Deserialize)]
struct CheckedBody {
    #[serde(default)]
    errors: Vec<SettingProblem>,
    #[serde(default)]
    detail: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ApplyQuery {
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ShowQuery {
    revision: Option<u64>,
}

/// What an apply came to, or would come to.
#[derive(Serialize)]
pub(super) struct Applied {
    name: TierName,
    /// In force; none if there is no such tier.
    revision: Option<Revision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<TierDocument>,
    after: TierDocument,
    difference: Vec<Difference>,
    /// Of a dry run.
    problems: Vec<SettingProblem>,
}

#[derive(Serialize, PartialEq, Debug)]
struct Difference {
    pointer: String,
    before: Option<Value>,
    after: Option<Value>,
}

/// `GET /admin/v1/tiers`: the directory's, or while it is away, those held.
pub(super) async fn list(State(app): State<Shared>) -> Json<Vec<RevisedTier>> {
    match catalog::read(&app.directory).await {
        Ok(catalog) => Json(catalog.tiers),
        Err(_) => Json(app.catalog().tiers.clone()),
    }
}

/// `GET /admin/v1/tiers/{name}?revision=`
pub(super) async fn show(
    State(app): State<Shared>,
    Path(name): Path<TierName>,
    Query(query): Query<ShowQuery>,
) -> Result<Json<RevisedTier>, HttpProblem> {
    let tier = match query.revision.map(Revision) {
        Some(revision) => {
            let document = catalog::tier_at(&app.directory, &name, revision).await.map_err(|e| failed(&e))?;
            document.map(|document| RevisedTier { revision, document })
        }
        None => list(State(app)).await.0.into_iter().find(|tier| tier.document.name == name),
    };
    tier.map(Json).ok_or_else(|| ProblemType::NotFound.into())
}

/// `PUT /admin/v1/tiers/{name}`: 200 with the new revision and what changed; 422 with everything that
/// is wrong. With `?dry_run=true` nothing is written, and problems stand in the answer.
pub(super) async fn apply(
    State(app): State<Shared>,
    Path(name): Path<TierName>,
    Query(query): Query<ApplyQuery>,
    headers: HeaderMap,
    JsonBody(document): JsonBody<TierDocument>,
) -> Result<Json<Applied>, HttpProblem> {
    if document.name != name {
        return Err(invalid("/name", &format!("the document names {}, the path {name}", document.name)));
    }
    let catalog = catalog::read(&app.directory).await.map_err(|error| failed(&error))?;
    let held = catalog.tiers.iter().find(|tier| tier.document.name == name);
    let problems = app.problems_of(&document, &catalog, &headers).await?;
    if !problems.is_empty() && !query.dry_run {
        return Err(HttpProblem(Problem::new(ProblemType::Invalid).errors(problems)));
    }
    let mut applied = Applied {
        name,
        revision: held.map(|tier| tier.revision),
        before: held.map(|tier| tier.document.clone()),
        difference: difference(held.map(|tier| &tier.document), &document),
        after: document,
        problems,
    };
    if !query.dry_run {
        let put = catalog::put_tier(&app.directory, &applied.after, applied.revision).await;
        applied.revision = Some(written(put)?);
    }
    Ok(Json(applied))
}

fn written(put: Result<Put, DirectoryError>) -> Result<Revision, HttpProblem> {
    match put.map_err(|error| failed(&error))? {
        Put::Done(revision) => Ok(revision),
        Put::Stale(_) => Err(HttpProblem(Problem::new(ProblemType::Conflict).detail("the tier has changed meanwhile"))),
    }
}

impl App {
    /// All that is wrong with a tier, by pointer. Its settings are for its policies to judge, so a cell
    /// is asked, as one that has the policies loaded.
    async fn problems_of(
        &self,
        document: &TierDocument,
        catalog: &Catalog,
        headers: &HeaderMap,
    ) -> Result<Vec<SettingProblem>, HttpProblem> {
        let mut problems = document.validate().err().map(|error| error.problems).unwrap_or_default();
        for (n, policy) in document.policies.iter().enumerate() {
            if !catalog.policies.iter().any(|entry| serves(entry, &policy.policy)) {
                let message = format!("there is no policy {} in the catalog", policy.policy);
                problems.push(SettingProblem::new(&format!("/policy/{n}/use"), &message));
            }
        }
        if problems.is_empty() { self.judged_by_a_cell(document, headers).await } else { Ok(problems) }
    }

    async fn judged_by_a_cell(
        &self,
        document: &TierDocument,
        headers: &HeaderMap,
    ) -> Result<Vec<SettingProblem>, HttpProblem> {
        let world = self.world().ok_or_else(|| try_again(TryAgain::NotReady))?;
        let body = serde_json::to_vec(document).unwrap_or_default();
        for cell in world.cells() {
            let Some(answer) = admin_call(cell, "/admin/v1/tiers/check", headers, body.clone()).await else { continue };
            if answer.status.is_success() {
                return Ok(Vec::new());
            }
            if answer.status == StatusCode::UNPROCESSABLE_ENTITY
                && let Ok(said) = serde_json::from_slice::<CheckedBody>(&answer.body)
            {
                let unsaid = || vec![SettingProblem::new("", said.detail.as_deref().unwrap_or("a cell refuses it"))];
                return Ok(if said.errors.is_empty() { unsaid() } else { said.errors });
            }
        }
        tracing::warn!("no cell could check a tier's settings");
        Err(HttpProblem(try_again(TryAgain::CellDown)))
    }
}

/// Whether this version is one that `policy` may mean.
fn serves(entry: &PolicyEntry, policy: &PolicyRef) -> bool {
    entry.name == policy.name
        && match &policy.pin {
            Pin::Digest(digest) => entry.digest.0 == *digest,
            Pin::Major(major) => entry.version.split('.').next().is_some_and(|part| part.parse() == Ok(*major)),
        }
}

/// Every value that differs, by pointer.
fn difference(before: Option<&TierDocument>, after: &TierDocument) -> Vec<Difference> {
    // Documents are plain data: they always become JSON.
    let json = |document: &TierDocument| serde_json::to_value(document).unwrap_or_default();
    let mut differences = Vec::new();
    differ("", before.map(json).as_ref(), Some(&json(after)), &mut differences);
    differences
}

fn differ(pointer: &str, before: Option<&Value>, after: Option<&Value>, into: &mut Vec<Difference>) {
    match (before, after) {
        (before, after) if before == after => {}
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let mut names: Vec<_> = before.keys().chain(after.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                differ(&format!("{pointer}/{name}"), before.get(name), after.get(name), into);
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(after))) => {
            for n in 0..before.len().max(after.len()) {
                differ(&format!("{pointer}/{n}"), before.get(n), after.get(n), into);
            }
        }
        (before, after) => into.push(Difference {
            pointer: pointer.to_owned(),
            before: before.cloned(),
            after: after.cloned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellar_directory::Digest;
    use cellar_model::PolicyName;

    fn tier(limit: u64, extra: &str) -> TierDocument {
        let text = format!(
            "name = \"pro\"\n[[policy]]\nslot = \"per-minute\"\nuse = \"gcra@1\"\nunit = \"requests\"\n\
             settings = {{ limit = {limit}, period_s = 60 {extra} }}"
        );
        TierDocument::from_toml(&text).unwrap()
    }

    #[test]
    fn the_difference_names_each_value_that_changed() {
        let changed = difference(Some(&tier(600, "")), &tier(300, ", burst = 10"));
        let pointers: Vec<_> = changed.iter().map(|change| change.pointer.as_str()).collect();
        assert_eq!(pointers, ["/policy/0/settings/burst", "/policy/0/settings/limit"]);
        assert!(difference(Some(&tier(600, "")), &tier(600, "")).is_empty());
        assert_eq!(difference(None, &tier(600, "")).len(), 1);
    }

    #[test]
    fn a_major_version_and_a_digest_each_find_their_artifact() {
        let entry = PolicyEntry {
            name: PolicyName::new("gcra").unwrap(),
            version: "1.4.2".into(),
            digest: Digest::of(b"bytes"),
        };
        let means = |text: &str| serves(&entry, &PolicyRef::try_from(text.to_owned()).unwrap());
        assert!(means("gcra@1"));
        assert!(means(&format!("gcra@{}", entry.digest)));
        assert!(!means("gcra@2") && !means("gcra@14") && !means("other@1"));
    }
}
