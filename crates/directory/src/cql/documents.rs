//! `topology`, `cells`, `catalog` and `artifacts` in CQL.

use super::classify::Ask;
use super::columns::Columns;
use super::{CqlDirectory, statements::*};
use crate::{CatalogKind, CatalogRow, CellBeat, DOCUMENT_BYTES_MAX, Digest, DirectoryError, Documents, Written};
use cellar_model::{CellName, Incarnation, Micros, Revision, Topology};

const TOPOLOGY: &str = "topology";
const CELL: &str = "cell";
const ROW: &str = "catalog row";
const WHOLE_ROW: [&str; 6] = ["kind", "name", "revision", "digest", "document", "signature"];

fn topology(mut row: Columns) -> Result<Topology, DirectoryError> {
    let document = row.text("document")?;
    serde_json::from_str(&document).map_err(|cause| DirectoryError::corrupt(TOPOLOGY, cause))
}

fn beat(mut row: Columns) -> Result<CellBeat, DirectoryError> {
    let shard_map = row.text("shard_map")?;
    Ok(CellBeat {
        cell: CellName::new(&row.text("cell")?).map_err(|e| DirectoryError::corrupt(CELL, e))?,
        incarnation: Incarnation::from_i64(row.bigint("incarnation")?),
        endpoints: row.texts("endpoints")?,
        shard_map: serde_json::from_str(&shard_map).map_err(|e| DirectoryError::corrupt(CELL, e))?,
        heartbeat: Micros(u64::try_from(row.bigint("heartbeat")?).unwrap_or_default()),
    })
}

fn catalog_row(mut row: Columns) -> Result<CatalogRow, DirectoryError> {
    let kind = row.text("kind")?;
    let kind = CatalogKind::ALL.into_iter().find(|known| known.as_str() == kind);
    let signature = row.blob("signature")?;
    Ok(CatalogRow {
        kind: kind.ok_or_else(|| DirectoryError::corrupt(ROW, "its kind is unknown"))?,
        name: row.text("name")?,
        revision: Revision::from_i64(row.bigint("revision")?),
        digest: Digest(row.digest("digest")?),
        document: row.text("document")?,
        // No signature is empty, and so is none that could be one.
        signature: (!signature.is_empty()).then_some(signature),
    })
}

impl Documents for CqlDirectory {
    async fn read_topology(&self) -> Result<Option<Topology>, DirectoryError> {
        self.optional(Ask::Read, TOPOLOGY, READ_TOPOLOGY, ()).await?.map(topology).transpose()
    }

    async fn put_topology(
        &self,
        next: &Topology,
        expected: Option<Revision>,
    ) -> Result<Written<Topology>, DirectoryError> {
        let document = serde_json::to_string(next).map_err(|cause| DirectoryError::corrupt(TOPOLOGY, cause))?;
        if document.len() > DOCUMENT_BYTES_MAX {
            return Err(DirectoryError::TooLarge {
                what: TOPOLOGY,
                bytes: document.len(),
                bytes_max: DOCUMENT_BYTES_MAX,
            });
        }
        let read =
            async { self.optional(Ask::SerialRead, TOPOLOGY, READ_TOPOLOGY, ()).await?.map(topology).transpose() };
        if expected.is_some_and(|expected| next.revision <= expected) {
            return Ok(Written::Refused(read.await?));
        }
        let revision = next.revision.as_i64();
        let decided = match expected {
            None => self.decide(TOPOLOGY, CREATE_TOPOLOGY, (revision, document)).await?,
            Some(expected) => self.decide(TOPOLOGY, CHANGE_TOPOLOGY, (revision, document, expected.as_i64())).await?,
        };
        decided.meeting(&["document"], topology, read).await
    }

    async fn put_cell(&self, beat: &CellBeat) -> Result<(), DirectoryError> {
        let heartbeat = i64::try_from(beat.heartbeat.0).unwrap_or(i64::MAX);
        let (cell, incarnation) = (beat.cell.as_str(), beat.incarnation.as_i64());
        self.write(PUT_CELL, (cell, incarnation, &beat.endpoints, beat.shard_map.to_string(), heartbeat)).await
    }

    async fn cells(&self) -> Result<Vec<CellBeat>, DirectoryError> {
        let rows = self.all(CELL, READ_CELLS, ()).await?;
        let mut cells: Vec<CellBeat> = rows.into_iter().map(beat).collect::<Result<_, _>>()?;
        cells.sort_by(|a, b| a.cell.as_str().cmp(b.cell.as_str()));
        Ok(cells)
    }

    async fn catalog_rows(&self) -> Result<Vec<CatalogRow>, DirectoryError> {
        let mut rows = Vec::new();
        for kind in CatalogKind::ALL {
            rows.extend(self.all(ROW, READ_CATALOG, (kind.as_str(),)).await?);
        }
        rows.into_iter().map(catalog_row).collect()
    }

    async fn catalog_row(&self, kind: CatalogKind, name: &str) -> Result<Option<CatalogRow>, DirectoryError> {
        let row = self.optional(Ask::SerialRead, ROW, READ_CATALOG_NEWEST, (kind.as_str(), name)).await?;
        row.map(catalog_row).transpose()
    }

    async fn catalog_revision(
        &self,
        kind: CatalogKind,
        name: &str,
        revision: Revision,
    ) -> Result<Option<CatalogRow>, DirectoryError> {
        let values = (kind.as_str(), name, revision.as_i64());
        let row = self.optional(Ask::SerialRead, ROW, READ_CATALOG_REVISION, values).await?;
        row.map(catalog_row).transpose()
    }

    async fn create_catalog_row(&self, row: &CatalogRow) -> Result<Written<CatalogRow>, DirectoryError> {
        let signature = row.signature.as_deref().unwrap_or_default();
        let (kind, name, revision) = (row.kind.as_str(), row.name.as_str(), row.revision.as_i64());
        let values = (kind, name, revision, &row.digest.0[..], row.document.as_str(), signature);
        let decided = self.decide(ROW, CREATE_CATALOG_ROW, values).await?;
        let met = self.catalog_revision(row.kind, &row.name, row.revision);
        decided.meeting(&WHOLE_ROW, catalog_row, met).await
    }

    async fn artifact(&self, digest: &Digest) -> Result<Option<Vec<u8>>, DirectoryError> {
        let digest = digest.to_string();
        let mut row = self.optional(Ask::Read, "artifact", READ_ARTIFACT, (&digest,)).await?;
        if row.is_none() {
            // Its version may have come to this datacenter first. A majority of all has it.
            row = self.optional(Ask::SerialRead, "artifact", READ_ARTIFACT, (&digest,)).await?;
        }
        row.map(|mut row| row.blob("artifact")).transpose()
    }

    async fn put_artifact(&self, digest: &Digest, artifact: &[u8]) -> Result<(), DirectoryError> {
        self.write(PUT_ARTIFACT, (digest.to_string(), artifact)).await
    }
}
