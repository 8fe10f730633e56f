//! A cell's stores laid down from copies: made fit to be served from, and compared with what they lack.
//!
//! Nobody serves from them meanwhile.

use super::servers::Servers;
use crate::entry::{LedgerCheck, LedgerEntry};
use crate::error::{QuotaError, StoreError};
use crate::record::RecordError;
use crate::shard::ShardId;
use cellar_model::wire::{LedgerEnd, LostCharge, RaisedShard};
use cellar_model::{ChargeId, Fence, Secret, UserId};
use sqlx::{PgPool, Row};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// Above every fence that is known: so many turns the cell may have taken after the copy, for whose charges
/// names were given out.
const RAISE: u64 = 1_000;
/// And a random multiple of it: two cells that are restored from one copy, one after the other, give out
/// different names. Fences stay below 2^53, which Redis's scripts can compare.
const RAISES_MAX: u64 = 1 << 24;
/// Rows of a page, and names looked up at once.
const PAGE_ROWS: i64 = 2_000;
const NAMES_MAX: usize = 500;
const REDIS_PATIENCE: Duration = Duration::from_secs(5);

pub(super) const HELD_SHARDS: &str = "select shard, fence, opened from shard order by shard for update";

pub(super) const RAISE_SHARD: &str = "update shard set fence = $2, taker = 'restored' where shard = $1";

/// Nobody of an earlier life acknowledges anything any more: no turn waits for one.
pub(super) const ALL_STOPPED: &str =
    "insert into stopped (shard, fence) select shard, opened from shard where opened > 0 on conflict do nothing";

pub(super) const ALL_FENCED: &str = "update instances set fenced = true where not fenced";

pub(super) const CHECKS: &str = "
    select at_us, shard, fence, seq, n, user_id, checks from ledger
    where (at_us, shard, fence, seq, n) > ($1, $2, $3, $4, $5) order by at_us, shard, fence, seq, n limit $6";

pub(super) const PLACES: &str = "
    select at_us, shard, fence, seq, n from ledger
    where (at_us, shard, fence, seq, n) > ($1, $2, $3, $4, $5) order by at_us, shard, fence, seq, n limit $6";

pub(super) const ENDS: &str = "
    select s.shard, l.fence, l.seq, l.at_us from shard s left join lateral (
        select fence, seq, at_us from ledger where ledger.shard = s.shard and fence < $1 order by fence desc, seq desc, n desc limit 1
    ) l on true order by s.shard";

/// Late charges (kind 7) stand in other commits than their names say.
pub(super) const NAMED: &str = "
    select l.user_id, l.checks from ledger l where l.user_id = any($1::text[]) and (l.kind = 7 or
        (l.user_id, l.epoch, l.fence, l.version) in (select * from unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[])))";

/// Who has not drained its copy of Redis yet: a turn does, before it opens its shard.
pub(super) const TURNING: &str = "select shard from shard where opened < fence or mode is distinct from 'redis'";

/// What a turn has yet to charge: nothing of it is lost.
pub(super) const WAITING: &str = "select user_id, entry from late where answered";

/// Where a row stands in the ledger.
type Place = (i64, i16, i64, i64, i32);
const FIRST: Place = (i64::MIN, 0, 0, 0, 0);

