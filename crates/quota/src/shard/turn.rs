//! The turn: the only way a shard changes writer or store, whatever the cause.
//!
//! What it does next and what it believes, [`protocol`] says. Steps 2 to 4 belong to one Redis
//! connection; if that breaks, the turn starts over with a new fence, which is always allowed.

use super::allowances::Allowances;
use super::expiry::Expiring;
use super::late::LATE_SEQ;
use super::serve::Serving;
use super::{Shard, ShardId};
use crate::clock::boot_clock;
use crate::entry::LedgerEntry;
use crate::error::{QuotaError, StoreError};
use crate::metrics::CauseLabel;
use crate::patches::ShardWriter;
use crate::protocol::{self, Fate, Next, Progress, Redis};
use crate::record::{Head, RecordError};
use crate::standing::{LEASE_MARGIN, READING_LEASE};
use crate::store::Fsync;
use crate::store::postgres::{RedisContent, TurnRow};
use crate::store::redis::{FenceKey, RedisStore, StreamBatch, nonce};
use crate::store::sentinel::Sentinels;
use crate::tail::{Tail, TailBatch};
use cellar_model::{Degraded, Fence, Seq, TryAgain, UserId};
use futures::FutureExt;
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tokio::time::Instant;

/// Between failed attempts; doubled up to the maximum.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// For so long may checks wait for a turn before they are refused: a turn among healthy stores takes
/// milliseconds.
const HOLD: Duration = Duration::from_millis(250);
/// A Redis that does not answer a turn within this time is silent: what it may have is found when it is
/// back.
const REDIS_PATIENCE: Duration = Duration::from_millis(500);
/// For a replica to be promoted and the Sentinels to be told, servers that do not answer included.
const PROMOTION_MAX: Duration = Duration::from_secs(3);
/// Turns in a row that may break on Redis before one does without it.
const REDIS_BREAKS_MAX: u32 = 3;
/// How often a waiting turn looks whether the last owner has stopped.
const WAIT_POLL: Duration = Duration::from_millis(200);
/// Late entries taken from their table at once.
const LATE_PAGE: i64 = 500;

/// The same while the cell has other processes: who asks comes from one that has just let go, and is not
/// to hear of it. His own deadline ends his wait.
const HOLD_TAKEN: Duration = Duration::from_secs(1);
/// How often a new owner looks whether the last one still answers without a commit.
const LEASE_POLL: Duration = Duration::from_millis(20);

/// How turning ended.
#[expect(clippy::large_enum_variant, reason = "there is one a shard")]
pub(super) enum Turned {
    Open(Open),
    /// Told to stop.
    Stop,
    /// Meanwhile the shard is another process's.
    NotMine,
}

/// A shard that may serve.
pub(super) struct Open {
    pub(super) fence: Fence,
    pub(super) store: OpenStore,
    /// Until then an idempotency key may be known to the ledger only. None: Redis has them all.
    keys_from: Option<Instant>,
    /// Boot time at which the question was sent that Postgres last answered with this fence.
    pub(super) confirmed: Duration,
    /// What earlier fences left to be tidied away.
    pub(super) expiring: Expiring,
}

/// What takes the commits.
#[expect(clippy::large_enum_variant, reason = "there is one a shard")]
pub(super) enum OpenStore {
    Redis { redis: RedisStore, key: FenceKey, valid_from: Fence },
    Postgres,
}

impl Open {
    /// Whether Postgres takes the commits.
    pub(super) fn on_postgres(&self) -> bool {
        matches!(self.store, OpenStore::Postgres)
    }

    /// Whether keys are looked up in the ledger before anything is decided.
    pub(super) fn asks_ledger(&self, now: Instant) -> bool {
        self.on_postgres() || self.keys_from.is_some_and(|until| now < until)
    }

    /// What every answer of this opening has to say.
    pub(super) fn degraded(&self) -> Option<Degraded> {
        match &self.store {
            OpenStore::Postgres => Some(Degraded::Postgres),
            OpenStore::Redis { redis, .. } => (redis.fsync == Fsync::Everysec).then_some(Degraded::UnsafeAck),
        }
    }
}

/// A Redis that this turn has fenced.
struct Fenced {
    redis: RedisStore,
    key: FenceKey,
}

/// What the drain of a turn left.
#[derive(Default)]
struct DrainedAll {
    /// Heads of the stream's users, whose records have no expiry yet.
    heads: HashMap<UserId, Head>,
    late_charged: bool,
}

