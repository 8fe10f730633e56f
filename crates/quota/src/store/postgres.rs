//! The cell's Postgres: whose turn it is, the ledger, and each user's latest record.
//!
//! Every statement is one round trip, so that the `shard` row, which each writer's statement
//! changes or reads first, is never held across a pause of the process.

use crate::entry::{LedgerCheck, LedgerEntry};
use crate::error::StoreError;
use crate::outcome::Outcome;
use crate::protocol::{Finished, Mode};
use crate::record::{Head, Record, RecordError};
use crate::shard::ShardId;
use crate::tail::{Months, TailBatch};
use cellar_model::{CellName, ChargeId, Epoch, Fence, KeyId, Seq, TierName, UserId};
use sqlx::{PgPool, Row};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// Raises the fence and nothing else; its answer is what the last finished turn left.
const BEGIN_TURN: &str = "
    insert into shard (shard, fence, taker) values ($1, 1, $2)
    on conflict (shard) do update set fence = shard.fence + 1, taker = excluded.taker
    returning fence, opened, owner, mode, run_id, fence_key, valid_from, drained_seq, late,
              coalesce(extract(epoch from now() - valid_at), 0)::float8 as valid_for_s";

/// The last step of a turn: the only one that writes `opened` and what follows it.
const OPEN_TURN: &str = "
    with closed as (
        insert into fences (shard, fence, last_seq)
        select shard, opened, drained_seq from shard where shard = $1 and fence = $2 and opened between 1 and $2 - 1
        on conflict (shard, fence) do nothing
    ), opening as (
        update shard set opened = $2, owner = $3, mode = case when $5::text is null then 'postgres' else 'redis' end,
            run_id = $4, fence_key = $5,
            valid_at = case when valid_from = $6 then valid_at else now() end,
            valid_from = $6, drained_seq = -1
        where shard = $1 and fence = $2
        returning extract(epoch from now() - valid_at)::float8 as valid_for_s
    ), forgotten as (
        delete from stopped where shard = $1 and fence < $2 and exists (select from opening)
    )
    select valid_for_s from opening";

/// Whether the fence stands, and whether a turn could charge late entries.
const CONFIRM_FENCE: &str = "
    select fence = $2, exists (select from late l join ownership o using (user_id)
                               where l.shard = $1 and o.state = 'OWNED')
    from shard where shard = $1";

/// Postgres's wall clock, in microseconds since the epoch.
pub(crate) const WALL_CLOCK: &str = "select (extract(epoch from clock_timestamp()) * 1000000)::bigint";

const WATERMARKS: &str = "select fence, last_seq from fences where shard = $1 and fence >= $2";

const TAKE_LATE: &str = "
    select l.fence, l.n, l.entry, l.answered from late l join ownership o using (user_id)
    where l.shard = $1 and o.state = 'OWNED' order by l.fence, l.n limit $2";

const MARK_LATE: &str = "update shard set late = fence where shard = $1 and fence = $2";

const SHARD_FENCE: &str = "select fence from shard where shard = $1";

const KEEP_LATE: &str = "
    insert into late (shard, fence, n, user_id, entry)
    select $1, $2, t.n, t.user_id, t.entry from unnest($3::bigint[], $4::text[], $5::bytea[]) as t (n, user_id, entry)
    where exists (select from shard where shard = $1 and fence = $2)
    on conflict do nothing";

const FORGET_LATE: &str = "
    delete from late using unnest($2::bigint[], $3::bigint[]) as t (fence, n)
    where late.shard = $1 and late.fence = t.fence and late.n = t.n";

/// By its own word, or by that of somebody who knows that its life is over.
const HAS_STOPPED: &str = "
    select exists (select from stopped where shard = $1 and fence = $2)
        or exists (select from shard s join instances i on i.instance = s.owner
                   where s.shard = $1 and s.opened = $2 and i.fenced)";

/// What became of a fence: who has opened since, and up to where the ledger holds its batches.
const ENDED: &str = "
    select s.opened, s.drained_seq, f.last_seq from shard s
    left join fences f on f.shard = s.shard and f.fence = $2 where s.shard = $1";

/// A deposed owner's last statement: what the ledger may lack, and unanswered calls while the turn that
/// ended its fence is unfinished (a finished one has settled them); then its word that it has stopped.
const HAND_OVER: &str = "
    with unfinished as (
        select shard from shard where shard = $1 and opened = $2 for share
    ), kept as (
        insert into late (shard, fence, n, user_id, entry, answered)
        select $1, $2, t.n, t.user_id, t.entry, t.answered
        from unnest($3::bigint[], $4::text[], $5::bytea[], $6::bool[]) as t (n, user_id, entry, answered)
        where t.answered or exists (select from unfinished)
        on conflict do nothing
    )
    insert into stopped (shard, fence) select $1, $2 where $7 on conflict do nothing";

