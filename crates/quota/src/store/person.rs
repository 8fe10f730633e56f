//! What the books have of one person: read whole for an export, and taken off the name when the person goes.

use super::ledger::ledger_row;
use super::postgres::bounded;
use crate::QuotaError;
use cellar_model::wire::LedgerRow;
use cellar_model::{UserId, Version};
use sqlx::PgPool;
use std::time::Duration;
use tokio::time::Instant;

/// Of the record as of the last drain, under either of two names.
pub(super) const DRAINED_VERSION: &str = "select max(version) from quota_state where user_id in ($1, $2)";

/// Puts some rows of the ledger under another name.
pub(super) const RENAME_ROWS: &str = "
    with chosen as (
        select at_us, shard, fence, seq, n from ledger where user_id = $1 limit $3
    )
    update ledger l set user_id = $2 from chosen
    where (l.at_us, l.shard, l.fence, l.seq, l.n) = (chosen.at_us, chosen.shard, chosen.fence, chosen.seq, chosen.n)";

/// The same of the record's copy, whose reservations nobody waits for any more.
pub(super) const RENAME_STATE: &str = "update quota_state set user_id = $2, expires_at_us = null where user_id = $1";

/// A person's rows after a key, oldest first, each with its checks.
pub(super) const ROWS: &str = "
    select at_us, shard, fence, seq, n, user_id, epoch, version, kind, places, charges::text, checks
    from ledger where user_id = $1 and (at_us, shard, fence, seq, n) > ($2, $3, $4, $5, $6)
    order by at_us, shard, fence, seq, n limit $7";

/// Rows renamed by one statement: some tens of milliseconds of work.
const RENAMED_MAX: i64 = 5_000;
/// Rows of a page of an export.
const PAGE_ROWS: i64 = 500;
/// Between looks for a drain, which takes some 50 ms.
const DRAINED_POLL: Duration = Duration::from_millis(20);

/// One person's part of the books in Postgres.
#[derive(Clone)]
pub(crate) struct PersonBooks {
    pool: PgPool,
}

impl PersonBooks {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Whether the ledger holds all commits up to `version` by `until`.
    pub(crate) async fn drained(
        &self,
        user: &UserId,
        anonymous: &UserId,
        version: Version,
        until: Instant,
    ) -> Result<bool, QuotaError> {
        loop {
            let held = sqlx::query_scalar::<_, Option<i64>>(DRAINED_VERSION)
                .bind(user.as_str())
                .bind(anonymous.as_str())
                .fetch_one(&self.pool);
            if bounded("drained version", held).await? >= Some(version.as_i64()) {
                return Ok(true);
            }
            if Instant::now() >= until {
                return Ok(false);
            }
            tokio::time::sleep(DRAINED_POLL).await;
        }
    }

    /// Everything the books have of `user` is under `anonymous` from now on. May be repeated, and killed half way.
    pub(crate) async fn rename(&self, user: &UserId, anonymous: &UserId) -> Result<(), QuotaError> {
        let (from, to) = (user.as_str(), anonymous.as_str());
        loop {
            let renamed = sqlx::query(RENAME_ROWS).bind(from).bind(to).bind(RENAMED_MAX).execute(&self.pool);
            if bounded("rename rows", renamed).await?.rows_affected() < RENAMED_MAX as u64 {
                break;
            }
        }
        bounded("rename state", sqlx::query(RENAME_STATE).bind(from).bind(to).execute(&self.pool)).await?;
        Ok(())
    }

    /// The rows after `after`, and whether there may be more.
    pub(crate) async fn rows(
        &self,
        user: &UserId,
        after: Option<&LedgerRow>,
    ) -> Result<(Vec<LedgerRow>, bool), QuotaError> {
        let key = after.map_or((i64::MIN, 0, 0, 0, 0), |row| (row.at_us, row.shard, row.fence, row.seq, row.n));
        let rows = sqlx::query(ROWS)
            .bind(user.as_str())
            .bind(key.0)
            .bind(key.1)
            .bind(key.2)
            .bind(key.3)
            .bind(key.4)
            .bind(PAGE_ROWS)
            .fetch_all(&self.pool);
        let rows = bounded("rows of a person", rows).await?;
        let more = rows.len() as i64 == PAGE_ROWS;
        let rows = rows.iter().map(ledger_row).collect::<Result<_, _>>().map_err(QuotaError::Postgres)?;
        Ok((rows, more))
    }
}