impl Shard {
    /// Turns until the shard is open; meanwhile holds checks for a moment and then refuses them.
    pub(super) async fn turn_until_open(&mut self, cause: &'static str) -> Turned {
        self.gauges.open.set(0);
        self.parts.metrics.turns.get_or_create(&CauseLabel { cause }).inc();
        let (since, mut retry, mut logged) = (Instant::now(), RETRY_MIN, false);
        let hold = self.hold();
        self.allowances.postgres_answers(true);
        loop {
            let (id, queue_max) = (self.parts.id, self.parts.config.queue_max);
            // The turn borrows the shard's tail and stores; the inbox is watched beside it.
            let (mut inbox, mut ready) =
                (std::mem::replace(&mut self.inbox, closed_inbox()), std::mem::take(&mut self.ready));
            let mut allowances = std::mem::replace(&mut self.allowances, Allowances::none());
            let (tiers, clock) = (self.parts.tiers.clone(), self.parts.config.clock.clone());
            let result = {
                let turn = self.turn();
                tokio::pin!(turn);
                loop {
                    tokio::select! {
                        result = &mut turn => break result,
                        Some(ask) = inbox.recv(), if ready.len() < queue_max => ready.push_back(ask),
                        () = tokio::time::sleep_until(since + hold), if !ready.is_empty() && since.elapsed() < hold => {}
                    }
                    if since.elapsed() >= hold {
                        let tiers = tiers.borrow().clone();
                        allowances.answer(&mut ready, TryAgain::ShardClosed, &tiers, &clock);
                    }
                }
            };
            self.inbox = inbox;
            self.ready = ready;
            self.allowances = allowances;
            match result {
                Ok(open) => {
                    self.allowances.opened(open.fence);
                    self.gauges.open.set(1);
                    self.gauges.fence.set(open.fence.0 as i64);
                    self.gauges.on_postgres.set(i64::from(open.on_postgres()));
                    tracing::info!(shard = %id, fence = %open.fence, cause, "shard open");
                    return Turned::Open(open);
                }
                Err(error) => {
                    self.allowances.postgres_answers(!error.is_of_postgres());
                    self.parts.metrics.noticed.turn_failed(&error);
                    let why = &error as &dyn std::error::Error;
                    if std::mem::replace(&mut logged, true) {
                        tracing::debug!(shard = %id, error = why, "turn failed");
                    } else {
                        tracing::warn!(shard = %id, error = why, "turn failed; trying on");
                    }
                }
            }
            if self.parts.membership.is_on() {
                self.parts.membership.refresh().await;
                if !self.parts.membership.is_mine(self.parts.id) {
                    return Turned::NotMine;
                }
            }
            if !self.pause(retry, since).await {
                return Turned::Stop;
            }
            retry = (retry * 2).min(RETRY_MAX);
        }
    }

    fn hold(&self) -> Duration {
        if self.parts.membership.is_on() { HOLD_TAKEN } else { HOLD }
    }

    /// Waits before the next attempt, refusing checks that have waited long enough. False: stop.
    async fn pause(&mut self, retry: Duration, since: Instant) -> bool {
        let (until, queue_max) = (Instant::now() + retry, self.parts.config.queue_max);
        loop {
            if since.elapsed() >= self.hold() {
                self.refuse(TryAgain::ShardClosed);
            }
            tokio::select! {
                () = tokio::time::sleep_until(until) => return true,
                () = self.parts.stop.cancelled() => return false,
                Some(ask) = self.inbox.recv(), if self.ready.len() < queue_max => self.ready.push_back(ask),
            }
        }
    }

    /// Answers all that is ready without a store: 503, but for what its tier allows.
    pub(super) fn refuse(&mut self, reason: TryAgain) {
        let tiers = self.parts.tiers.borrow().clone();
        self.allowances.answer(&mut self.ready, reason, &tiers, &self.parts.config.clock);
    }