const SHARDS: &str = "
    select s.shard, s.fence, s.opened, s.mode, s.drained_seq, i.endpoint,
           (select count(*) from late l join ownership o using (user_id) where l.shard = s.shard and o.state = 'OWNED')
    from shard s left join instances i on i.instance = s.owner order by s.shard";

/// The commits of users at times.
const FIND_CHARGES: &str = "
    select l.user_id, l.checks from ledger l join unnest($1::text[], $2::bigint[]) as t (user_id, at_us)
    on l.user_id = t.user_id and l.at_us = t.at_us";

/// Rows, keys and records of consecutive batches, behind the watermark: all or nothing, once.
/// `$2` is the fence of who writes, `$5` that of the batches (they differ while a turn drains).
const DRAIN: &str = "
    with mine as (
        update shard set drained_seq = $4 where shard = $1 and fence = $2 and drained_seq = $3 returning shard
    ), entries as (
        insert into ledger (shard, fence, seq, n, at_us, user_id, epoch, version, kind, places, charges, checks)
        select $1, $5, t.seq, t.n, t.at_us, t.user_id, t.epoch, t.version, t.kind, t.places, t.charges::jsonb, t.checks
        from unnest($6::bigint[], $7::int[], $8::bigint[], $9::text[], $10::bigint[], $11::bigint[],
                    $12::smallint[], $13::int[], $14::text[], $15::bytea[])
             as t (seq, n, at_us, user_id, epoch, version, kind, places, charges, checks)
        where exists (select from mine)
    ), keys as (
        insert into ledger_keys (key_id, at_us, shard, fence, seq, n, place, expires_at)
        select k.key_id, k.at_us, $1, $5, k.seq, k.n, k.place, now() + k.window_s * interval '1 second'
        from unnest($16::bytea[], $17::bigint[], $18::bigint[], $19::int[], $20::int[], $21::int[])
             as k (key_id, at_us, seq, n, place, window_s)
        where exists (select from mine)
        on conflict (key_id) do update set at_us = excluded.at_us, shard = excluded.shard,
            fence = excluded.fence, seq = excluded.seq, n = excluded.n, place = excluded.place,
            expires_at = excluded.expires_at
    ), states as (
        insert into quota_state (user_id, shard, fence, epoch, version, record, expires_at_us)
        select r.user_id, $1, r.fence, r.epoch, r.version, r.record, r.expires_at_us
        from unnest($22::text[], $23::bigint[], $24::bigint[], $25::bigint[], $26::bytea[], $27::bigint[])
             as r (user_id, fence, epoch, version, record, expires_at_us)
        where exists (select from mine)
        on conflict (user_id) do update set shard = excluded.shard, fence = excluded.fence,
            epoch = excluded.epoch, version = excluded.version, record = excluded.record,
            expires_at_us = excluded.expires_at_us
        where (quota_state.fence, quota_state.version) < (excluded.fence, excluded.version)
    )
    select exists (select from mine)";

/// State and ownership together.
const LOAD_USERS: &str = "
    select o.user_id, o.state, o.epoch, o.home, u.tier_id, u.state = 'blocked' as blocked, q.record
    from ownership o left join users u using (user_id) left join quota_state q using (user_id)
    where o.user_id = any($1)";

const FIND_KEYS: &str = "
    select k.key_id, k.place, l.checks from ledger_keys k
    join ledger l on (l.at_us, l.shard, l.fence, l.seq, l.n) = (k.at_us, k.shard, k.fence, k.seq, k.n)
    where k.key_id = any($1) and k.expires_at > now()";

const EXPIRE_KEYS: &str = "
    delete from ledger_keys where key_id in (
        select key_id from ledger_keys where expires_at < now() order by expires_at limit $1)";

/// Keys deleted by one statement: some tens of milliseconds of work.
const EXPIRED_KEYS_MAX: i64 = 5_000;

/// All of a cell's shards at once, or none: their number is fixed for good.
const MAKE_SHARDS: &str = "
    insert into shard (shard, fence, taker) select n, 0, '' from generate_series(0, $1 - 1) n
    where not exists (select from shard) on conflict do nothing";

const COUNT_SHARDS: &str = "select count(*) from shard";

