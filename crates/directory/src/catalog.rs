//! The catalog: tiers, policies and keys, read whole and written document by document.

use crate::{CatalogKind, CatalogRow, DOCUMENT_BYTES_MAX, DirectoryError, Documents, PolicyFloor, Written};
use cellar_model::{
    ARTIFACT_BYTES_MAX, CertificateSummary, Digest, KeyDocument, PolicyName, PolicySignature, PolicyUpload, Problem,
    ProblemType, RevisedTier, Revision, TierDocument, TierName,
};
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
    /// At most one a policy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub floors: Vec<PolicyFloor>,
    pub keys: Vec<KeyDocument>,
    /// What is in force and cannot be read by this build.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<UnreadRow>,
}

/// A row that this build cannot read: of a newer one, or broken. It costs what it stands for and nothing else; who
/// follows the catalog says so, and takes it for "unknown" and never for "there is none".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadRow {
    pub kind: CatalogKind,
    /// As the row is named: `pro`, `gcra@1.4.2`.
    pub name: String,
    pub revision: Revision,
    pub why: String,
}

impl UnreadRow {
    fn of(row: CatalogRow, cause: &serde_json::Error) -> Self {
        let place = format!("at line {} column {}", cause.line(), cause.column());
        let why = match row.kind {
            // What stands there is nobody's to print.
            CatalogKind::Key => format!("it is no key's document {place}"),
            _ => cause.to_string(),
        };
        Self { kind: row.kind, name: row.name, revision: row.revision, why }
    }
}

impl Catalog {
    /// The revision of a tier's document, also of one that cannot be read: another can be put in its place.
    pub fn revision_of(&self, tier: &TierName) -> Option<Revision> {
        let read = self.tiers.iter().find(|held| held.document.name == *tier).map(|held| held.revision);
        read.or_else(|| self.unread_row(CatalogKind::Tier, tier.as_str()).map(|row| row.revision))
    }

    pub fn unread_row(&self, kind: CatalogKind, name: &str) -> Option<&UnreadRow> {
        self.unread.iter().find(|row| row.kind == kind && row.name == name)
    }
}

/// A policy version. Its bytes are fetched by digest, and so are its certificate's, whose digest is in the signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyEntry {
    pub name: PolicyName,
    /// `1.4.2`
    pub version: String,
    pub digest: Digest,
    /// None of catalogs from before policies were signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<PolicySignature>,
    /// For people: nothing is decided by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateSummary>,
}

impl PolicyEntry {
    /// A version as it was uploaded, with what its certificate says.
    pub fn of_upload(
        name: PolicyName,
        version: String,
        upload: &PolicyUpload,
        certificate: Option<CertificateSummary>,
    ) -> Self {
        let (digest, signature) = (Digest::of(&upload.artifact.0), upload.signature.clone());
        Self { name, version, digest, signature, certificate }
    }

    /// One that nobody has signed.
    pub fn unsigned(name: PolicyName, version: String, digest: Digest) -> Self {
        Self { name, version, digest, signature: None, certificate: None }
    }
}

/// What a put came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is in force under this revision. Also for a repeat of what is in force already.
    Done(Revision),
    /// The document has another revision than was expected: this one, or none.
    Stale(Option<Revision>),
}

impl Put {
    /// The revision in force, or what to tell who came too late.
    pub fn done(self) -> Result<Revision, Problem> {
        match self {
            Put::Done(revision) => Ok(revision),
            Put::Stale(_) => {
                Err(Problem::new(ProblemType::Conflict).detail("something else is in force there meanwhile"))
            }
        }
    }
}

/// Reads the whole catalog. A row that cannot be read is named in it, and holds up no other.
pub async fn read(directory: &impl Documents) -> Result<Catalog, DirectoryError> {
    let mut catalog = Catalog::default();
    for row in directory.catalog_rows().await? {
        catalog.revision.0 += row.revision.0;
        if let Err(cause) = take(&mut catalog, &row) {
            catalog.unread.push(UnreadRow::of(row, &cause));
        }
    }
    Ok(catalog)
}

fn take(catalog: &mut Catalog, row: &CatalogRow) -> Result<(), serde_json::Error> {
    let text = &row.document;
    match row.kind {
        CatalogKind::Tier => {
            catalog.tiers.push(RevisedTier { revision: row.revision, document: serde_json::from_str(text)? });
        }
        CatalogKind::Policy => catalog.policies.push(serde_json::from_str(text)?),
        CatalogKind::PolicyFloor => catalog.floors.push(serde_json::from_str(text)?),
        CatalogKind::Key => catalog.keys.push(serde_json::from_str(text)?),
    }
    Ok(())
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
/// A version is never changed: other bytes under it are `Put::Stale`. The same bytes with another signature are a new
/// revision of it; without one, they are no change.
pub async fn put_policy(
    directory: &impl Documents,
    entry: &PolicyEntry,
    artifact: &[u8],
) -> Result<Put, DirectoryError> {
    store(directory, &entry.digest, artifact).await?;
    let name = format!("{}@{}", entry.name, entry.version);
    let newest = directory.catalog_row(CatalogKind::Policy, &name).await?;
    let held: Option<PolicyEntry> = newest.as_ref().map(|row| parse("policy", row)).transpose()?;
    let expected = match (newest, held) {
        (Some(row), Some(held)) if held.digest == entry.digest => {
            if entry.signature.is_none() {
                return Ok(Put::Done(row.revision));
            }
            Some(row.revision)
        }
        _ => None,
    };
    put(directory, CatalogKind::Policy, &name, entry, expected).await
}

/// Puts an uploaded version into the catalog: its certificate first, then its component, then the row that names both.
pub async fn publish(
    directory: &impl Documents,
    entry: &PolicyEntry,
    upload: &PolicyUpload,
) -> Result<Put, DirectoryError> {
    if let Some(certificate) = &upload.certificate {
        store(directory, &Digest::of(certificate.as_bytes()), certificate.as_bytes()).await?;
    }
    put_policy(directory, entry, &upload.artifact.0).await
}

async fn store(directory: &impl Documents, digest: &Digest, bytes: &[u8]) -> Result<(), DirectoryError> {
    if bytes.len() > ARTIFACT_BYTES_MAX {
        return Err(DirectoryError::TooLarge { what: "artifact", bytes: bytes.len(), bytes_max: ARTIFACT_BYTES_MAX });
    }
    if Digest::of(bytes) != *digest {
        return Err(DirectoryError::corrupt("artifact", "its digest is another"));
    }
    directory.put_artifact(digest, bytes).await
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

/// The same of a version by its name; none: there is no such version.
pub async fn artifact_of(
    directory: &impl Documents,
    name: &PolicyName,
    version: &str,
) -> Result<Option<Vec<u8>>, DirectoryError> {
    let entry = read(directory).await?.policies.into_iter().find(|one| one.name == *name && one.version == version);
    match entry {
        Some(entry) => artifact(directory, &entry.digest).await,
        None => Ok(None),
    }
}

pub(crate) async fn put(
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
            && newest.document == row.document
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

pub(crate) fn parse<T: DeserializeOwned>(what: &'static str, row: &CatalogRow) -> Result<T, DirectoryError> {
    serde_json::from_str(&row.document).map_err(|cause| DirectoryError::corrupt(what, cause))
}
