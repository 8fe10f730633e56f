//! The comparison of the books: ledger, records in Redis, and their copies in Postgres.

use crate::record::{Head, Record};
use crate::shard::ShardId;
use crate::store::servers::Servers;
use crate::{QuotaError, StoreError};
use cellar_model::wire::{AuditPage, AuditedUser};
use cellar_model::{Fence, UserId};
use smol_str::SmolStr;
use sqlx::{PgConnection, PgPool, Row};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

pub(super) const PAGE: &str = "
    select o.user_id, q.record from ownership o left join quota_state q using (user_id)
    where o.state = 'OWNED' and o.user_id > $1 order by o.user_id limit $2";

pub(super) const LEDGER_SUMS: &str = "
    select l.user_id, c.key as unit, sum(c.value::bigint)::bigint as amount
    from ledger l, jsonb_each_text(l.charges) c where l.user_id = any($1) group by 1, 2
    union all
    select user_id, '', sum(places)::bigint from ledger where user_id = any($1) group by 1";

pub(super) const ON_REDIS: &str = "select shard, valid_from from shard where mode = 'redis'";

const SNAPSHOT: &str = "begin isolation level repeatable read read only";

/// Users of one page.
const PAGE_USERS: i64 = 500;

/// Reads all three books of a cell. It takes connections of its own, so that it can neither disturb
/// a shard's writer nor be answered from its memory.
#[derive(Clone)]
pub struct Audit {
    pool: PgPool,
    servers: Arc<Servers>,
    shards: u16,
    timeout: Duration,
}

type Sums = BTreeMap<SmolStr, i64>;

impl Audit {
    pub(crate) fn new(pool: PgPool, servers: Arc<Servers>, shards: u16) -> Self {
        Self { pool, servers, shards, timeout: Duration::from_secs(5) }
    }

    /// The page of users after `after`, with `undrained` as the shards count it.
    ///
    /// Ledger and copies are read in one snapshot, so a drain under way cannot tear them apart. Redis is
    /// read after it, and is at or ahead of it.
    pub async fn page(&self, after: Option<&UserId>, undrained: u64) -> Result<AuditPage, QuotaError> {
        let postgres = |e: sqlx::Error| QuotaError::Postgres(e);
        let mut snapshot = self.pool.begin_with(SNAPSHOT).await.map_err(postgres)?;
        let rows = sqlx::query(PAGE)
            .bind(after.map_or("", UserId::as_str))
            .bind(PAGE_USERS)
            .fetch_all(&mut *snapshot)
            .await
            .map_err(postgres)?;
        let mut ids = Vec::with_capacity(rows.len());
        let mut copies: HashMap<String, (Head, Sums)> = HashMap::new();
        for row in &rows {
            let id: String = row.try_get("user_id").map_err(postgres)?;
            let copy: Option<Vec<u8>> = row.try_get("record").map_err(postgres)?;
            copies.insert(id.clone(), copy.map(|bytes| totals(&bytes)).transpose()?.unwrap_or_default());
            ids.push(id);
        }
        let (mut ledgers, mut places) = ledger_sums(&mut snapshot, &ids).await?;
        snapshot.commit().await.map_err(postgres)?;
        let valid_from = self.on_redis().await?;
        let mut records = self.records(&ids, &valid_from).await?;
        let mut users = Vec::with_capacity(ids.len());
        for id in &ids {
            let (copied, copy) = copies.remove(id).unwrap_or_default();
            let (recorded, record) = records.remove(id).unwrap_or_default();
            users.push(AuditedUser {
                user_id: UserId::new(id).map_err(|_| QuotaError::OddUserId)?,
                ledger: ledgers.remove(id).unwrap_or_default(),
                record,
                copy,
                behind: recorded > copied,
                admitted: places.remove(id).unwrap_or_default(),
            });
        }
        let next = (rows.len() as i64 == PAGE_USERS).then(|| users.last().map(|user| user.user_id.clone())).flatten();
        let mut stores = vec!["ledger".into(), "postgres".into()];
        if !valid_from.is_empty() {
            stores.push("redis".into());
        }
        Ok(AuditPage { users, next, undrained, stores })
    }

    /// The shards that commit to Redis, with the fence since which its content counts.
    async fn on_redis(&self) -> Result<HashMap<ShardId, Fence>, QuotaError> {
        let rows =
            sqlx::query_as::<_, (i16, i64)>(ON_REDIS).fetch_all(&self.pool).await.map_err(QuotaError::Postgres)?;
        Ok(rows.into_iter().map(|(shard, fence)| (ShardId(shard as u16), Fence::from_i64(fence))).collect())
    }

    async fn records(
        &self,
        ids: &[String],
        valid_from: &HashMap<ShardId, Fence>,
    ) -> Result<HashMap<String, (Head, Sums)>, QuotaError> {
        let mut by_shard: HashMap<ShardId, Vec<UserId>> = HashMap::new();
        for id in ids.iter().filter_map(|id| UserId::new(id).ok()) {
            let shard = ShardId(id.placement_key().point().shard(self.shards));
            by_shard.entry(shard).or_default().push(id);
        }
        let mut records = HashMap::new();
        for (shard, users) in by_shard {
            // What Redis holds counts only where the last finished turn believes it.
            let Some(valid_from) = valid_from.get(&shard) else { continue };
            let mut redis = self.servers.connect(shard, self.timeout, true).await?;
            for (user, record) in users.iter().zip(redis.records(&users).await?) {
                if let Some(bytes) = record
                    && Head::from_bytes(&bytes).is_some_and(|head| head.fence >= *valid_from)
                {
                    records.insert(user.as_str().to_owned(), totals(&bytes)?);
                }
            }
        }
        Ok(records)
    }
}

async fn ledger_sums(
    snapshot: &mut PgConnection,
    ids: &[String],
) -> Result<(HashMap<String, Sums>, HashMap<String, u64>), QuotaError> {
    let rows = sqlx::query(LEDGER_SUMS).bind(ids).fetch_all(snapshot).await.map_err(QuotaError::Postgres)?;
    let (mut sums, mut places) = (HashMap::<String, Sums>::new(), HashMap::new());
    for row in rows {
        let get = |row: &sqlx::postgres::PgRow| -> Result<(String, String, i64), sqlx::Error> {
            Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
        };
        let (id, unit, amount) = get(&row).map_err(QuotaError::Postgres)?;
        if unit.is_empty() {
            places.insert(id, amount.max(0) as u64);
        } else {
            sums.entry(id).or_default().insert(SmolStr::from(unit), amount);
        }
    }
    Ok((sums, places))
}

/// A record's head, and its totals by unit.
fn totals(record: &[u8]) -> Result<(Head, Sums), StoreError> {
    let record = Record::decode(record).map_err(|cause| StoreError::Unreadable { store: "redis", cause })?;
    let total = |(unit, total): (_, u64)| (SmolStr::from(unit), i64::try_from(total).unwrap_or(i64::MAX));
    Ok((record.head, record.body.totals.into_iter().map(total).collect()))
}