/// Every statement of this crate, for the test that prepares them all against the migrated schema.
pub const STATEMENTS: &[&str] = &[
    WALL_CLOCK,
    BEGIN_TURN,
    OPEN_TURN,
    CONFIRM_FENCE,
    WATERMARKS,
    TAKE_LATE,
    MARK_LATE,
    SHARD_FENCE,
    KEEP_LATE,
    FORGET_LATE,
    HAS_STOPPED,
    ENDED,
    HAND_OVER,
    SHARDS,
    crate::membership::BEAT_INSTANCE,
    crate::membership::LIVE_INSTANCES,
    crate::membership::ALL_INSTANCES,
    crate::membership::FENCE_INSTANCES,
    crate::membership::FORGET_INSTANCES,
    FIND_CHARGES,
    DRAIN,
    LOAD_USERS,
    FIND_KEYS,
    super::charges::DRAINED_HEAD,
    super::charges::FIND_CHARGE,
    super::charges::DUE_USERS,
    EXPIRE_KEYS,
    MAKE_SHARDS,
    COUNT_SHARDS,
    super::person::DRAINED_VERSION,
    super::person::RENAME_ROWS,
    super::person::RENAME_STATE,
    super::person::ROWS,
    super::audit::PAGE,
    super::audit::LEDGER_SUMS,
    super::audit::ON_REDIS,
    super::ledger::MONTHS,
    super::ledger::USAGE,
    super::ledger::ROWS,
    super::ledger::MARK_EXPORTED,
    super::ledger::REACHED,
    super::ledger::EXPORTED,
    super::ledger::COUNT,
    super::ledger::FORGET_EXPORT,
    crate::rollout::READ_STOPS,
    crate::rollout::WRITE_STOP,
    super::restored::HELD_SHARDS,
    super::restored::RAISE_SHARD,
    super::restored::ALL_STOPPED,
    super::restored::ALL_FENCED,
    super::restored::CHECKS,
    super::restored::PLACES,
    super::restored::ENDS,
    super::restored::TURNING,
    super::restored::NAMED,
    super::restored::WAITING,
];

/// A statement without an answer for this long is unknown.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone)]
pub(crate) struct PostgresStore {
    pub(super) pool: PgPool,
    shard: ShardId,
}

/// What Redis must show for its content to be what a turn left there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RedisContent {
    pub(crate) run_id: String,
    pub(crate) fence_key: String,
}

/// What the last finished turn left, and the fence of the turn that read it.
#[derive(Clone, Debug)]
pub(crate) struct TurnRow {
    pub(crate) fence: Fence,
    /// None on the first turn ever.
    pub(crate) finished: Option<Finished<String, RedisContent>>,
    /// Up to where Postgres holds the batches of the fence that was opened last.
    pub(crate) drained: Option<Seq>,
    /// A turn since then charged late entries and did not finish.
    pub(crate) late_charged: bool,
}

/// Whether a writer still is one.
pub(crate) struct Confirmed {
    pub(crate) mine: bool,
    /// Late entries wait that a turn could charge.
    pub(crate) late: bool,
}

/// An entry of the table of late ones, with its place there.
pub(crate) struct LateRow {
    pub(crate) place: (i64, i64),
    pub(crate) entry: LedgerEntry,
    /// Whether Redis is known to have taken it.
    pub(crate) answered: bool,
    /// Of one that was not answered: the fence it was sent under.
    pub(crate) served_under: Fence,
}

/// What became of a fence after it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    /// The turn that ended it has gone through.
    pub(crate) finished: bool,
    /// The last of its batches that the ledger holds.
    pub(crate) watermark: Option<Seq>,
}

/// A shard, as anyone can read it.
#[derive(Clone, Debug)]
pub(crate) struct ShardRow {
    pub(crate) shard: u16,
    pub(crate) fence: Fence,
    pub(crate) opened: Fence,
    pub(crate) mode: Option<String>,
    pub(crate) drained: Option<Seq>,
    pub(crate) endpoint: Option<String>,
    /// Late entries that wait for a turn.
    pub(crate) late: u64,
}

/// Of one user, what Postgres knows.
#[derive(Debug)]
pub(crate) enum Loaded {
    Owned { epoch: Epoch, tier: TierName, blocked: bool, record: Result<Option<Record>, RecordError> },
    Frozen,
    Elsewhere { home: CellName, epoch: Epoch },
    Absent,
}

impl PostgresStore {
    pub(crate) fn new(pool: PgPool, shard: ShardId) -> Self {
        Self { pool, shard }
    }

    pub(super) fn shard(&self) -> i16 {
        self.shard.0 as i16
    }

    /// How many shards the cell was made with: `shards` if this is its first start.
    pub(crate) async fn make_shards(pool: &PgPool, shards: u16) -> Result<i64, sqlx::Error> {
        sqlx::query(MAKE_SHARDS).bind(i32::from(shards)).execute(pool).await?;
        sqlx::query_scalar(COUNT_SHARDS).fetch_one(pool).await
    }