    async fn turn(&mut self) -> Result<Open, QuotaError> {
        let (postgres, me) = (self.parts.postgres.clone(), self.parts.owner.to_string());
        let confirmed = boot_clock();
        let row = postgres.begin_turn(&me).await?;
        let begun = boot_clock();
        let finished = row.finished.as_ref();
        let (mut progress, mut fenced, mut left) = (Progress::BEGUN, None, DrainedAll::default());
        loop {
            let certain = progress.redis == Redis::Fenced { certain: true };
            let ended = self.parts.config.sole_process();
            match progress.next(protocol::must_wait(finished, &me, certain, ended)) {
                Next::AskRedis => {
                    fenced = self.fence_redis(&row).await?;
                    let certain =
                        fenced.as_ref().map(|(_, replaced)| protocol::content_is_certain(finished, replaced.as_ref()));
                    progress = Progress::BEGUN;
                    progress.redis = certain.map_or(Redis::Silent, |certain| Redis::Fenced { certain });
                }
                Next::Wait => {
                    self.wait(&row, begun).await?;
                    progress.waited = true;
                }
                Next::Drain => {
                    let redis = fenced.as_mut().map(|(fenced, _): &mut (Fenced, _)| &mut fenced.redis);
                    let drained = self.drain_all(redis, &row).await;
                    let drained = self.broke_on_redis(drained)?;
                    left.heads = drained.heads;
                    left.late_charged |= drained.late_charged;
                    progress.drained = true;
                    if let Some((fenced, _)) = &mut fenced {
                        let stands = fenced.redis.fence_stands(&fenced.key).await.map_err(QuotaError::from);
                        progress.key_stands = self.broke_on_redis(stands)?;
                    }
                }
                Next::OpenOnRedis | Next::OpenOnPostgres => break,
            }
        }
        let certain = progress.redis == Redis::Fenced { certain: true };
        let valid_from = protocol::valid_from(finished, row.fence, certain, left.late_charged);
        let content = fenced.as_ref().map(|(Fenced { redis, key }, _)| RedisContent {
            run_id: redis.run_id.clone(),
            fence_key: key.text.clone(),
        });
        // No earlier owner's fence is confirmed any more: what it was told last ends a lease from here.
        let asked = boot_clock();
        let valid_for = postgres.open_turn(row.fence, &me, content.as_ref(), valid_from).await?;
        let writer = fenced.as_ref().map(|(Fenced { redis, key }, _)| ShardWriter::new(redis.clone(), key.clone()));
        self.parts.standing.set_writer(writer);
        self.open_to_visitors(&row, asked);
        self.tail = Some((row.fence, Tail::new(None)));
        self.orphans.clear();
        self.unanswered.clear();
        self.redis_broke = 0;
        let was_on_postgres = finished.is_some_and(|finished| finished.mode == protocol::Mode::Postgres);
        let store = match fenced {
            Some((Fenced { redis, key }, _)) => {
                self.returned = was_on_postgres.then(Instant::now).or(self.returned);
                OpenStore::Redis { redis, key, valid_from }
            }
            None => {
                tracing::warn!(shard = %self.parts.id, "Redis is away; Postgres takes the commits");
                OpenStore::Postgres
            }
        };
        // Redis that counts since the first turn ever has seen every key.
        let window = Duration::from_secs(86_400);
        let keys_from = (valid_from > Fence(1) && valid_for < window).then(|| Instant::now() + (window - valid_for));
        Ok(Open { fence: row.fence, store, keys_from, confirmed, expiring: Expiring::left(left.heads) })
    }

    /// Step 2: makes this turn's key the writer's. Returns what it replaced as well; none: Redis is
    /// silent. A server that answers and is not fit is an error: that is for people to mend.
    async fn fence_redis(&mut self, row: &TurnRow) -> Result<Option<(Fenced, Option<RedisContent>)>, QuotaError> {
        if self.redis_broke >= REDIS_BREAKS_MAX {
            return Ok(None);
        }
        let tried = self.parts.servers.sentinels().and_then(Sentinels::named);
        match self.ask_redis(row).await? {
            None if self.promoted(tried).await => self.ask_redis(row).await,
            found => Ok(found),
        }
    }

    async fn ask_redis(&mut self, row: &TurnRow) -> Result<Option<(Fenced, Option<RedisContent>)>, QuotaError> {
        let key = FenceKey { fence: row.fence, text: format!("{}:{}", row.fence, nonce()) };
        let asked = async {
            let mut redis = self.connect_redis().await?;
            let replaced = redis.fence(&key).await?;
            Ok::<_, QuotaError>((redis, replaced))
        };
        let (redis, replaced) = match tokio::time::timeout(REDIS_PATIENCE, asked).await {
            Ok(Ok(fenced)) => fenced,
            Ok(Err(QuotaError::Store(StoreError::Fenced))) => return Err(StoreError::Fenced.into()),
            Ok(Err(QuotaError::Store(error))) => {
                tracing::warn!(shard = %self.parts.id, error = &error as &dyn std::error::Error, "Redis is silent");
                return Ok(None);
            }
            Ok(Err(unfit)) => return Err(unfit),
            Err(_) => {
                tracing::warn!(shard = %self.parts.id, "Redis is silent");
                return Ok(None);
            }
        };
        let replaced = replaced.map(|fence_key| RedisContent { run_id: redis.run_id.clone(), fence_key });
        Ok(Some((Fenced { redis, key }, replaced)))
    }

