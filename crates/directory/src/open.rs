//! The directory that a URL names: its scheme says which kind of store it is.

use crate::cql::{self, Migrated, Replicas};
use crate::{
    CatalogKind, CatalogRow, CellBeat, Claim, ClaimCursor, ClaimPage, Claims, CqlDirectory, Digest, DirectoryError,
    Documents, EmailHash, HomeCursor, HomePage, Homes, Intent, Op, PostgresDirectory, UserHome, Written,
};
use cellar_model::{CellName, Epoch, Revision, Secret, Topology, UserId};
use std::collections::BTreeMap;

/// A directory on one of the stores there are. Clones share its connections.
#[derive(Clone, Debug)]
pub enum OpenDirectory {
    Postgres(PostgresDirectory),
    Cql(CqlDirectory),
}

impl OpenDirectory {
    /// Creates the tables, or brings them up to date. Replicas are for a store that is told of them.
    pub async fn migrate(url: &Secret, replicas: &Replicas) -> Result<Migrated, DirectoryError> {
        if is_cql(url) {
            return CqlDirectory::migrate(url, replicas).await;
        }
        let applied = PostgresDirectory::migrate(url).await?;
        let version = PostgresDirectory::newest_version();
        Ok(Migrated { version, applied, replicas: BTreeMap::new() })
    }

    /// Connects, and proves that conditional writes work before anything relies on them.
    pub async fn connect(url: &Secret, pool_max: u32) -> Result<Self, DirectoryError> {
        Ok(if is_cql(url) {
            OpenDirectory::Cql(CqlDirectory::connect(url).await?)
        } else {
            OpenDirectory::Postgres(PostgresDirectory::connect(url, pool_max).await?)
        })
    }

    /// For those who start while the directory is away: connects when first asked. `pool_max` is of
    /// Postgres, where a connection carries one statement at a time.
    pub fn lazy(url: &Secret, pool_max: u32) -> Result<Self, DirectoryError> {
        Ok(if is_cql(url) {
            OpenDirectory::Cql(CqlDirectory::lazy(url)?)
        } else {
            OpenDirectory::Postgres(PostgresDirectory::lazy(url, pool_max)?)
        })
    }

    /// What is in use and the most there can be, for the metrics: connections of Postgres, requests under
    /// way of CQL.
    pub fn pool_use(&self) -> (u32, u32) {
        match self {
            OpenDirectory::Postgres(directory) => directory.pool_use(),
            OpenDirectory::Cql(directory) => directory.pool_use(),
        }
    }
}

fn is_cql(url: &Secret) -> bool {
    url.reveal().starts_with(cql::SCHEME)
}

/// The same call on whichever it is.
macro_rules! on_either {
    ($self:ident.$call:ident($($argument:expr),*)) => {
        match $self {
            OpenDirectory::Postgres(directory) => directory.$call($($argument),*).await,
            OpenDirectory::Cql(directory) => directory.$call($($argument),*).await,
        }
    };
}

impl Homes for OpenDirectory {
    async fn read_home(&self, user: &UserId) -> Result<Option<UserHome>, DirectoryError> {
        on_either!(self.read_home(user))
    }

    async fn read_home_serially(&self, user: &UserId) -> Result<Option<UserHome>, DirectoryError> {
        on_either!(self.read_home_serially(user))
    }

    async fn create_home(&self, home: &UserHome) -> Result<Written<UserHome>, DirectoryError> {
        on_either!(self.create_home(home))
    }

    async fn activate_home(&self, user: &UserId, intent: &Intent) -> Result<Written<UserHome>, DirectoryError> {
        on_either!(self.activate_home(user, intent))
    }

    async fn change_home(&self, met: &UserHome, next: &UserHome) -> Result<Written<UserHome>, DirectoryError> {
        on_either!(self.change_home(met, next))
    }

    async fn erase_home(
        &self,
        user: &UserId,
        home: &CellName,
        epoch: Epoch,
    ) -> Result<Written<UserHome>, DirectoryError> {
        on_either!(self.erase_home(user, home, epoch))
    }

    async fn homes(&self, from: Option<&HomeCursor>, homes_max: u32) -> Result<HomePage, DirectoryError> {
        on_either!(self.homes(from, homes_max))
    }
}

impl Claims for OpenDirectory {
    async fn read_claim(&self, email: &EmailHash) -> Result<Option<Claim>, DirectoryError> {
        on_either!(self.read_claim(email))
    }

    async fn read_claim_serially(&self, email: &EmailHash) -> Result<Option<Claim>, DirectoryError> {
        on_either!(self.read_claim_serially(email))
    }

    async fn create_claim(&self, claim: &Claim) -> Result<Written<Claim>, DirectoryError> {
        on_either!(self.create_claim(claim))
    }

    async fn change_claim(&self, read: &Op, next: &Claim) -> Result<Written<Claim>, DirectoryError> {
        on_either!(self.change_claim(read, next))
    }

    async fn remove_claim(&self, email: &EmailHash, read: &Op) -> Result<Written<Claim>, DirectoryError> {
        on_either!(self.remove_claim(email, read))
    }

    async fn claims(&self, from: Option<&ClaimCursor>, claims_max: u32) -> Result<ClaimPage, DirectoryError> {
        on_either!(self.claims(from, claims_max))
    }
}

impl Documents for OpenDirectory {
    async fn read_topology(&self) -> Result<Option<Topology>, DirectoryError> {
        on_either!(self.read_topology())
    }

    async fn put_topology(
        &self,
        topology: &Topology,
        expected: Option<Revision>,
    ) -> Result<Written<Topology>, DirectoryError> {
        on_either!(self.put_topology(topology, expected))
    }

    async fn put_cell(&self, beat: &CellBeat) -> Result<(), DirectoryError> {
        on_either!(self.put_cell(beat))
    }

    async fn cells(&self) -> Result<Vec<CellBeat>, DirectoryError> {
        on_either!(self.cells())
    }

    async fn catalog_rows(&self) -> Result<Vec<CatalogRow>, DirectoryError> {
        on_either!(self.catalog_rows())
    }

    async fn catalog_row(&self, kind: CatalogKind, name: &str) -> Result<Option<CatalogRow>, DirectoryError> {
        on_either!(self.catalog_row(kind, name))
    }

    async fn catalog_revision(
        &self,
        kind: CatalogKind,
        name: &str,
        revision: Revision,
    ) -> Result<Option<CatalogRow>, DirectoryError> {
        on_either!(self.catalog_revision(kind, name, revision))
    }

    async fn create_catalog_row(&self, row: &CatalogRow) -> Result<Written<CatalogRow>, DirectoryError> {
        on_either!(self.create_catalog_row(row))
    }

    async fn artifact(&self, digest: &Digest) -> Result<Option<Vec<u8>>, DirectoryError> {
        on_either!(self.artifact(digest))
    }

    async fn put_artifact(&self, digest: &Digest, artifact: &[u8]) -> Result<(), DirectoryError> {
        on_either!(self.put_artifact(digest, artifact))
    }
}
