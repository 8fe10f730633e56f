//! The directory on a CQL cluster: ScyllaDB, or Apache Cassandra. Conditional writes are lightweight
//! transactions, each over one partition.

mod canary;
mod claims;
mod classify;
mod columns;
mod documents;
mod homes;
mod migrate;
mod session;
mod statements;
mod url;

pub use migrate::{Migrated, Replicas, ReplicasError};
pub use statements::CQL_STATEMENTS;

use crate::{DirectoryError, PAGE_MAX, Written};
use cellar_model::Secret;
use classify::Ask;
use columns::Columns;
use scylla::response::{PagingState, PagingStateResponse};
use scylla::serialize::row::SerializeRow;
use session::Link;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};
use url::CqlUrl;

/// The scheme of its URLs.
pub(crate) const SCHEME: &str = CqlUrl::SCHEME;

/// Requests under way from one process. A connection carries thousands; a directory that needs more
/// than this at once is overloaded, and more requests would not help it.
const IN_FLIGHT_MAX: u32 = 256;
/// How long a request waits for its turn. Nothing was sent, so the caller may go elsewhere.
const TURN_MAX: Duration = Duration::from_millis(1_500);

/// A session with the directory's cluster. Clones share it.
#[derive(Clone, Debug)]
pub struct CqlDirectory {
    link: Arc<Link>,
    in_flight: Arc<Semaphore>,
    proven: Arc<OnceCell<()>>,
}

impl CqlDirectory {
    /// Connects, and proves that conditional writes work before anything relies on them.
    pub async fn connect(url: &Secret) -> Result<Self, DirectoryError> {
        let directory = Self::lazy(url)?;
        directory.prove().await?;
        Ok(directory)
    }

    /// For those who start while the directory is away: connects when first asked. The proof comes
    /// before the first conditional write.
    pub fn lazy(url: &Secret) -> Result<Self, DirectoryError> {
        let link = Link::new(CqlUrl::parse(url)?);
        Ok(Self {
            link: Arc::new(link),
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT_MAX as usize)),
            proven: Arc::new(OnceCell::new()),
        })
    }

    /// Creates the keyspace and its tables, or brings them up to date.
    pub async fn migrate(url: &Secret, replicas: &Replicas) -> Result<Migrated, DirectoryError> {
        migrate::migrate(&CqlUrl::parse(url)?, replicas).await
    }

    /// Requests under way and the most there can be, for the metrics.
    pub fn pool_use(&self) -> (u32, u32) {
        let free = u32::try_from(self.in_flight.available_permits()).unwrap_or(u32::MAX);
        (IN_FLIGHT_MAX.saturating_sub(free), IN_FLIGHT_MAX)
    }

    async fn turn(&self) -> Result<SemaphorePermit<'_>, DirectoryError> {
        match tokio::time::timeout(TURN_MAX, self.in_flight.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(closed)) => Err(DirectoryError::Unreachable(closed.into())),
            Err(elapsed) => Err(DirectoryError::Unreachable(elapsed.into())),
        }
    }

    async fn optional(
        &self,
        ask: Ask,
        what: &'static str,
        statement: &'static str,
        values: impl SerializeRow,
    ) -> Result<Option<Columns>, DirectoryError> {
        let _turn = self.turn().await?;
        let answer = self.link.rows(ask, statement, values).await?;
        Ok(Columns::of(what, &answer)?.into_iter().next())
    }

    async fn write(&self, statement: &'static str, values: impl SerializeRow) -> Result<(), DirectoryError> {
        let _turn = self.turn().await?;
        self.link.write(statement, values).await
    }

    /// One page, and where the next one begins, as hex.
    async fn page(
        &self,
        what: &'static str,
        statement: &'static str,
        values: impl SerializeRow,
        from: Option<&str>,
        rows_max: u32,
    ) -> Result<(Vec<Columns>, Option<String>), DirectoryError> {
        let from = match from {
            None => PagingState::start(),
            Some(from) => {
                let state = hex::decode(from).map_err(|cause| DirectoryError::corrupt("cursor", cause))?;
                PagingState::new_from_raw_bytes(state)
            }
        };
        let rows_max = i32::try_from(rows_max.clamp(1, PAGE_MAX)).unwrap_or(i32::MAX);
        let _turn = self.turn().await?;
        let (answer, next) = self.link.page(statement, values, from, rows_max).await?;
        let next = match next {
            PagingStateResponse::HasMorePages { state } => state.as_bytes_slice().map(hex::encode),
            PagingStateResponse::NoMorePages => None,
        };
        Ok((Columns::of(what, &answer)?, next))
    }

    /// All rows of a table or partition that is small by its nature.
    async fn all(
        &self,
        what: &'static str,
        statement: &'static str,
        values: impl SerializeRow + Clone,
    ) -> Result<Vec<Columns>, DirectoryError> {
        let (mut rows, mut next) = self.page(what, statement, values.clone(), None, PAGE_MAX).await?;
        for _ in 1..PAGES_MAX {
            let Some(from) = next else { return Ok(rows) };
            let (more, after) = self.page(what, statement, values.clone(), Some(&from), PAGE_MAX).await?;
            rows.extend(more);
            next = after;
        }
        Err(DirectoryError::TooLarge { what, bytes: rows.len(), bytes_max: (PAGES_MAX * PAGE_MAX) as usize })
    }

    /// A conditional write: applied, not applied, or in doubt.
    async fn decide(
        &self,
        what: &'static str,
        statement: &'static str,
        values: impl SerializeRow,
    ) -> Result<Decided, DirectoryError> {
        self.prove().await?;
        self.decide_unproven(what, statement, values).await
    }

    async fn decide_unproven(
        &self,
        what: &'static str,
        statement: &'static str,
        values: impl SerializeRow,
    ) -> Result<Decided, DirectoryError> {
        match self.optional(Ask::Conditional, what, statement, values).await {
            Ok(Some(mut columns)) => {
                if columns.applied()? {
                    Ok(Decided::Applied)
                } else {
                    Ok(Decided::Not(columns))
                }
            }
            Ok(None) => Err(DirectoryError::Unconditional("a conditional write was answered without a verdict")),
            Err(cause @ DirectoryError::NoAnswer(_)) => Ok(Decided::Unknown(cause)),
            Err(error) => Err(error),
        }
    }

    async fn prove(&self) -> Result<(), DirectoryError> {
        self.proven.get_or_try_init(|| self.prove_once()).await?;
        Ok(())
    }
}

/// Of a table or partition that is small by its nature: tiers, keys, cells.
const PAGES_MAX: u32 = 64;

/// What the store said to a conditional write, with the columns it showed of the row in its way.
enum Decided {
    Applied,
    Not(Columns),
    Unknown(DirectoryError),
}

impl Decided {
    /// The row met is the one that was shown if it is whole: it was read in the round that refused. Else
    /// it is read serially.
    async fn meeting<R>(
        self,
        whole: &[&str],
        row: impl FnOnce(Columns) -> Result<R, DirectoryError>,
        read: impl Future<Output = Result<Option<R>, DirectoryError>>,
    ) -> Result<Written<R>, DirectoryError> {
        Ok(match self {
            Decided::Applied => Written::Applied,
            Decided::Not(columns) if columns.have(whole) => Written::Refused(Some(row(columns)?)),
            Decided::Not(_) => Written::Refused(read.await?),
            Decided::Unknown(cause) => Written::Unknown(cause),
        })
    }
}