    pub(crate) async fn begin_turn(&self, taker: &str) -> Result<TurnRow, StoreError> {
        let row = bounded("begin turn", sqlx::query(BEGIN_TURN).bind(self.shard()).bind(taker).fetch_one(&self.pool));
        turn_row(&row.await?).map_err(|e| StoreError::postgres("begin turn", &e))
    }

    /// Opens the shard under `fence`, on Redis or, without its content, on Postgres. Returns for how long
    /// that content has counted.
    pub(crate) async fn open_turn(
        &self,
        fence: Fence,
        owner: &str,
        content: Option<&RedisContent>,
        valid_from: Fence,
    ) -> Result<Duration, StoreError> {
        let open = sqlx::query_scalar::<_, f64>(OPEN_TURN)
            .bind(self.shard())
            .bind(fence.as_i64())
            .bind(owner)
            .bind(content.map(|content| content.run_id.as_str()))
            .bind(content.map(|content| content.fence_key.as_str()))
            .bind(valid_from.as_i64())
            .fetch_optional(&self.pool);
        let valid_for_s = bounded("open turn", open).await?.ok_or(StoreError::Fenced)?;
        Ok(Duration::try_from_secs_f64(valid_for_s).unwrap_or_default())
    }

    pub(crate) async fn confirm_fence(&self, fence: Fence) -> Result<Confirmed, StoreError> {
        let confirm = sqlx::query_as::<_, (bool, bool)>(CONFIRM_FENCE)
            .bind(self.shard())
            .bind(fence.as_i64())
            .fetch_optional(&self.pool);
        let (mine, late) = bounded("confirm fence", confirm).await?.unwrap_or_default();
        Ok(Confirmed { mine, late })
    }

    /// Up to where the ledger holds the batches of ended fences, from `oldest` on.
    pub(crate) async fn watermarks(&self, oldest: Fence) -> Result<HashMap<Fence, Option<Seq>>, StoreError> {
        let rows =
            sqlx::query_as::<_, (i64, i64)>(WATERMARKS).bind(self.shard()).bind(oldest.as_i64()).fetch_all(&self.pool);
        let rows = bounded("watermarks", rows).await?.into_iter();
        Ok(rows.map(|(fence, seq)| (Fence::from_i64(fence), (seq >= 0).then(|| Seq::from_i64(seq)))).collect())
    }

    /// The last owner's own word that it acknowledges nothing more under `fence`.
    pub(crate) async fn has_stopped(&self, fence: Fence) -> Result<bool, StoreError> {
        let stopped = sqlx::query_scalar(HAS_STOPPED).bind(self.shard()).bind(fence.as_i64()).fetch_one(&self.pool);
        bounded("has stopped", stopped).await
    }

    pub(crate) async fn ended(&self, fence: Fence) -> Result<Ended, StoreError> {
        let row = sqlx::query_as::<_, (i64, i64, Option<i64>)>(ENDED)
            .bind(self.shard())
            .bind(fence.as_i64())
            .fetch_one(&self.pool);
        let (opened, drained, last) = bounded("ended", row).await?;
        let finished = opened != fence.as_i64();
        let seq = if finished { last.unwrap_or(-1) } else { drained };
        Ok(Ended { finished, watermark: (seq >= 0).then(|| Seq::from_i64(seq)) })
    }

    /// Leaves what was served under `fence` to its successors: `entries` with whether each was answered.
    /// With `stopped` it is this process's word that it acknowledges nothing more under it.
    pub(crate) async fn hand_over(
        &self,
        fence: Fence,
        entries: &[(LedgerEntry, bool)],
        stopped: bool,
    ) -> Result<(), StoreError> {
        let packed = entries.iter().map(|(entry, _)| postcard::to_allocvec(entry)).collect::<Result<Vec<_>, _>>();
        let packed = packed.map_err(|cause| StoreError::Refused {
            store: "postgres",
            call: "hand over",
            cause: cause.to_string(),
        })?;
        // Random places: what is handed over twice is void the second time.
        let hand_over = sqlx::query(HAND_OVER)
            .bind(self.shard())
            .bind(fence.as_i64())
            .bind(entries.iter().map(|_| rand::random::<i64>()).collect::<Vec<_>>())
            .bind(entries.iter().map(|(entry, _)| entry.user.as_str()).collect::<Vec<_>>())
            .bind(packed)
            .bind(entries.iter().map(|(_, answered)| *answered).collect::<Vec<_>>())
            .bind(stopped)
            .execute(&self.pool);
        bounded("hand over", hand_over).await.map(|_| ())
    }

