//! `topology`, `cells` and `catalog` in Postgres.

use super::{PostgresDirectory, statements::*};
use crate::{CatalogKind, CatalogRow, CellBeat, DOCUMENT_BYTES_MAX, Digest, DirectoryError, Documents, Written};
use cellar_model::{CellName, Incarnation, Micros, Revision, Topology};

#[derive(sqlx::FromRow)]
struct CellRow {
    cell: String,
    incarnation: i64,
    endpoints: Vec<String>,
    shard_map: String,
    heartbeat: i64,
}

impl CellRow {
    fn read(self) -> Result<CellBeat, DirectoryError> {
        Ok(CellBeat {
            cell: CellName::new(&self.cell).map_err(|e| DirectoryError::corrupt("cell", e))?,
            incarnation: Incarnation::from_i64(self.incarnation),
            endpoints: self.endpoints,
            shard_map: serde_json::from_str(&self.shard_map).map_err(|e| DirectoryError::corrupt("cell", e))?,
            heartbeat: Micros(u64::try_from(self.heartbeat).unwrap_or_default()),
        })
    }
}

#[derive(sqlx::FromRow)]
struct StoredRow {
    kind: String,
    name: String,
    revision: i64,
    digest: Vec<u8>,
    document: Option<String>,
    signature: Option<Vec<u8>>,
}

impl StoredRow {
    fn known_kind(&self) -> Option<CatalogKind> {
        CatalogKind::ALL.into_iter().find(|kind| kind.as_str() == self.kind)
    }

    fn read(self) -> Result<CatalogRow, DirectoryError> {
        let corrupt = |cause: &str| DirectoryError::corrupt("catalog row", cause);
        let kind = self.known_kind().ok_or_else(|| corrupt("its kind is unknown"))?;
        let digest: [u8; 32] = self.digest.try_into().map_err(|_| corrupt("its digest has another length"))?;
        Ok(CatalogRow {
            kind,
            name: self.name,
            revision: Revision::from_i64(self.revision),
            digest: Digest(digest),
            document: self.document.ok_or_else(|| corrupt("it has no document"))?,
            signature: self.signature,
        })
    }
}

impl Documents for PostgresDirectory {
    async fn read_topology(&self) -> Result<Option<Topology>, DirectoryError> {
        let row: Option<(String,)> = self.optional(sqlx::query_as(READ_TOPOLOGY)).await?;
        row.map(|(document,)| serde_json::from_str(&document))
            .transpose()
            .map_err(|cause| DirectoryError::corrupt("topology", cause))
    }

    async fn put_topology(
        &self,
        topology: &Topology,
        expected: Option<Revision>,
    ) -> Result<Written<Topology>, DirectoryError> {
        let document = serde_json::to_string(topology).map_err(|cause| DirectoryError::corrupt("topology", cause))?;
        if document.len() > DOCUMENT_BYTES_MAX {
            return Err(DirectoryError::TooLarge {
                what: "topology",
                bytes: document.len(),
                bytes_max: DOCUMENT_BYTES_MAX,
            });
        }
        if expected.is_some_and(|expected| topology.revision <= expected) {
            return Ok(Written::Refused(self.read_topology().await?));
        }
        let revision = topology.revision.as_i64();
        let query = match expected {
            None => sqlx::query_as(CREATE_TOPOLOGY).bind(revision).bind(document),
            Some(expected) => sqlx::query_as(CHANGE_TOPOLOGY).bind(revision).bind(document).bind(expected.as_i64()),
        };
        let decided = self.decide(query).await?;
        decided.meeting(self.read_topology()).await
    }

    async fn put_cell(&self, beat: &CellBeat) -> Result<(), DirectoryError> {
        let query = sqlx::query_as::<_, (bool,)>(PUT_CELL)
            .bind(beat.cell.as_str())
            .bind(beat.incarnation.as_i64())
            .bind(&beat.endpoints)
            .bind(beat.shard_map.to_string())
            .bind(i64::try_from(beat.heartbeat.0).unwrap_or(i64::MAX));
        self.optional(query).await.map(|_| ())
    }

    async fn cells(&self) -> Result<Vec<CellBeat>, DirectoryError> {
        let rows: Vec<CellRow> = self.all(sqlx::query_as(READ_CELLS)).await?;
        rows.into_iter().map(CellRow::read).collect()
    }

    async fn catalog_rows(&self) -> Result<Vec<CatalogRow>, DirectoryError> {
        let rows: Vec<StoredRow> = self.all(sqlx::query_as(READ_CATALOG)).await?;
        // Kinds of a newer build are none of this one's, as in a store that is asked kind by kind.
        rows.into_iter().filter(|row| row.known_kind().is_some()).map(StoredRow::read).collect()
    }

    async fn catalog_row(&self, kind: CatalogKind, name: &str) -> Result<Option<CatalogRow>, DirectoryError> {
        let query = sqlx::query_as::<_, StoredRow>(READ_CATALOG_NEWEST).bind(kind.as_str()).bind(name);
        self.optional(query).await?.map(StoredRow::read).transpose()
    }

    async fn catalog_revision(
        &self,
        kind: CatalogKind,
        name: &str,
        revision: Revision,
    ) -> Result<Option<CatalogRow>, DirectoryError> {
        let query = sqlx::query_as::<_, StoredRow>(READ_CATALOG_REVISION)
            .bind(kind.as_str())
            .bind(name)
            .bind(revision.as_i64());
        self.optional(query).await?.map(StoredRow::read).transpose()
    }

    async fn create_catalog_row(&self, row: &CatalogRow) -> Result<Written<CatalogRow>, DirectoryError> {
        let query = sqlx::query_as(CREATE_CATALOG_ROW)
            .bind(row.kind.as_str())
            .bind(&row.name)
            .bind(row.revision.as_i64())
            .bind(&row.digest.0[..])
            .bind(&row.document)
            .bind(row.signature.as_deref());
        let decided = self.decide(query).await?;
        let met = self.catalog_revision(row.kind, &row.name, row.revision);
        decided.meeting(met).await
    }

    async fn artifact(&self, digest: &Digest) -> Result<Option<Vec<u8>>, DirectoryError> {
        let query = sqlx::query_as::<_, (Vec<u8>,)>(READ_ARTIFACT).bind(digest.to_string());
        Ok(self.optional(query).await?.map(|(artifact,)| artifact))
    }

    async fn put_artifact(&self, digest: &Digest, artifact: &[u8]) -> Result<(), DirectoryError> {
        let query =
            sqlx::query_as::<_, (bool,)>(PUT_ARTIFACT).bind(digest.to_string()).bind(&digest.0[..]).bind(artifact);
        self.optional(query).await.map(|_| ())
    }
}