/// Makes restored books fit to be served from: every shard's fence goes above its own, above the copy of
/// Redis's and above `floor`, so that every shard turns and no name of a charge is given out twice; and the
/// lives of the processes that served from the originals are over.
pub async fn take_over(
    pool: &PgPool,
    redis: &Secret,
    floor: Fence,
    allow_unsafe_ack: bool,
) -> Result<Vec<RaisedShard>, QuotaError> {
    let mut books = pool.begin().await.map_err(QuotaError::Postgres)?;
    let rows = sqlx::query_as::<_, (i16, i64, i64)>(HELD_SHARDS).fetch_all(&mut *books).await;
    let raise = RAISE * (1 + rand::random::<u64>() % RAISES_MAX);
    let servers = Servers::of(redis)?;
    let mut raised = Vec::new();
    for (shard, fence, opened) in rows.map_err(QuotaError::Postgres)? {
        let mut server = servers.connect(ShardId(shard as u16), REDIS_PATIENCE, allow_unsafe_ack).await?;
        let (held, on_redis) = (Fence::from_i64(fence), server.held_fence().await?);
        let known = held.0.max(floor.0).max(on_redis.map_or(0, |fence| fence.0));
        let fence = Fence(known + raise);
        let update = sqlx::query(RAISE_SHARD).bind(shard).bind(fence.as_i64()).execute(&mut *books);
        update.await.map_err(QuotaError::Postgres)?;
        let opened = Fence::from_i64(opened);
        raised.push(RaisedShard { shard: shard as u16, held, opened, on_redis, fence });
    }
    for over in [ALL_STOPPED, ALL_FENCED] {
        sqlx::query(over).execute(&mut *books).await.map_err(QuotaError::Postgres)?;
    }
    books.commit().await.map_err(QuotaError::Postgres)?;
    Ok(raised)
}

/// The shards whose turn is not finished, or that have no Redis: the ledger may lack what their stream holds.
pub async fn turning(pool: &PgPool) -> Result<Vec<u16>, QuotaError> {
    let rows = sqlx::query_scalar::<_, i16>(TURNING).fetch_all(pool).await.map_err(QuotaError::Postgres)?;
    Ok(rows.into_iter().map(|shard| shard as u16).collect())
}

/// The last entry of each shard that the ledger has, of fences below `below`; nothing of one that never charged.
pub async fn ends(pool: &PgPool, below: Option<Fence>) -> Result<Vec<LedgerEnd>, QuotaError> {
    type End = (i16, Option<i64>, Option<i64>, Option<i64>);
    let below = below.map_or(i64::MAX, Fence::as_i64);
    let rows = sqlx::query_as::<_, End>(ENDS).bind(below).fetch_all(pool).await.map_err(QuotaError::Postgres)?;
    let end = |(shard, fence, seq, at_us): End| {
        Some(LedgerEnd { shard: shard as u16, fence: fence?, seq: seq?, at_us: at_us? })
    };
    Ok(rows.into_iter().filter_map(end).collect())
}

/// Hands over every charge that `whole` has and `cut` lacks: two states of the same ledger. Both are read in
/// the order of their key, page by page, so that any length of them fits in memory. What is compared is which
/// rows there are: their times are the policies', and not those of the commit.
pub async fn beyond(whole: &PgPool, cut: &PgPool, mut each: impl FnMut(&LostCharge)) -> Result<(), QuotaError> {
    let mut held = Places { pool: cut, page: Vec::new().into_iter(), next: None, last: FIRST, over: false };
    let waiting = waiting(cut).await?;
    let mut after = FIRST;
    loop {
        let rows = of_page(CHECKS, after).fetch_all(whole).await.map_err(QuotaError::Postgres)?;
        for row in &rows {
            after = place(row).map_err(QuotaError::Postgres)?;
            if held.has(after).await? {
                continue;
            }
            let user: String = row.try_get("user_id").map_err(QuotaError::Postgres)?;
            for check in checks(row)?.iter().filter(|check| !waiting.contains(&(user.clone(), check.charge))) {
                let charges = check.charges.iter().map(|(unit, amount)| (unit.as_str().into(), *amount)).collect();
                let charge = LostCharge {
                    user_id: user.clone(),
                    charge_id: check.charge.to_string(),
                    at_us: check.at.0 as i64,
                    charges,
                };
                each(&charge);
            }
        }
        if (rows.len() as i64) < PAGE_ROWS {
            return Ok(());
        }
    }
}