    /// Every shard of the cell.
    pub(crate) async fn shards(pool: &PgPool) -> Result<Vec<ShardRow>, StoreError> {
        type Row = (i16, i64, i64, Option<String>, i64, Option<String>, i64);
        let rows = bounded("shards", sqlx::query_as::<_, Row>(SHARDS).fetch_all(pool)).await?;
        let row = |(shard, fence, opened, mode, drained, endpoint, late): Row| ShardRow {
            shard: shard as u16,
            fence: Fence::from_i64(fence),
            opened: Fence::from_i64(opened),
            mode,
            drained: (drained >= 0).then(|| Seq::from_i64(drained)),
            endpoint,
            late: late.max(0) as u64,
        };
        Ok(rows.into_iter().map(row).collect())
    }

    /// Says, before the first of them is charged, that the turn under `fence` charges late entries.
    pub(crate) async fn mark_late(&self, fence: Fence) -> Result<(), StoreError> {
        let mark = sqlx::query(MARK_LATE).bind(self.shard()).bind(fence.as_i64()).execute(&self.pool);
        let marked = bounded("mark late", mark).await?.rows_affected();
        if marked == 1 { Ok(()) } else { Err(StoreError::Fenced) }
    }

    /// A page of the late entries whose users are at home here.
    pub(crate) async fn late(&self, max: i64) -> Result<Vec<LateRow>, StoreError> {
        let rows = sqlx::query_as::<_, (i64, i64, Vec<u8>, bool)>(TAKE_LATE)
            .bind(self.shard())
            .bind(max)
            .fetch_all(&self.pool);
        let row = |(fence, n, entry, answered): (i64, i64, Vec<u8>, bool)| {
            let entry = postcard::from_bytes(&entry)
                .map_err(|cause| StoreError::Unreadable { store: "postgres", cause: RecordError::Body(cause) })?;
            Ok(LateRow { place: (fence, n), entry, answered, served_under: Fence::from_i64(fence) })
        };
        bounded("late", rows).await?.into_iter().map(row).collect()
    }

    /// The fence of the last turn that was begun.
    pub(crate) async fn fence(&self) -> Result<Fence, StoreError> {
        let fence = sqlx::query_scalar::<_, i64>(SHARD_FENCE).bind(self.shard()).fetch_one(&self.pool);
        bounded("fence", fence).await.map(Fence::from_i64)
    }

    /// Keeps entries that no turn under `fence` could charge: all of them, or it is an error.
    pub(crate) async fn keep_late(&self, fence: Fence, entries: &[LedgerEntry]) -> Result<(), StoreError> {
        let packed = entries.iter().map(postcard::to_allocvec).collect::<Result<Vec<_>, _>>();
        let packed = packed.map_err(|cause| StoreError::Refused {
            store: "postgres",
            call: "keep late",
            cause: cause.to_string(),
        })?;
        // Random places: a turn that is taken again keeps what it kept before once more, which is void.
        let keep = sqlx::query(KEEP_LATE)
            .bind(self.shard())
            .bind(fence.as_i64())
            .bind(entries.iter().map(|_| rand::random::<i64>()).collect::<Vec<_>>())
            .bind(entries.iter().map(|entry| entry.user.as_str()).collect::<Vec<_>>())
            .bind(packed)
            .execute(&self.pool);
        let kept = bounded("keep late", keep).await?.rows_affected();
        // Another turn has begun meanwhile.
        if kept == entries.len() as u64 { Ok(()) } else { Err(StoreError::Fenced) }
    }

    pub(crate) async fn forget_late(&self, places: &[(i64, i64)]) -> Result<(), StoreError> {
        let (fences, ns): (Vec<i64>, Vec<i64>) = places.iter().copied().unzip();
        let forget = sqlx::query(FORGET_LATE).bind(self.shard()).bind(fences).bind(ns).execute(&self.pool);
        bounded("forget late", forget).await.map(|_| ())
    }

    /// Which charges the ledger has of the users and times of `entries`.
    pub(crate) async fn find_charges(
        &self,
        entries: &[LedgerEntry],
    ) -> Result<HashSet<(UserId, ChargeId)>, StoreError> {
        let rows = sqlx::query_as::<_, (String, Vec<u8>)>(FIND_CHARGES)
            .bind(entries.iter().map(|entry| entry.user.as_str()).collect::<Vec<_>>())
            .bind(entries.iter().map(|entry| entry.at.0 as i64).collect::<Vec<_>>())
            .fetch_all(&self.pool);
        let mut charges = HashSet::new();
        for (user, checks) in bounded("find charges", rows).await? {
            let unreadable = |cause| StoreError::Unreadable { store: "postgres", cause: RecordError::Body(cause) };
            let checks: Vec<LedgerCheck> = postcard::from_bytes(&checks).map_err(unreadable)?;
            let Ok(user) = UserId::new(&user) else { continue };
            charges.extend(checks.iter().map(|check| (user.clone(), check.charge)));
        }
        Ok(charges)
    }

