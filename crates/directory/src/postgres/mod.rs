//! The directory on a Postgres server of its own: for a local stack, and for operators of one region.
//! Every read goes to the primary, so every read is a serial one.

mod canary;
mod claims;
mod documents;
mod homes;
mod statements;

pub use statements::STATEMENTS;

use crate::{DirectoryError, Written};
use cellar_model::Secret;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgRow};
use sqlx::query::QueryAs;
use sqlx::{FromRow, PgPool, Postgres};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;

/// How long a statement waits for a connection. Nothing was sent, so the caller may go elsewhere.
const ACQUIRE_MAX: Duration = Duration::from_millis(1_500);
/// How long the server works on a statement. All touch one row or one page.
const STATEMENT_MAX_MS: &str = "1500";
/// How long we wait for the answer. Longer than the server's own limit, so that a slow server says
/// itself that it wrote nothing, and only a silent one leaves us in doubt.
const ANSWER_MAX: Duration = Duration::from_millis(2_000);
/// How long a migration may take: it runs once, by an operator or at the start of a local stack.
const MIGRATION_MAX: Duration = Duration::from_secs(60);

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/postgres/directory");

type Row<'q, R> = QueryAs<'q, Postgres, R, PgArguments>;

/// A pool of connections to the directory's Postgres. Clones share it.
#[derive(Clone, Debug)]
pub struct PostgresDirectory {
    pool: PgPool,
    proven: Arc<OnceCell<()>>,
}

impl PostgresDirectory {
    /// Creates the tables, or brings them up to date; the versions that this run brought.
    pub async fn migrate(url: &Secret) -> Result<Vec<u32>, DirectoryError> {
        // Its own pool: a migration is allowed more time than a statement.
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(ACQUIRE_MAX).connect_lazy_with(parse(url)?);
        let running = async {
            let before = applied(&pool).await;
            MIGRATOR.run(&pool).await?;
            Ok(applied(&pool).await.difference(&before).copied().collect())
        };
        let done = tokio::time::timeout(MIGRATION_MAX, running).await;
        pool.close().await;
        done.map_err(|elapsed| DirectoryError::Migration(elapsed.into()))?
            .map_err(|cause: sqlx::migrate::MigrateError| DirectoryError::Migration(cause.into()))
    }

    /// Of the schema that this program brings.
    pub(crate) fn newest_version() -> u32 {
        MIGRATOR.iter().map(|migration| version(migration.version)).max().unwrap_or_default()
    }

    /// Connects, and proves that conditional writes work before anything relies on them.
    pub async fn connect(url: &Secret, pool_max: u32) -> Result<Self, DirectoryError> {
        let directory = Self::lazy(url, pool_max)?;
        directory.prove().await?;
        Ok(directory)
    }

    /// For those who start while the directory is away: connects when first asked. The proof comes
    /// before the first conditional write.
    pub fn lazy(url: &Secret, pool_max: u32) -> Result<Self, DirectoryError> {
        let options = parse(url)?.options([("statement_timeout", STATEMENT_MAX_MS)]);
        let pool =
            PgPoolOptions::new().max_connections(pool_max).acquire_timeout(ACQUIRE_MAX).connect_lazy_with(options);
        Ok(Self { pool, proven: Arc::new(OnceCell::new()) })
    }

    /// Connections in use and the most there can be, for the metrics.
    pub fn pool_use(&self) -> (u32, u32) {
        let idle = u32::try_from(self.pool.num_idle()).unwrap_or(u32::MAX);
        let max = self.pool.options().get_max_connections();
        (self.pool.size().saturating_sub(idle), max)
    }

    /// One statement on one connection, with every wait bounded. A connection that did not answer
    /// is not used again.
    async fn all<R>(&self, query: Row<'_, R>) -> Result<Vec<R>, DirectoryError>
    where
        R: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        let mut connection = self.pool.acquire().await.map_err(unreachable)?;
        match tokio::time::timeout(ANSWER_MAX, query.fetch_all(&mut *connection)).await {
            Ok(Ok(rows)) => Ok(rows),
            Ok(Err(error)) => Err(classify(error)),
            Err(elapsed) => {
                connection.close_on_drop();
                Err(DirectoryError::NoAnswer(elapsed.into()))
            }
        }
    }

    async fn optional<R>(&self, query: Row<'_, R>) -> Result<Option<R>, DirectoryError>
    where
        R: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        Ok(self.all(query).await?.into_iter().next())
    }

    /// A conditional write: applied, not applied, or in doubt.
    async fn decide(&self, query: Row<'_, (bool,)>) -> Result<Decided, DirectoryError> {
        self.proven.get_or_try_init(|| self.prove_once()).await?;
        match self.optional(query).await {
            Ok(Some(_)) => Ok(Decided::Applied),
            Ok(None) => Ok(Decided::Not),
            Err(cause @ DirectoryError::NoAnswer(_)) => Ok(Decided::Unknown(cause)),
            Err(error) => Err(error),
        }
    }

    async fn prove(&self) -> Result<(), DirectoryError> {
        self.proven.get_or_try_init(|| self.prove_once()).await?;
        Ok(())
    }
}

/// What the server said to a conditional write, before the row in its way is read.
enum Decided {
    Applied,
    Not,
    Unknown(DirectoryError),
}

impl Decided {
    /// The row met is read after the refusal, in a statement of its own: within one statement the
    /// winner of a race would not be seen yet.
    async fn meeting<R>(
        self,
        read: impl Future<Output = Result<Option<R>, DirectoryError>>,
    ) -> Result<Written<R>, DirectoryError> {
        Ok(match self {
            Decided::Applied => Written::Applied,
            Decided::Not => Written::Refused(read.await?),
            Decided::Unknown(cause) => Written::Unknown(cause),
        })
    }
}

/// Versions that are there; none before the first migration, which makes the table of them.
async fn applied(pool: &PgPool) -> BTreeSet<u32> {
    let read = sqlx::query_as::<_, (i64,)>("select version from _sqlx_migrations where success");
    let versions = read.fetch_all(pool).await.unwrap_or_default();
    versions.into_iter().map(|(number,)| version(number)).collect()
}

fn version(number: i64) -> u32 {
    u32::try_from(number).unwrap_or_default()
}

fn parse(url: &Secret) -> Result<PgConnectOptions, DirectoryError> {
    // The parser's own message may quote the URL, and with it the password.
    url.reveal().parse().map_err(|_| DirectoryError::BadUrl)
}

fn unreachable(error: sqlx::Error) -> DirectoryError {
    DirectoryError::Unreachable(error.into())
}

/// Whether an error came with the server's word that nothing was written.
fn classify(error: sqlx::Error) -> DirectoryError {
    let sqlx::Error::Database(answer) = &error else {
        return match error {
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => DirectoryError::corrupt("row", error),
            // Broken pipes, resets, protocol errors: it may have been written all the same.
            error => DirectoryError::NoAnswer(error.into()),
        };
    };
    let code = answer.code().unwrap_or_default().into_owned();
    match code.as_str() {
        // Out of connections or memory, lock or statement timeout, deadlock: rolled back.
        code if code.starts_with("53") => unreachable(error),
        "57014" | "55P03" | "40001" | "40P01" => unreachable(error),
        // Shut down under way, connection lost, completion unknown.
        "40003" => DirectoryError::NoAnswer(error.into()),
        code if code.starts_with("57") || code.starts_with("08") => DirectoryError::NoAnswer(error.into()),
        _ => DirectoryError::Rejected(error.into()),
    }
}
