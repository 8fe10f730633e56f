//! The ledger by months of policy time: read for export, and dropped once that has been done.

use crate::entry::{Act, LedgerCheck};
use crate::error::QuotaError;
use crate::tail::Month;
use cellar_model::UserId;
use cellar_model::wire::{Acted, LedgerAct, LedgerMonth, LedgerPage, LedgerRow};
use smol_str::SmolStr;
use sqlx::{PgPool, Row};
use std::ops::Range;

const DAY_US: i64 = 86_400_000_000;
/// Rows of a page.
const PAGE_ROWS: i64 = 2_000;
/// The same where checks are asked for: a commit may have 32 of them.
const PAGE_ROWS_WITH_CHECKS: i64 = 500;
/// For a drop's lock on the ledger: drains wait behind it, so it gives up soon and is tried again.
const DROP_LOCK_MS: u32 = 100;

pub(super) const MONTHS: &str = "
    select c.relname::text, greatest(c.reltuples, 0)::bigint as rows, pg_total_relation_size(c.oid) as bytes,
           e.rows as exported_rows
    from pg_inherits i join pg_class c on c.oid = i.inhrelid join pg_class p on p.oid = i.inhparent
    left join ledger_exports e on e.partition = c.relname
    where p.relname = 'ledger' order by 1";

pub(super) const ROWS: &str = "
    select at_us, shard, fence, seq, n, user_id, epoch, version, kind, places, charges::text,
           case when $9 then checks end as checks
    from ledger where at_us >= $1 and at_us < $2 and (at_us, shard, fence, seq, n) > ($3, $4, $5, $6, $7)
    order by at_us, shard, fence, seq, n limit $8";

/// Takes an export's word only if it has every row there is.
pub(super) const MARK_EXPORTED: &str = "
    insert into ledger_exports (partition, rows, sha256)
    select $1, $2, $3 where $2 = (select count(*) from ledger where at_us >= $4 and at_us < $5)
    on conflict (partition) do update set rows = excluded.rows, sha256 = excluded.sha256, exported_at = now()";

/// Up to where every shard's policy time has come; shards without any entry do not hold it back.
pub(super) const REACHED: &str = "
    select min(newest) from (
        select (select l.at_us from ledger l where l.shard = s.shard order by l.at_us desc limit 1) as newest
        from shard s) reached";

pub(super) const EXPORTED: &str = "select partition, rows from ledger_exports order by partition";

pub(super) const COUNT: &str = "select count(*) from ledger where at_us >= $1 and at_us < $2";

pub(super) const FORGET_EXPORT: &str = "delete from ledger_exports where partition = $1";

/// By the index on user and time, and in the partitions of that time alone.
pub(super) const USAGE: &str = "
    select l.at_us / 86400000000 as day, c.key as unit, sum(c.value::bigint)::bigint as amount
    from ledger l, jsonb_each_text(l.charges) c
    where l.user_id = $1 and l.at_us >= $2 and l.at_us < $3 group by 1, 2 order by 1, 2";

/// The books of a cell, month by month.
#[derive(Clone)]
pub struct Ledger {
    pool: PgPool,
}

impl Ledger {
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// The months there are, oldest first; their rows as Postgres estimates them.
    pub async fn months(&self) -> Result<Vec<LedgerMonth>, QuotaError> {
        let rows = sqlx::query_as::<_, (String, i64, i64, Option<i64>)>(MONTHS).fetch_all(&self.pool).await;
        let month = |(partition, rows, bytes, exported): (String, i64, i64, Option<i64>)| {
            let month = Month::of_partition(&partition)?;
            Some(LedgerMonth { month: month.name(), rows, bytes, exported_rows: exported })
        };
        Ok(rows.map_err(QuotaError::Postgres)?.into_iter().filter_map(month).collect())
    }

    /// What `user` was charged, less what was given back, on each of these days of policy time: days since the
    /// epoch, in UTC, from `from` up to and without `to`.
    pub async fn usage(&self, user: &UserId, days: Range<i64>) -> Result<Vec<(i64, SmolStr, i64)>, QuotaError> {
        let rows = sqlx::query_as::<_, (i64, String, i64)>(USAGE)
            .bind(user.as_str())
            .bind(days.start.saturating_mul(DAY_US))
            .bind(days.end.saturating_mul(DAY_US))
            .fetch_all(&self.pool)
            .await
            .map_err(QuotaError::Postgres)?;
        Ok(rows.into_iter().map(|(day, unit, amount)| (day, unit.into(), amount)).collect())
    }

    /// A page of a month's rows after `after`, in the order of their primary key. None: no such month.
    pub async fn page(&self, month: &str, after: Option<&LedgerRow>) -> Result<Option<LedgerPage>, QuotaError> {
        self.rows(month, after, PAGE_ROWS, false).await
    }

    /// The same with every row's checks.
    pub async fn page_with_checks(
        &self,
        month: &str,
        after: Option<&LedgerRow>,
    ) -> Result<Option<LedgerPage>, QuotaError> {
        self.rows(month, after, PAGE_ROWS_WITH_CHECKS, true).await
    }

