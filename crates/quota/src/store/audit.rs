//! The comparison of the books: ledger, records in Redis, and their copies in Postgres.

use crate::record::{Head, Record};
use crate::shard::ShardId;
use crate::store::postgres::{PostgresStore, ShardRow};
use crate::store::servers::Servers;
use crate::{QuotaError, StoreError};
use cellar_model::wire::{AuditPage, AuditedUser, CellShard};
use cellar_model::{Fence, UserId};
use smol_str::SmolStr;
use sqlx::{PgConnection, PgPool, Row};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

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
    /// What this process's shards have in memory, by shard.
    memories: Vec<mpsc::Sender<Recall>>,
}

/// Asks a shard that is open what it has in memory of `users`.
pub(crate) struct Recall {
    pub(crate) users: Vec<UserId>,
    pub(crate) reply: oneshot::Sender<Recalled>,
}

/// Of those who are there, what the last commit left.
pub(crate) type Recalled = Vec<(UserId, Head, Sums)>;

/// For an open shard to say what it has in memory: it does so between two calls.
const RECALL_MAX: Duration = Duration::from_secs(1);

/// The records of a page's users, and where they come from.
#[derive(Default)]
struct Records {
    by_user: HashMap<String, (Head, Sums)>,
    redis: bool,
    memory: bool,
    /// Shards that commit to Redis, and whose records it does not tell now.
    unread: Vec<u16>,
}

pub(crate) type Sums = BTreeMap<SmolStr, i64>;

impl Audit {
    pub(crate) fn new(pool: PgPool, servers: Arc<Servers>, memories: Vec<mpsc::Sender<Recall>>) -> Self {
        let shards = memories.len() as u16;
        Self { pool, servers, shards, timeout: Duration::from_secs(2), memories }
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
            let (recorded, record) = records.by_user.remove(id).unwrap_or_default();
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
        stores.extend(records.redis.then(|| "redis".into()));
        stores.extend(records.memory.then(|| "memory".into()));
        records.unread.sort_unstable();
        Ok(AuditPage { users, next, undrained, stores, unread: records.unread })
    }

    /// Every shard, with what the ledger lacks of it: of shards that are served here as they count
    /// themselves (`mine`), of the others by what the stores show.
    pub async fn shards(&self, mine: impl Fn(ShardId) -> Option<u64>) -> Result<Vec<CellShard>, QuotaError> {
        let rows = PostgresStore::shards(&self.pool).await?;
        let mut shards = Vec::with_capacity(rows.len());
        for row in rows {
            let undrained = match mine(ShardId(row.shard)) {
                Some(entries) => entries,
                None => self.undrained_elsewhere(&row).await?,
            };
            shards.push(CellShard {
                shard: row.shard,
                fence: row.fence.0,
                opened: row.opened.0,
                endpoint: row.endpoint,
                mode: row.mode,
                undrained,
            });
        }
        Ok(shards)
    }

    /// Batches of the stream above the watermark, and charges that wait for a turn; at least one while a
    /// turn is under way.
    async fn undrained_elsewhere(&self, row: &ShardRow) -> Result<u64, QuotaError> {
        let turning = u64::from(row.fence > row.opened);
        if row.mode.as_deref() != Some("redis") {
            return Ok(turning + row.late);
        }
        let shard = ShardId(row.shard);
        let mut redis = self.servers.connect(shard, self.timeout, true).await?;
        let batches = match redis.stream_end().await? {
            Some((fence, last)) if fence == row.opened => {
                let drained = row.drained.map_or(0, |seq| seq.0 + 1);
                (last.0 + 1).saturating_sub(drained)
            }
            _ => 0,
        };
        Ok(turning + row.late + batches)
    }

    /// The shards that commit to Redis, with the fence since which its content counts.
    async fn on_redis(&self) -> Result<HashMap<ShardId, Fence>, QuotaError> {
        let rows =
            sqlx::query_as::<_, (i16, i64)>(ON_REDIS).fetch_all(&self.pool).await.map_err(QuotaError::Postgres)?;
        Ok(rows.into_iter().map(|(shard, fence)| (ShardId(shard as u16), Fence::from_i64(fence))).collect())
    }

    /// From Redis what it takes the commits of, and of other shards what this process has in memory. A Redis
    /// that does not answer is said, and costs the audit nothing else.
    async fn records(&self, ids: &[String], valid_from: &HashMap<ShardId, Fence>) -> Result<Records, QuotaError> {
        let mut by_shard: HashMap<ShardId, Vec<UserId>> = HashMap::new();
        for id in ids.iter().filter_map(|id| UserId::new(id).ok()) {
            let shard = ShardId(id.placement_key().point().shard(self.shards));
            by_shard.entry(shard).or_default().push(id);
        }
        let asked = by_shard.into_iter().map(|(shard, users)| async move {
            // What Redis holds counts only where the last finished turn believes it.
            let told = match valid_from.get(&shard) {
                Some(valid_from) => Some(self.in_redis(shard, &users, *valid_from).await),
                None => None,
            };
            let in_memory = if matches!(told, Some(Ok(_))) { None } else { self.in_memory(shard, users).await };
            (shard, told, in_memory)
        });
        let mut records = Records::default();
        for (shard, told, in_memory) in futures::future::join_all(asked).await {
            match told {
                Some(Ok(told)) => {
                    records.redis = true;
                    records.by_user.extend(told);
                }
                Some(Err(QuotaError::Store(error @ StoreError::Unreadable { .. }))) => return Err(error.into()),
                Some(Err(error)) => {
                    tracing::warn!(%shard, error = &error as &dyn std::error::Error, "audited without Redis");
                    records.unread.push(shard.0);
                }
                None => {}
            }
            if let Some(recalled) = in_memory {
                records.memory = true;
                let named = |(user, head, sums): (UserId, Head, Sums)| (user.as_str().to_owned(), (head, sums));
                records.by_user.extend(recalled.into_iter().map(named));
            }
        }
        Ok(records)
    }

    async fn in_redis(
        &self,
        shard: ShardId,
        users: &[UserId],
        valid_from: Fence,
    ) -> Result<Vec<(String, (Head, Sums))>, QuotaError> {
        let mut redis = self.servers.connect(shard, self.timeout, true).await?;
        let mut records = Vec::with_capacity(users.len());
        for (user, record) in users.iter().zip(redis.records(users).await?) {
            if let Some(bytes) = record
                && Head::from_bytes(&bytes).is_some_and(|head| head.fence >= valid_from)
            {
                records.push((user.as_str().to_owned(), totals(&bytes)?));
            }
        }
        Ok(records)
    }

    /// None: the shard is not open here.
    async fn in_memory(&self, shard: ShardId, users: Vec<UserId>) -> Option<Recalled> {
        let (reply, recalled) = oneshot::channel();
        self.memories.get(usize::from(shard.0))?.try_send(Recall { users, reply }).ok()?;
        tokio::time::timeout(RECALL_MAX, recalled).await.ok()?.ok()
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
    Ok((record.head, sums(&record)))
}

/// A record's totals by unit.
pub(crate) fn sums(record: &Record) -> Sums {
    let total = |(unit, total): &(cellar_model::Unit, u64)| {
        (SmolStr::from(unit.clone()), i64::try_from(*total).unwrap_or(i64::MAX))
    };
    record.body.totals.iter().map(total).collect()
}
