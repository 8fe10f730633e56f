//! The stores of one cell, filled with users and asked how much they hold.

use crate::target::Target;
use anyhow::{Context, Result};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

/// Users of one statement.
const FILL_MAX: i64 = 50_000;

/// What sign-up leaves in the cell's Postgres, without the claim, the directory's row and the intent:
/// a million sign-ups would take the better part of an hour. Ids are as long as minted ones and, like
/// users who come back, in no order.
const FILL: &str = "
    with users as (
        insert into users (user_id, email, email_intent, tier_id)
        select 'local_' || substr(md5(n::text), 1, 26), 'load-' || n || '@example.com', md5('intent' || n), 'load'
        from generate_series($1::bigint, $2::bigint) n
        returning user_id
    )
    insert into ownership (user_id, state, epoch, home) select user_id, 'OWNED', 1, $3 from users
    returning user_id";

const SETTLED: &[&str] = &["vacuum analyze users", "vacuum analyze ownership", "checkpoint"];

/// Heap and indexes of a table, its partitions included.
const TABLE_BYTES: &str = "
    select coalesce(sum(pg_table_size(relid)), 0)::bigint, coalesce(sum(pg_indexes_size(relid)), 0)::bigint
    from (select relid from pg_partition_tree($1::text::regclass) union select $1::text::regclass) t (relid)";

const TABLES: [(&str, &str); 4] = [
    ("users", "select count(*) from users"),
    ("ledger", "select count(*) from ledger"),
    ("quota_state", "select count(*) from quota_state"),
    ("ledger_keys", "select count(*) from ledger_keys"),
];

const WAL_BYTES: &str = "select pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint";

pub(crate) struct Stores {
    postgres: PgPool,
    redis: redis::aio::MultiplexedConnection,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) rows: i64,
    pub(crate) heap_bytes: i64,
    pub(crate) index_bytes: i64,
}

/// Of the quota Redis.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RedisSize {
    pub(crate) used_bytes: i64,
    pub(crate) resident_bytes: i64,
    pub(crate) keys: i64,
    /// Keys that will expire: records that Postgres holds, and first answers of idempotency keys.
    pub(crate) expiring: i64,
    pub(crate) file_bytes: i64,
}

impl Stores {
    pub(crate) async fn of(target: &Target) -> Result<Self> {
        let postgres = PgPoolOptions::new().max_connections(1).connect(&target.server_url("postgres")?).await?;
        let redis = redis::Client::open(target.server_url("redis-quota")?)?.get_multiplexed_async_connection().await?;
        Ok(Self { postgres, redis })
    }

    /// Makes `count` users that this cell owns, and returns their ids.
    pub(crate) async fn fill(&self, count: usize) -> Result<Vec<String>> {
        let home: String = sqlx::query_scalar("select home from ownership limit 1").fetch_one(&self.postgres).await?;
        let (mut ids, count) = (Vec::with_capacity(count), i64::try_from(count)?);
        for first in (1..=count).step_by(FILL_MAX as usize) {
            let last = count.min(first + FILL_MAX - 1);
            let fill = sqlx::query_scalar::<_, String>(FILL).bind(first).bind(last).bind(&home);
            ids.extend(fill.fetch_all(&self.postgres).await?);
        }
        for statement in SETTLED {
            sqlx::query(*statement).execute(&self.postgres).await?;
        }
        Ok(ids)
    }

    pub(crate) async fn tables(&self) -> Result<Vec<Table>> {
        let mut tables = Vec::with_capacity(TABLES.len());
        for (name, count) in TABLES {
            let sized = sqlx::query_as::<_, (i64, i64)>(TABLE_BYTES).bind(name);
            let (heap_bytes, index_bytes) = sized.fetch_one(&self.postgres).await?;
            let rows = sqlx::query_scalar(count).fetch_one(&self.postgres).await?;
            tables.push(Table { name, rows, heap_bytes, index_bytes });
        }
        Ok(tables)
    }

    /// What Postgres has ever written ahead.
    pub(crate) async fn wal_bytes(&self) -> Result<i64> {
        Ok(sqlx::query_scalar(WAL_BYTES).fetch_one(&self.postgres).await?)
    }

    pub(crate) async fn redis(&mut self) -> Result<RedisSize> {
        let info: String = redis::cmd("INFO").arg("everything").query_async(&mut self.redis).await?;
        let number = |name: &str| -> Result<i64> {
            let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            Ok(line.with_context(|| format!("Redis does not say {name}"))?.trim().parse()?)
        };
        // `db0:keys=7,expires=3,avg_ttl=…`; no line, no keys.
        let keyspace = info.lines().find_map(|line| line.strip_prefix("db0:")).unwrap_or("");
        let of_keyspace = |name: &str| -> i64 {
            let part = keyspace.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
            part.and_then(|part| part.trim().parse().ok()).unwrap_or(0)
        };
        Ok(RedisSize {
            used_bytes: number("used_memory")?,
            resident_bytes: number("used_memory_rss")?,
            keys: of_keyspace("keys"),
            expiring: of_keyspace("expires"),
            file_bytes: number("aof_current_size")?,
        })
    }
}