    /// Writes batches of `entries_fence` under `writer`, and moves the watermark of the fence that was
    /// opened last, which has to stand at the first of `watermark`, to the second.
    pub(crate) async fn drain(
        &self,
        writer: Fence,
        entries_fence: Fence,
        watermark: (Option<Seq>, Option<Seq>),
        batches: &[std::sync::Arc<TailBatch>],
        months: &mut Months,
    ) -> Result<(), StoreError> {
        let (after, last) = watermark;
        self.make_partitions(batches, months).await?;
        let columns = Columns::of(batches)?;
        let statement = sqlx::query_scalar::<_, bool>(DRAIN)
            .bind(self.shard())
            .bind(writer.as_i64())
            .bind(after.map_or(-1, Seq::as_i64))
            .bind(last.map_or(-1, Seq::as_i64))
            .bind(entries_fence.as_i64());
        let written = bounded("drain", columns.bind(statement).fetch_one(&self.pool)).await?;
        if written { Ok(()) } else { Err(StoreError::Fenced) }
    }

    /// Makes the partitions that `batches` need and this process has not made yet.
    async fn make_partitions(
        &self,
        batches: &[std::sync::Arc<TailBatch>],
        months: &mut Months,
    ) -> Result<(), StoreError> {
        for month in months.missing(batches.iter().flat_map(|b| b.entries.iter().map(|e| e.at))) {
            let (from, to) = month.bounds();
            let name = month.partition();
            let create =
                format!("create table if not exists {name} partition of ledger for values from ({from}) to ({to})");
            // Names and bounds are made of numbers here, nothing of a caller stands in them.
            let create = sqlx::query(sqlx::AssertSqlSafe(create));
            match bounded("make partition", create.execute(&self.pool)).await {
                Ok(_) => months.made(month),
                // Another shard made it at the same moment, or a lock was not to be had: the insert
                // that follows knows, and the next drain asks again.
                Err(StoreError::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(crate) async fn load_users(&self, users: &[UserId]) -> Result<HashMap<UserId, Loaded>, StoreError> {
        let ids: Vec<&str> = users.iter().map(UserId::as_str).collect();
        let rows = bounded("load users", sqlx::query(LOAD_USERS).bind(ids).fetch_all(&self.pool)).await?;
        rows.iter().map(loaded).collect()
    }

    /// The first answers of `keys` that the ledger still has to give; none: it knows the key, and its
    /// answer cannot be read.
    pub(crate) async fn find_keys(&self, keys: &[KeyId]) -> Result<HashMap<KeyId, Option<Outcome>>, StoreError> {
        let ids: Vec<&[u8]> = keys.iter().map(|key| &key.0[..]).collect();
        let rows = bounded("find keys", sqlx::query(FIND_KEYS).bind(ids).fetch_all(&self.pool)).await?;
        let outcome = |row: &sqlx::postgres::PgRow| -> Option<Outcome> {
            let checks: Vec<LedgerCheck> = postcard::from_bytes(row.try_get("checks").ok()?).ok()?;
            let place = row.try_get::<i32, _>("place").ok()?;
            let keyed = checks.into_iter().nth(place as usize)?.key?;
            Some(Outcome { body: keyed.body, answer: keyed.answer })
        };
        let mut found = HashMap::with_capacity(rows.len());
        for row in &rows {
            let unreadable = StoreError::Unreadable { store: "postgres", cause: RecordError::NoHead(0) };
            let id = row.try_get::<&[u8], _>("key_id").ok().and_then(|id| id.try_into().ok()).ok_or(unreadable)?;
            found.insert(KeyId(id), outcome(row));
        }
        Ok(found)
    }

    /// Deletes keys past their window, a bounded number. Returns whether there may be more.
    pub(crate) async fn expire_keys(pool: &PgPool) -> Result<bool, StoreError> {
        let done = bounded("expire keys", sqlx::query(EXPIRE_KEYS).bind(EXPIRED_KEYS_MAX).execute(pool)).await?;
        Ok(done.rows_affected() == EXPIRED_KEYS_MAX as u64)
    }
}

/// A statement with a bound on its wait. What is not answered in time may still be carried out.
pub(crate) async fn bounded<T>(
    call: &'static str,
    statement: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(STATEMENT_TIMEOUT, statement).await {
        Ok(result) => result.map_err(|e| StoreError::postgres(call, &e)),
        Err(_) => Err(StoreError::Unknown { store: "postgres", call, cause: "timed out".into() }),
    }
}

fn turn_row(row: &sqlx::postgres::PgRow) -> Result<TurnRow, sqlx::Error> {
    let opened: i64 = row.try_get("opened")?;
    let drained: i64 = row.try_get("drained_seq")?;
    let content: (Option<String>, Option<String>) = (row.try_get("run_id")?, row.try_get("fence_key")?);
    let mode = match content {
        (Some(run_id), Some(fence_key)) => Mode::Redis(RedisContent { run_id, fence_key }),
        _ => Mode::Postgres,
    };
    let finished = Finished {
        opened: Fence::from_i64(opened),
        owner: row.try_get::<Option<String>, _>("owner")?.unwrap_or_default(),
        mode,
        valid_from: Fence::from_i64(row.try_get("valid_from")?),
    };
    Ok(TurnRow {
        fence: Fence::from_i64(row.try_get("fence")?),
        finished: (opened > 0).then_some(finished),
        drained: (drained >= 0).then(|| Seq::from_i64(drained)),
        late_charged: row.try_get::<i64, _>("late")? > opened,
    })
}

fn loaded(row: &sqlx::postgres::PgRow) -> Result<(UserId, Loaded), StoreError> {
    let unreadable = |e: sqlx::Error| StoreError::postgres("load users", &e);
    let text = |name: &str| row.try_get::<String, _>(name).map_err(unreadable);
    let odd =
        |what: &str| StoreError::Refused { store: "postgres", call: "load users", cause: format!("an odd {what}") };
    let user = UserId::new(&text("user_id")?).map_err(|_| odd("user id"))?;
    let epoch = Epoch::from_i64(row.try_get("epoch").map_err(unreadable)?);
    let loaded = match text("state")?.as_str() {
        "OWNED" => {
            let record: Option<Vec<u8>> = row.try_get("record").map_err(unreadable)?;
            Loaded::Owned {
                epoch,
                tier: TierName::new(&text("tier_id")?).map_err(|_| odd("tier"))?,
                blocked: row.try_get::<Option<bool>, _>("blocked").map_err(unreadable)?.unwrap_or(false),
                record: record.map(|bytes| Record::decode(&bytes)).transpose(),
            }
        }
        "FROZEN" => Loaded::Frozen,
        "ERASED" => Loaded::Absent,
        _ => Loaded::Elsewhere { home: CellName::new(&text("home")?).map_err(|_| odd("home"))?, epoch },
    };
    Ok((user, loaded))
}

/// The columns of a drain, as arrays.
#[derive(Default)]
struct Columns {
    seq: Vec<i64>,
    n: Vec<i32>,
    at_us: Vec<i64>,
    user: Vec<String>,
    epoch: Vec<i64>,
    version: Vec<i64>,
    kind: Vec<i16>,
    places: Vec<i32>,
    charges: Vec<String>,
    checks: Vec<Vec<u8>>,
    keys: HashMap<KeyId, KeyRow>,
    records: HashMap<UserId, (Head, Vec<u8>)>,
}

struct KeyRow {
    at_us: i64,
    seq: i64,
    n: i32,
    place: i32,
    window_s: i32,
}

impl Columns {
    fn of(batches: &[std::sync::Arc<TailBatch>]) -> Result<Self, StoreError> {
        let mut columns = Self::default();
        for batch in batches {
            for (n, entry) in batch.entries.iter().enumerate() {
                columns.add(batch.seq, n as i32, entry)?;
            }
            for (user, head, record) in &batch.records {
                let held = columns.records.get(user).map(|(held, _)| *held);
                if held.is_none_or(|held| held < *head) {
                    columns.records.insert(user.clone(), (*head, record.clone()));
                }
            }
        }
        Ok(columns)
    }

    fn add(&mut self, seq: Seq, n: i32, entry: &LedgerEntry) -> Result<(), StoreError> {
        let encode = |cause: String| StoreError::Refused { store: "postgres", call: "drain", cause };
        let charges: serde_json::Map<_, _> =
            entry.charges().into_iter().map(|(unit, amount)| (unit.to_string(), amount.into())).collect();
        self.seq.push(seq.as_i64());
        self.n.push(n);
        self.at_us.push(entry.at.0 as i64);
        self.user.push(entry.user.as_str().to_owned());
        self.epoch.push(entry.epoch.as_i64());
        self.version.push(entry.version.as_i64());
        self.kind.push(entry.kind.as_i16());
        self.places.push(entry.checks.len() as i32);
        self.charges.push(serde_json::Value::from(charges).to_string());
        self.checks.push(postcard::to_allocvec(&entry.checks).map_err(|e| encode(e.to_string()))?);
        for (place, check) in entry.checks.iter().enumerate() {
            let Some(keyed) = &check.key else { continue };
            // A key admitted again after its window: the later one is the one to repeat.
            let row = KeyRow {
                at_us: entry.at.0 as i64,
                seq: seq.as_i64(),
                n,
                place: place as i32,
                window_s: keyed.window_s as i32,
            };
            self.keys.insert(keyed.id, row);
        }
        Ok(())
    }

    fn bind<'q>(
        self,
        statement: sqlx::query::QueryScalar<'q, sqlx::Postgres, bool, sqlx::postgres::PgArguments>,
    ) -> sqlx::query::QueryScalar<'q, sqlx::Postgres, bool, sqlx::postgres::PgArguments> {
        // In order of their primary keys: two writers that lock rows in opposite order can deadlock.
        let mut keys: Vec<(KeyId, KeyRow)> = self.keys.into_iter().collect();
        keys.sort_by_key(|(id, _)| *id);
        let mut records: Vec<(UserId, (Head, Vec<u8>))> = self.records.into_iter().collect();
        records.sort_by(|a, b| a.0.cmp(&b.0));
        let (encoded, expiries): (Vec<Vec<u8>>, Vec<Option<i64>>) = records
            .iter_mut()
            .map(|(_, (_, record))| {
                let record = std::mem::take(record);
                let expiry = Record::expiry_in(&record).map(|at| at.0 as i64);
                (record, expiry)
            })
            .unzip();
        let key = |f: fn(&KeyRow) -> i32| keys.iter().map(|(_, row)| f(row)).collect::<Vec<_>>();
        let head = |f: fn(&Head) -> i64| records.iter().map(|(_, (head, _))| f(head)).collect::<Vec<_>>();
        statement
            .bind(self.seq)
            .bind(self.n)
            .bind(self.at_us)
            .bind(self.user)
            .bind(self.epoch)
            .bind(self.version)
            .bind(self.kind)
            .bind(self.places)
            .bind(self.charges)
            .bind(self.checks)
            .bind(keys.iter().map(|(id, _)| id.0.to_vec()).collect::<Vec<_>>())
            .bind(keys.iter().map(|(_, row)| row.at_us).collect::<Vec<_>>())
            .bind(keys.iter().map(|(_, row)| row.seq).collect::<Vec<_>>())
            .bind(key(|row| row.n))
            .bind(key(|row| row.place))
            .bind(key(|row| row.window_s))
            .bind(records.iter().map(|(user, _)| user.as_str().to_owned()).collect::<Vec<_>>())
            .bind(head(|head| head.fence.as_i64()))
            .bind(head(|head| head.epoch.as_i64()))
            .bind(head(|head| head.version.as_i64()))
            .bind(encoded)
            .bind(expiries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::EntryKind;
    use cellar_model::{Micros, Version};

    /// Goal: a turn learns of each entry that was handed over whether it was answered, and under which
    /// fence it was sent; unanswered ones of a fence that a turn has settled are not even kept.
    #[tokio::test]
    async fn what_is_handed_over_says_whether_it_was_answered() {
        let server = cellar_devstack::Postgres::start_cell().await.unwrap();
        let pool = PgPool::connect(&server.url()).await.unwrap();
        sqlx::migrate!("../../migrations/postgres/cell").run(&pool).await.unwrap();
        sqlx::query("insert into ownership values ('u', 'OWNED', 1, 'eu-1')").execute(&pool).await.unwrap();
        let store = PostgresStore::new(pool, ShardId(0));
        let entry = LedgerEntry {
            user: UserId::new("u").unwrap(),
            epoch: Epoch(1),
            version: Version(1),
            kind: EntryKind::Consume,
            at: Micros(9),
            checks: Vec::new(),
        };
        let both = [(entry.clone(), true), (entry, false)];
        let opened = store.begin_turn("a").await.unwrap().fence;
        store.open_turn(opened, "a", None, opened).await.unwrap();
        let next = store.begin_turn("b").await.unwrap().fence;

        store.hand_over(opened, &both, false).await.unwrap();
        let mut handed: Vec<_> = store.late(10).await.unwrap().iter().map(|l| (l.answered, l.served_under)).collect();
        handed.sort();
        assert_eq!(handed, [(false, opened), (true, opened)]);
        assert!(!store.has_stopped(opened).await.unwrap());

        store.open_turn(next, "b", None, next).await.unwrap();
        store.hand_over(opened, &both, true).await.unwrap();
        assert_eq!(store.late(10).await.unwrap().iter().filter(|late| !late.answered).count(), 1, "settled by then");
        assert!(store.has_stopped(opened).await.unwrap());
    }
}