    async fn connect_redis(&self) -> Result<RedisStore, QuotaError> {
        let config = &self.parts.config;
        self.parts.servers.connect(self.parts.id, config.store_timeout, config.allow_unsafe_ack).await
    }

    /// Whether a replica has taken the place of a primary that does not answer. `tried`: the one that did not.
    async fn promoted(&self, tried: Option<String>) -> bool {
        let Some(sentinels) = self.parts.servers.sentinels() else { return false };
        let promotion = sentinels.promote(tried.as_deref(), self.parts.config.allow_unsafe_ack);
        match tokio::time::timeout(PROMOTION_MAX, promotion).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::warn!(shard = %self.parts.id, error = &error as &dyn std::error::Error, "no replica takes its place");
                false
            }
            Err(_) => {
                tracing::warn!(shard = %self.parts.id, "no replica takes its place in time");
                false
            }
        }
    }

    fn broke_on_redis<T>(&mut self, result: Result<T, QuotaError>) -> Result<T, QuotaError> {
        use StoreError::{Refused, Unknown};
        if let Err(QuotaError::Store(Unknown { store: "redis", .. } | Refused { store: "redis", .. })) = &result {
            self.redis_broke += 1;
        }
        result
    }

    /// Until nobody can be acknowledging under the last finished turn any more.
    async fn wait(&self, row: &TurnRow, begun: Duration) -> Result<(), QuotaError> {
        let Some(opened) = row.finished.as_ref().map(|finished| finished.opened) else { return Ok(()) };
        tracing::warn!(shard = %self.parts.id, "waiting for the last owner, who may hold acknowledged charges");
        while !protocol::wait_is_over(boot_clock(), begun, self.parts.config.autonomy) {
            if self.parts.postgres.has_stopped(opened).await? {
                break;
            }
            if self.parts.stop.is_cancelled() || !self.parts.membership.is_mine(self.parts.id) {
                // Not this process's wait any more.
                return Err(StoreError::Fenced.into());
            }
            tokio::time::sleep(WAIT_POLL).await;
        }
        Ok(())
    }

    /// Lets in who is answered without a commit: at once, or when the lease of another life that owned the
    /// shard before has run out, unless that one says sooner that it has stopped.
    fn open_to_visitors(&self, row: &TurnRow, asked: Duration) {
        let (standing, fence) = (self.parts.standing.clone(), row.fence);
        let other = row.finished.as_ref().filter(|finished| *finished.owner != *self.parts.owner);
        let Some(other) = other.filter(|_| !self.parts.config.sole_process()) else {
            standing.open(fence, asked, Duration::ZERO);
            return;
        };
        let until = asked + READING_LEASE + LEASE_MARGIN;
        standing.open(fence, asked, until);
        let (postgres, opened) = (self.parts.postgres.clone(), other.opened);
        tokio::spawn(async move {
            while boot_clock() < until {
                if postgres.has_stopped(opened).await.unwrap_or(false) {
                    standing.predecessor_stopped(fence);
                    return;
                }
                tokio::time::sleep(LEASE_POLL).await;
            }
        });
    }

    /// Step 3: everything committed that Postgres does not hold, from the stream (if Redis answers) and
    /// from memory. The stream alone says whether an unanswered call was written; the tail alone
    /// remembers what an emptied Redis forgot.
    async fn drain_all(&mut self, redis: Option<&mut RedisStore>, row: &TurnRow) -> Result<DrainedAll, QuotaError> {
        let opened = row.finished.as_ref().map(|finished| finished.opened);
        let stream_read = redis.is_some();
        let mut tail = self.take_tail(row, opened);
        let (mut late, mut heads) = (Vec::new(), HashMap::new());
        let result = match redis {
            Some(redis) => self.drain_stream(redis, row, &mut tail, &mut late, &mut heads).await,
            None => Ok(()),
        };
        let result = match result {
            Ok(()) => self.drain_rest(row, &mut tail).await,
            Err(error) => Err(error),
        };
        let drained = tail.drained();
        if let Some(opened) = opened {
            self.tail = Some((opened, tail));
        }
        result?;
        self.answer_drained(drained);
        // What still waits was sent under another fence, and other batches have its number: unknown.
        self.acks.clear();
        let charged = |fence: Fence| protocol::charges_unanswered(fence, opened, stream_read);
        late.extend(self.unanswered.iter().filter(|(fence, _)| charged(*fence)).map(|(_, entry)| entry.clone()));
        late.extend(self.orphans.iter().cloned());
        if let Some(journal) = &self.parts.journal {
            journal.hand_over(self.parts.id, &self.parts.postgres).await?;
        }
        let mut next = LATE_SEQ;
        let mut late_charged = row.late_charged | (self.charge_late(row, drained, &mut next, late).await? > 0);
        loop {
            let page = self.parts.postgres.late(LATE_PAGE).await?;
            if page.is_empty() {
                return Ok(DrainedAll { heads, late_charged });
            }
            let places: Vec<_> = page.iter().map(|late| late.place).collect();
            // A call that was handed over without an answer is judged like one's own.
            let entries = page.into_iter().filter(|late| late.answered || charged(late.served_under));
            let entries = entries.map(|late| late.entry).collect();
            late_charged |= self.charge_late(row, drained, &mut next, entries).await? > 0;
            self.parts.postgres.forget_late(&places).await?;
        }
    }

    /// The tail in memory, if the fence this turn ends is its own and nothing was charged late since; else
    /// what it holds is late. That stays in memory until a turn has finished: it may be the only copy.
    fn take_tail(&mut self, row: &TurnRow, opened: Option<Fence>) -> Tail {
        let (fence, mut tail) = self.tail.take().unzip();
        if let (Some(tail), true) = (&mut tail, fence.is_some() && fence == opened) {
            if let Some(drained) = row.drained {
                tail.drained_to(drained);
            }
        } else {
            // Seqs of another fence say nothing about those who wait for ours.
            self.acks.clear();
        }
        match tail {
            Some(tail) if fence == opened && !row.late_charged => tail,
            other => {
                self.orphans.extend(other.iter().flat_map(Tail::entries_held));
                Tail::new(row.drained)
            }
        }
    }

    async fn drain_stream(
        &mut self,
        redis: &mut RedisStore,
        row: &TurnRow,
        tail: &mut Tail,
        late: &mut Vec<LedgerEntry>,
        heads: &mut HashMap<UserId, Head>,
    ) -> Result<(), QuotaError> {
        let opened = row.finished.as_ref().map(|finished| finished.opened);
        let mut watermarks: Option<HashMap<Fence, Option<Seq>>> = None;
        // From its first: what Postgres holds already tells whose records have no expiry yet.
        let mut after = None;
        loop {
            let page = redis.stream_after(after).await?;
            let Some(last) = page.last().map(|batch| (batch.fence, batch.seq)) else { return Ok(()) };
            after = Some(last);
            let mut in_order = Vec::with_capacity(page.len());
            for batch in page {
                let watermark = if Some(batch.fence) == opened {
                    row.drained
                } else {
                    if watermarks.is_none() {
                        watermarks = Some(self.parts.postgres.watermarks(batch.fence).await?);
                    }
                    watermarks.as_ref().and_then(|held| held.get(&batch.fence).copied()).flatten()
                };
                match protocol::fate(batch.fence, batch.seq, opened, watermark, row.late_charged) {
                    Fate::Late => late.extend(unpack(&batch)?),
                    Fate::Drained | Fate::InOrder => in_order.push(batch),
                }
            }
            for batch in read_batches(redis, in_order).await? {
                heads.extend(batch.records);
                // Of older fences all is drained, or late.
                if Some(batch.fence) == opened {
                    tail.push(batch.tail);
                }
            }
            self.drain_front(row, tail, Tail::front).await?;
        }
    }

    /// What memory holds beyond the stream, over gaps: no answer that is missing will come any more, and
    /// what was not answered is charged by the late rule or not at all.
    async fn drain_rest(&mut self, row: &TurnRow, tail: &mut Tail) -> Result<(), QuotaError> {
        self.drain_front(row, tail, Tail::rest).await
    }

    async fn drain_front(
        &mut self,
        row: &TurnRow,
        tail: &mut Tail,
        front: fn(&Tail, usize) -> Vec<std::sync::Arc<TailBatch>>,
    ) -> Result<(), QuotaError> {
        let Some(opened) = row.finished.as_ref().map(|finished| finished.opened) else { return Ok(()) };
        loop {
            let batches = front(tail, self.parts.config.drain_max);
            let Some(last) = batches.last().map(|batch| batch.seq) else { return Ok(()) };
            let (postgres, watermark) = (self.parts.postgres.clone(), (tail.drained(), Some(last)));
            postgres.drain(row.fence, opened, watermark, &batches, &mut self.months).await?;
            tail.drained_to(last);
        }
    }

    /// Looks whether Redis can be gone back to, at most once in a while. The turn back closes the shard, so
    /// one that would not take the turn's first write must be told apart here.
    pub(super) fn start_probe(&self, serving: &mut Serving) {
        let soon = self.returned.is_some_and(|at| at.elapsed() < self.parts.config.return_pause);
        if !serving.open.on_postgres() || serving.probe.is_some() || serving.returning || soon {
            return;
        }
        let (config, servers, id) = (self.parts.config.clone(), self.parts.servers.clone(), self.parts.id);
        let noticed = self.parts.metrics.noticed.clone();
        serving.probe = Some(
            async move {
                let probe = async {
                    let mut redis = servers.connect(id, REDIS_PATIENCE, config.allow_unsafe_ack).await?;
                    redis.takes_writes().await?;
                    Ok::<_, QuotaError>(())
                };
                match tokio::time::timeout(REDIS_PATIENCE, probe).await {
                    Ok(Ok(())) => return true,
                    Ok(Err(error)) => noticed.turn_failed(&error),
                    Err(_) => {}
                }
                match servers.sentinels() {
                    Some(sentinels) => sentinels.is_promotable().await,
                    None => false,
                }
            }
            .boxed(),
        );
    }
}