/// Which of these charges the ledger does not have, in their order.
pub async fn gone(pool: &PgPool, names: &[(UserId, ChargeId)]) -> Result<Vec<(UserId, ChargeId)>, QuotaError> {
    let mut gone = Vec::new();
    for names in names.chunks(NAMES_MAX) {
        let columns = |of: fn(&ChargeId) -> i64| names.iter().map(|(_, charge)| of(charge)).collect::<Vec<_>>();
        let rows = sqlx::query(NAMED)
            .bind(names.iter().map(|(user, _)| user.as_str()).collect::<Vec<_>>())
            .bind(columns(|charge| charge.epoch.as_i64()))
            .bind(columns(|charge| charge.fence.as_i64()))
            .bind(columns(|charge| charge.version.as_i64()))
            .fetch_all(pool)
            .await
            .map_err(QuotaError::Postgres)?;
        let mut found: HashMap<String, HashSet<ChargeId>> = HashMap::new();
        for row in &rows {
            let user = row.try_get("user_id").map_err(QuotaError::Postgres)?;
            found.entry(user).or_default().extend(checks(row)?.iter().map(|check| check.charge));
        }
        let has = |(user, charge): &(UserId, ChargeId)| {
            found.get(user.as_str()).is_some_and(|charges| charges.contains(charge))
        };
        gone.extend(names.iter().filter(|name| !has(name)).cloned());
    }
    Ok(gone)
}

async fn waiting(pool: &PgPool) -> Result<HashSet<(String, ChargeId)>, QuotaError> {
    let rows = sqlx::query_as::<_, (String, Vec<u8>)>(WAITING).fetch_all(pool).await.map_err(QuotaError::Postgres)?;
    let mut waiting = HashSet::new();
    for (user, entry) in rows {
        let unreadable = |cause| StoreError::Unreadable { store: "postgres", cause: RecordError::Body(cause) };
        let entry: LedgerEntry = postcard::from_bytes(&entry).map_err(unreadable)?;
        waiting.extend(entry.checks.iter().map(|check| (user.clone(), check.charge)));
    }
    Ok(waiting)
}

/// The places of a ledger's rows, in order, read ahead by a page.
struct Places<'a> {
    pool: &'a PgPool,
    page: std::vec::IntoIter<Place>,
    next: Option<Place>,
    last: Place,
    over: bool,
}

impl Places<'_> {
    /// Whether a row stands at `wanted`. Asked in ascending order.
    async fn has(&mut self, wanted: Place) -> Result<bool, QuotaError> {
        loop {
            match self.next {
                Some(place) if place >= wanted => return Ok(place == wanted),
                Some(_) => self.next = None,
                None => match self.page.next() {
                    Some(place) => self.next = Some(place),
                    None if self.over => return Ok(false),
                    None => self.read_on().await?,
                },
            }
        }
    }

    async fn read_on(&mut self) -> Result<(), QuotaError> {
        let rows = of_page(PLACES, self.last).fetch_all(self.pool).await.map_err(QuotaError::Postgres)?;
        self.over = (rows.len() as i64) < PAGE_ROWS;
        let places = rows.iter().map(place).collect::<Result<Vec<_>, _>>().map_err(QuotaError::Postgres)?;
        self.last = places.last().copied().unwrap_or(self.last);
        self.page = places.into_iter();
        Ok(())
    }
}

fn of_page(
    statement: &'static str,
    after: Place,
) -> sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments> {
    let (at_us, shard, fence, seq, n) = after;
    sqlx::query(statement).bind(at_us).bind(shard).bind(fence).bind(seq).bind(n).bind(PAGE_ROWS)
}

fn place(row: &sqlx::postgres::PgRow) -> Result<Place, sqlx::Error> {
    Ok((row.try_get("at_us")?, row.try_get("shard")?, row.try_get("fence")?, row.try_get("seq")?, row.try_get("n")?))
}

fn checks(row: &sqlx::postgres::PgRow) -> Result<Vec<LedgerCheck>, QuotaError> {
    let packed: &[u8] = row.try_get("checks").map_err(QuotaError::Postgres)?;
    let unreadable = |cause| StoreError::Unreadable { store: "postgres", cause: RecordError::Body(cause) };
    Ok(postcard::from_bytes(packed).map_err(unreadable)?)
}