    async fn rows(
        &self,
        month: &str,
        after: Option<&LedgerRow>,
        rows_max: i64,
        with_checks: bool,
    ) -> Result<Option<LedgerPage>, QuotaError> {
        let Some(month) = Month::parse(month) else { return Ok(None) };
        let (from, to) = month.bounds();
        let place = after.map_or((i64::MIN, 0, 0, 0, 0), |row| (row.at_us, row.shard, row.fence, row.seq, row.n));
        let rows = sqlx::query(ROWS)
            .bind(from)
            .bind(to)
            .bind(place.0)
            .bind(place.1)
            .bind(place.2)
            .bind(place.3)
            .bind(place.4)
            .bind(rows_max)
            .bind(with_checks)
            .fetch_all(&self.pool)
            .await
            .map_err(QuotaError::Postgres)?;
        let whole = (rows.len() as i64) < rows_max;
        let rows: Result<Vec<LedgerRow>, sqlx::Error> = rows.iter().map(ledger_row).collect();
        Ok(Some(LedgerPage { rows: rows.map_err(QuotaError::Postgres)?, last: whole }))
    }

    /// Remembers that a month has been exported. False: it has another number of rows by now.
    pub async fn mark_exported(&self, month: &str, rows: i64, sha256: &str) -> Result<bool, QuotaError> {
        let Some(month) = Month::parse(month) else { return Ok(false) };
        let (from, to) = month.bounds();
        let marked = sqlx::query(MARK_EXPORTED)
            .bind(month.partition())
            .bind(rows)
            .bind(sha256)
            .bind(from)
            .bind(to)
            .execute(&self.pool)
            .await;
        Ok(marked.map_err(QuotaError::Postgres)?.rows_affected() == 1)
    }

    /// Drops months that were exported whole and lie `keep` months behind every shard's newest entry.
    /// Returns their names. One that has gained a late entry since stays until it is exported again.
    pub async fn drop_due(&self, keep: u32) -> Result<Vec<String>, QuotaError> {
        let reached: Option<i64> =
            sqlx::query_scalar(REACHED).fetch_one(&self.pool).await.map_err(QuotaError::Postgres)?;
        let Some(reached) = reached else { return Ok(Vec::new()) };
        let exported = sqlx::query_as::<_, (String, i64)>(EXPORTED).fetch_all(&self.pool).await;
        let mut dropped = Vec::new();
        for (partition, rows) in exported.map_err(QuotaError::Postgres)? {
            let Some(month) = Month::of_partition(&partition) else { continue };
            let (from, to) = month.bounds();
            if month.ahead(keep).bounds().1 > reached {
                continue;
            }
            let held: i64 = sqlx::query_scalar(COUNT)
                .bind(from)
                .bind(to)
                .fetch_one(&self.pool)
                .await
                .map_err(QuotaError::Postgres)?;
            if held != rows {
                tracing::warn!(partition, held, exported = rows, "a month has changed since it was exported; it stays");
                continue;
            }
            self.drop_partition(&partition).await.map_err(QuotaError::Postgres)?;
            dropped.push(month.name());
        }
        Ok(dropped)
    }

    async fn drop_partition(&self, partition: &str) -> Result<(), sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        // The name was made of numbers, nothing of a caller stands in it.
        for statement in [
            format!("set local lock_timeout = '{DROP_LOCK_MS}ms'"),
            format!("alter table ledger detach partition {partition}"),
            format!("drop table {partition}"),
        ] {
            sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut *transaction).await?;
        }
        sqlx::query(FORGET_EXPORT).bind(partition).execute(&mut *transaction).await?;
        transaction.commit().await
    }
}

pub(super) fn ledger_row(row: &sqlx::postgres::PgRow) -> Result<LedgerRow, sqlx::Error> {
    let charges: String = row.try_get("charges")?;
    let checks: Option<Vec<u8>> = row.try_get("checks")?;
    let checks: Vec<LedgerCheck> = match &checks {
        Some(packed) => postcard::from_bytes(packed).map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
        None => Vec::new(),
    };
    Ok(LedgerRow {
        at_us: row.try_get("at_us")?,
        shard: row.try_get("shard")?,
        fence: row.try_get("fence")?,
        seq: row.try_get("seq")?,
        n: row.try_get("n")?,
        user_id: row.try_get("user_id")?,
        epoch: row.try_get("epoch")?,
        version: row.try_get("version")?,
        kind: row.try_get("kind")?,
        places: row.try_get("places")?,
        charges: serde_json::from_str(&charges).map_err(|error| sqlx::Error::Decode(Box::new(error)))?,
        checks: checks.into_iter().map(said).collect(),
    })
}

/// A check as an export and a backtest read it.
fn said(check: LedgerCheck) -> LedgerAct {
    let act = match check.act {
        Act::Consume => Acted::Consume,
        Act::Reserve { .. } => Acted::Reserve,
        Act::Settle { of } => Acted::Settle { of: of.to_string() },
        Act::Refund { of } => Acted::Refund { of: of.to_string() },
        Act::Expire { of } => Acted::Expire { of: of.to_string() },
        Act::Grant(terms) => Acted::Grant(*terms),
        Act::Override(terms) => Acted::Override(*terms),
        Act::Adopt(terms) => Acted::Adopt(*terms),
        Act::Erase => Acted::Erase,
    };
    let charges = check.charges.iter().map(|(unit, amount)| (unit.as_str().into(), *amount)).collect();
    LedgerAct { charge_id: check.charge.to_string(), at_us: check.at.0, act, charges }
}
