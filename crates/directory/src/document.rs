//! Documents: the topology, what cells say of themselves, and the rows of the catalog.

use crate::{DirectoryError, Written};
use cellar_model::{CellName, Digest, Incarnation, Micros, Revision, Topology};
use serde::{Deserialize, Serialize};
use std::future::Future;

/// The largest document: a topology of some thousand cells.
pub const DOCUMENT_BYTES_MAX: usize = 1024 * 1024;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CatalogKind {
    Tier,
    Policy,
    /// The version of a policy below which none decides.
    PolicyFloor,
    Key,
}

impl CatalogKind {
    pub const ALL: [CatalogKind; 4] =
        [CatalogKind::Tier, CatalogKind::Policy, CatalogKind::PolicyFloor, CatalogKind::Key];

    pub fn as_str(self) -> &'static str {
        match self {
            CatalogKind::Tier => "tier",
            CatalogKind::Policy => "policy",
            CatalogKind::PolicyFloor => "policy-floor",
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
