//! The catalog: tiers, policies and keys, read whole and written document by document.

use crate::{CatalogKind, CatalogRow, DOCUMENT_BYTES_MAX, Digest, DirectoryError, Documents, Written};
use cellar_model::{ARTIFACT_BYTES_MAX, KeyDocument, PolicyName, RevisedTier, Revision, TierDocument, TierName};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Attempts at one write before the row counts as undecided: each follows a serial read.
const ATTEMPTS_MAX: u32 = 3;

/// Revisions that a tier's history shows: what may have to be undone is among the last few.
pub const HISTORY_MAX: usize = 20;

/// Everything in force, as of one read. Serialized so that whoever polls can keep the last good one
/// on disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Catalog {
    /// The number of writes it has had: each raises one document's revision by one, and this is
    /// their sum.
    pub revision: Revision,
    pub tiers: Vec<RevisedTier>,
    pub policies: Vec<PolicyEntry>,
    pub keys: Vec<KeyDocument>,
}

/// A policy version. Its bytes are fetched by digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyEntry {
    pub name: PolicyName,
    /// `1.4.2`
    pub version: String,
    pub digest: Digest,
}

/// What a put came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is in force under this revision. Also for a repeat of what is in force already.
    Done(Revision),
    /// The document has another revision than was expected: this one, or none.
    Stale(Option<Revision>),
}

/// Reads the whole catalog.
pub async fn read(directory: &impl Documents) -> Result<Catalog, DirectoryError> {
    let mut catalog = Catalog::default();
    for row in directory.catalog_rows().await? {
        catalog.revision.0 += row.revision.0;
        match row.kind {
            CatalogKind::Tier => {
                catalog.tiers.push(RevisedTier { revision: row.revision, document: parse("tier", &row)? })
            }
            CatalogKind::Policy => catalog.policies.push(parse("policy", &row)?),
            CatalogKind::Key => catalog.keys.push(parse("key", &row)?),
        }
    }
    Ok(catalog)
}

/// Puts a tier in force if its revision is still `expected` (none: if there is no such tier). The
/// document is taken as valid: what it means is for those who load policies to check.
pub async fn put_tier(
    directory: &impl Documents,
    document: &TierDocument,
    expected: Option<Revision>,
) -> Result<Put, DirectoryError> {
    put(directory, CatalogKind::Tier, document.name.as_str(), document, expected).await
}

/// A tier's earlier revision, to show or to go back to.
pub async fn tier_at(
    directory: &impl Documents,
    name: &TierName,
    revision: Revision,
) -> Result<Option<TierDocument>, DirectoryError> {
    let row = directory.catalog_revision(CatalogKind::Tier, name.as_str(), revision).await?;
    row.map(|row| parse("tier", &row)).transpose()
}

/// A tier's latest revisions, newest first, at most `HISTORY_MAX`.
///
/// Each revision is a row of its own, written by the one conditional write that puts it in force and never
/// changed: there is nothing else to keep, and whoever is killed half way has put the revision in force or
/// has not.
pub async fn tier_history(directory: &impl Documents, name: &TierName) -> Result<Vec<RevisedTier>, DirectoryError> {
    let newest = directory.catalog_row(CatalogKind::Tier, name.as_str()).await?;
    let mut history = Vec::new();
    let Some(newest) = newest else { return Ok(history) };
    let last = newest.revision.0;
    history.push(RevisedTier { revision: newest.revision, document: parse("tier", &newest)? });
    for revision in (1..last).rev().take(HISTORY_MAX - 1).map(Revision) {
        // A catalog that was moved from elsewhere may begin at a later one.
        let Some(document) = tier_at(directory, name, revision).await? else { break };
        history.push(RevisedTier { revision, document });
    }
    Ok(history)
}

/// Stores an artifact, then the version that names it: a version in the catalog always has its bytes.
/// A version is never changed: other bytes under it are `Put::Stale`.
pub async fn put_policy(
    directory: &impl Documents,
    entry: &PolicyEntry,
    artifact: &[u8],
) -> Result<Put, DirectoryError> {
    if artifact.len() > ARTIFACT_BYTES_MAX {
        return Err(DirectoryError::TooLarge {
            what: "artifact",
            bytes: artifact.len(),
            bytes_max: ARTIFACT_BYTES_MAX,
        });
    }
    if Digest::of(artifact) != entry.digest {
        return Err(DirectoryError::corrupt("artifact", "its digest is another"));
    }
    directory.put_artifact(&entry.digest, artifact).await?;
    let name = format!("{}@{}", entry.name, entry.version);
    put(directory, CatalogKind::Policy, &name, entry, None).await
}

/// Puts a key in force, or a new form of it: rescoped, or revoked.
pub async fn put_key(directory: &impl Documents, key: &KeyDocument) -> Result<Put, DirectoryError> {
    let name = key.name.as_str();
    let newest = directory.catalog_row(CatalogKind::Key, name).await?;
    let expected = newest.map(|row| row.revision);
    put(directory, CatalogKind::Key, name, key, expected).await
}

/// The bytes of a policy version, checked against their digest.
pub async fn artifact(directory: &impl Documents, digest: &Digest) -> Result<Option<Vec<u8>>, DirectoryError> {
    let bytes = directory.artifact(digest).await?;
    if bytes.as_ref().is_some_and(|bytes| Digest::of(bytes) != *digest) {
        return Err(DirectoryError::corrupt("artifact", "its digest is another"));
    }
    Ok(bytes)
}

async fn put(
    directory: &impl Documents,
    kind: CatalogKind,
    name: &str,
    document: &impl Serialize,
    expected: Option<Revision>,
) -> Result<Put, DirectoryError> {
    let document = serde_json::to_string(document).map_err(|cause| DirectoryError::corrupt(kind.as_str(), cause))?;
    if document.len() > DOCUMENT_BYTES_MAX {
        return Err(DirectoryError::TooLarge {
            what: kind.as_str(),
            bytes: document.len(),
            bytes_max: DOCUMENT_BYTES_MAX,
        });
    }
    let row = CatalogRow {
        kind,
        name: name.to_owned(),
        revision: expected.unwrap_or_default().next(),
        digest: Digest::of(document.as_bytes()),
        document,
        signature: None,
    };
    for _ in 0..ATTEMPTS_MAX {
        // Revisions are dense because every writer has seen the one before its own.
        let newest = directory.catalog_row(kind, name).await?;
        if let Some(newest) = &newest
            && newest.digest == row.digest
        {
            return Ok(Put::Done(newest.revision));
        }
        if newest.as_ref().map(|row| row.revision) != expected {
            return Ok(Put::Stale(newest.map(|row| row.revision)));
        }
        match directory.create_catalog_row(&row).await? {
            Written::Applied => return Ok(Put::Done(row.revision)),
            Written::Refused(_) | Written::Unknown(_) => {}
        }
    }
    Err(DirectoryError::Undecided { what: "catalog row", attempts: ATTEMPTS_MAX })
}

fn parse<T: DeserializeOwned>(what: &'static str, row: &CatalogRow) -> Result<T, DirectoryError> {
    serde_json::from_str(&row.document).map_err(|cause| DirectoryError::corrupt(what, cause))
}