/// A batch of the stream, with its users' records.
struct ReadBatch {
    fence: Fence,
    tail: TailBatch,
    records: Vec<(UserId, Head)>,
}

fn unpack(batch: &StreamBatch) -> Result<Vec<LedgerEntry>, StoreError> {
    let entries = LedgerEntry::unpack_all(&batch.packed).map_err(RecordError::Body);
    entries.map_err(|cause| StoreError::Unreadable { store: "redis", cause })
}

/// The batches of a page with the users' present records: at least as new as the entries, since both
/// were written by one script, and no older writer can write any more.
async fn read_batches(redis: &mut RedisStore, page: Vec<StreamBatch>) -> Result<Vec<ReadBatch>, QuotaError> {
    let mut batches: Vec<(Fence, Seq, Vec<LedgerEntry>)> = Vec::with_capacity(page.len());
    for batch in page {
        batches.push((batch.fence, batch.seq, unpack(&batch)?));
    }
    let users: HashSet<&UserId> = batches.iter().flat_map(|(_, _, entries)| entries.iter().map(|e| &e.user)).collect();
    let users: Vec<UserId> = users.into_iter().cloned().collect();
    let records = redis.records(&users).await?;
    let mut records: HashMap<UserId, (Head, Vec<u8>)> = users
        .into_iter()
        .zip(records)
        .filter_map(|(user, bytes)| {
            let bytes = bytes?;
            Some((user, (Head::from_bytes(&bytes)?, bytes)))
        })
        .collect();
    // A record goes with its user's last entry: however the page is split over transactions, Postgres
    // never holds all of a user's entries without what they left.
    let mut batches: Vec<ReadBatch> = batches
        .into_iter()
        .rev()
        .map(|(fence, seq, entries)| {
            let records = entries
                .iter()
                .filter_map(|entry| records.remove(&entry.user).map(|(head, bytes)| (entry.user.clone(), head, bytes)));
            let records: Vec<_> = records.collect();
            let heads = records.iter().map(|(user, head, _)| (user.clone(), *head)).collect();
            ReadBatch { fence, records: heads, tail: TailBatch { seq, records, entries } }
        })
        .collect();
    batches.reverse();
    Ok(batches)
}

/// Stands in for the inbox while a turn borrows the shard.
fn closed_inbox() -> tokio::sync::mpsc::Receiver<super::Ask> {
    tokio::sync::mpsc::channel(1).1
}

impl ShardId {
    /// All shards of a cell.
    pub(crate) fn all(shards: u16) -> impl Iterator<Item = ShardId> {
        (0..shards).map(ShardId)
    }
}
