//! Documents: the topology, what cells say of themselves, and the rows of the catalog.

use crate::{DirectoryError, Written};
use cellar_model::{CellName, Incarnation, Micros, Revision, Topology};
use sha2::Sha256;
use std::fmt;
use std::future::Future;

/// The largest document: a topology of some thousand cells.
pub const DOCUMENT_BYTES_MAX: usize = 1024 * 1024;

/// SHA-256 of a document or an artifact.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        Self(<Sha256 as sha2::Digest>::digest(bytes).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a digest is sha256: and 64 hex digits")]
pub struct DigestError;

impl std::str::FromStr for Digest {
    type Err = DigestError;
    fn from_str(text: &str) -> Result<Self, DigestError> {
        let digits = text.strip_prefix("sha256:").ok_or(DigestError)?;
        let mut digest = [0; 32];
        hex::decode_to_slice(digits, &mut digest).map_err(|_| DigestError)?;
        Ok(Self(digest))
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <String as serde::Deserialize>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What a cell says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct CellBeat {
    pub cell: CellName,
    pub incarnation: Incarnation,
    pub endpoints: Vec<String>,
    /// Which process has which shard, as JSON.
    pub shard_map: serde_json::Value,
    /// The cell's wall clock when it wrote. For people: nothing is decided by it.
    pub heartbeat: Micros,
}

/// What a catalog row is. Artifacts have rows of their own, so that the catalog is read without them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CatalogKind {
    Tier,
    Policy,
    Key,
}

impl CatalogKind {
    pub const ALL: [CatalogKind; 3] = [CatalogKind::Tier, CatalogKind::Policy, CatalogKind::Key];

    pub fn as_str(self) -> &'static str {
        match self {
            CatalogKind::Tier => "tier",
            CatalogKind::Policy => "policy",
            CatalogKind::Key => "key",
        }
    }
}

/// One revision of a named document. Revisions of a name are dense from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogRow {
    pub kind: CatalogKind,
    pub name: String,
    pub revision: Revision,
    /// Of the document.
    pub digest: Digest,
    pub document: String,
    pub signature: Option<Vec<u8>>,
}

/// The tables `topology`, `cells` and `catalog`.
pub trait Documents {
    fn read_topology(&self) -> impl Future<Output = Result<Option<Topology>, DirectoryError>> + Send;

    /// Writes the topology if the one there has revision `expected` (none: if there is none), and the
    /// new one's is higher.
    fn put_topology(
        &self,
        topology: &Topology,
        expected: Option<Revision>,
    ) -> impl Future<Output = Result<Written<Topology>, DirectoryError>> + Send;

    /// A plain write: a cell alone writes its own row.
    fn put_cell(&self, beat: &CellBeat) -> impl Future<Output = Result<(), DirectoryError>> + Send;

    fn cells(&self) -> impl Future<Output = Result<Vec<CellBeat>, DirectoryError>> + Send;

    /// The newest revision of every document.
    fn catalog_rows(&self) -> impl Future<Output = Result<Vec<CatalogRow>, DirectoryError>> + Send;

    /// One document's newest revision, serially.
    fn catalog_row(
        &self,
        kind: CatalogKind,
        name: &str,
    ) -> impl Future<Output = Result<Option<CatalogRow>, DirectoryError>> + Send;

    /// One document's given revision.
    fn catalog_revision(
        &self,
        kind: CatalogKind,
        name: &str,
        revision: Revision,
    ) -> impl Future<Output = Result<Option<CatalogRow>, DirectoryError>> + Send;

    /// Writes this revision if it is not taken; whoever calls has seen the one before it.
    fn create_catalog_row(
        &self,
        row: &CatalogRow,
    ) -> impl Future<Output = Result<Written<CatalogRow>, DirectoryError>> + Send;

    /// The bytes with this digest, which the reader checks.
    fn artifact(&self, digest: &Digest) -> impl Future<Output = Result<Option<Vec<u8>>, DirectoryError>> + Send;

    /// A plain write: equal digests name equal bytes.
    fn put_artifact(&self, digest: &Digest, artifact: &[u8])
    -> impl Future<Output = Result<(), DirectoryError>> + Send;
}
