//! The turn: the only way a shard changes writer or store, whatever the cause.
//!
//! Steps 2 to 4 belong to one Redis connection; if it breaks, the turn starts over with a new fence,
//! which is always allowed.

use super::expiry::Expiring;
use super::{Shard, ShardId};
use crate::entry::LedgerEntry;
use crate::error::{QuotaError, StoreError};
use crate::metrics::CauseLabel;
use crate::record::{Head, RecordError};
use crate::store::postgres::TurnRow;
use crate::store::redis::{FenceKey, RedisStore, StreamBatch, nonce};
use crate::tail::{Tail, TailBatch};
use cellar_model::{Fence, Seq, TryAgain, UserId, Verdict};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tokio::time::Instant;

/// Between failed attempts; doubled up to the maximum.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);
/// For so long may checks wait for a turn before they are refused: a turn among healthy stores takes
/// milliseconds.
const HOLD: Duration = Duration::from_millis(250);

/// A shard that may serve.
pub(super) struct Open {
    pub(super) redis: RedisStore,
    pub(super) key: FenceKey,
    pub(super) valid_from: Fence,
    /// Until then an idempotency key may be known to the ledger only. None: Redis has them all.
    pub(super) keys_from: Option<Instant>,
    /// Boot time at which the question was sent that Postgres last answered with this fence.
    pub(super) confirmed: Duration,
    /// What earlier fences left to be tidied away.
    pub(super) expiring: Expiring,
}

/// Whether what Redis holds is what the last finished turn left there: it replaced exactly that
/// turn's key, in the same life of the server. A flush changes neither `run_id` nor replication ids,
/// so only the key tells.
pub(super) fn content_is_certain(row: &TurnRow, replaced: Option<&str>, run_id: &str) -> bool {
    row.mode_redis
        && row.fence_key.is_some()
        && row.fence_key.as_deref() == replaced
        && row.run_id.as_deref() == Some(run_id)
}

/// Whether the last owner may still hold acknowledged charges that neither store shows.
pub(super) fn must_wait(row: &TurnRow, me: &str, certain: bool, owner_is_dead: bool) -> bool {
    row.mode_redis && row.owner.as_deref() != Some(me) && !certain && !owner_is_dead
}

/// Since which fence records and outcomes in Redis count. Older ones are misses: no scan is needed.
pub(super) fn valid_from(row: &TurnRow, certain: bool) -> Fence {
    if certain { row.valid_from } else { row.fence }
}

impl Shard {
    /// Turns until the shard is open; meanwhile holds checks for a moment and then refuses them.
    /// `None`: told to stop.
    pub(super) async fn turn_until_open(&mut self, cause: &'static str) -> Option<Open> {
        self.gauges.open.set(0);
        self.parts.metrics.turns.get_or_create(&CauseLabel { cause }).inc();
        let (since, mut retry, mut logged) = (Instant::now(), RETRY_MIN, false);
        loop {
            let (id, queue_max) = (self.parts.id, self.parts.config.queue_max);
            // The turn borrows the shard's tail and stores; the inbox is watched beside it.
            let (mut inbox, mut ready) =
                (std::mem::replace(&mut self.inbox, closed_inbox()), std::mem::take(&mut self.ready));
            let result = {
                let turn = self.turn();
                tokio::pin!(turn);
                loop {
                    tokio::select! {
                        result = &mut turn => break result,
                        Some(ask) = inbox.recv(), if ready.len() < queue_max => ready.push_back(ask),
                        () = tokio::time::sleep_until(since + HOLD), if !ready.is_empty() && since.elapsed() < HOLD => {}
                    }
                    if since.elapsed() >= HOLD {
                        refuse(&mut ready);
                    }
                }
            };
            self.inbox = inbox;
            self.ready = ready;
            match result {
                Ok(open) => {
                    self.gauges.open.set(1);
                    self.gauges.fence.set(open.key.fence.0 as i64);
                    tracing::info!(shard = %id, fence = %open.key.fence, cause, "shard open");
                    return Some(open);
                }
                Err(error) if !logged => {
                    logged = true;
                    tracing::warn!(shard = %id, error = &error as &dyn std::error::Error, "turn failed; trying on");
                }
                Err(error) => tracing::debug!(shard = %id, error = &error as &dyn std::error::Error, "turn failed"),
            }
            if !self.pause(retry, since).await {
                return None;
            }
            retry = (retry * 2).min(RETRY_MAX);
        }
    }

    /// Waits before the next attempt, refusing checks that have waited long enough. False: stop.
    async fn pause(&mut self, retry: Duration, since: Instant) -> bool {
        let (until, queue_max) = (Instant::now() + retry, self.parts.config.queue_max);
        loop {
            if since.elapsed() >= HOLD {
                refuse(&mut self.ready);
            }
            tokio::select! {
                () = tokio::time::sleep_until(until) => return true,
                () = self.parts.stop.cancelled() => return false,
                Some(ask) = self.inbox.recv(), if self.ready.len() < queue_max => self.ready.push_back(ask),
            }
        }
    }

    async fn turn(&mut self) -> Result<Open, QuotaError> {
        let (config, postgres) = (self.parts.config.clone(), self.parts.postgres.clone());
        let confirmed = crate::clock::boot_clock();
        let row = postgres.begin_turn(&self.parts.owner).await?;
        let mut redis = RedisStore::connect(
            config.redis_url.reveal(),
            self.parts.id,
            config.store_timeout,
            config.allow_unsafe_ack,
        )
        .await?;
        let key = FenceKey { fence: row.fence, text: format!("{}:{}", row.fence, nonce()) };
        let replaced = redis.fence(&key).await?;
        let certain = content_is_certain(&row, replaced.as_deref(), &redis.run_id);
        if must_wait(&row, &self.parts.owner, certain, config.sole_process) {
            return Err(QuotaError::OwnerMayLive);
        }
        let heads = match row.opened {
            Some(opened) => self.drain_all(&mut redis, &row, opened).await?,
            None => HashMap::new(),
        };
        if !redis.fence_stands(&key).await? {
            return Err(StoreError::Fenced.into());
        }
        let valid_from = valid_from(&row, certain);
        let valid_for = postgres.open_turn(row.fence, &self.parts.owner, &redis.run_id, &key.text, valid_from).await?;
        self.tail = Some((row.fence, Tail::new(None)));
        // Redis that counts since the first turn ever has seen every key.
        let window = Duration::from_secs(86_400);
        let keys_from = (valid_from > Fence(1) && valid_for < window).then(|| Instant::now() + (window - valid_for));
        Ok(Open { redis, key, valid_from, keys_from, confirmed, expiring: Expiring::left(heads) })
    }

    /// Step 3: everything committed under `opened` that Postgres does not hold, from the stream and
    /// from the tail in memory. The stream alone says whether an unanswered call was written; the
    /// tail alone remembers what an emptied Redis forgot. Returns the heads of the stream's users.
    async fn drain_all(
        &mut self,
        redis: &mut RedisStore,
        row: &TurnRow,
        opened: Fence,
    ) -> Result<HashMap<UserId, Head>, QuotaError> {
        let mut tail = match self.tail.take() {
            Some((fence, tail)) if fence == opened => tail,
            _ => {
                // Seqs of another fence say nothing about those who wait for ours.
                self.acks.clear();
                Tail::new(row.drained)
            }
        };
        if let Some(drained) = row.drained {
            tail.drained_to(drained);
        }
        let result = self.drain_stream(redis, row, opened, &mut tail).await;
        let (rest, drained) = (tail.entries(), tail.drained());
        self.tail = Some((opened, tail));
        let heads = result?;
        if rest > 0 {
            // A gap that neither stream nor memory fills: what is behind it cannot be written under
            // the watermark and is lost. An append-only file flushed at every write loses its end
            // only, and a living process has every entry it acknowledged, so nothing known leads here.
            tracing::error!(shard = %self.parts.id, rest, "the ledger stream has a gap");
        }
        self.answer_drained(drained);
        // What still waits is behind that gap, or of a fence that another turn ended: unknown.
        self.acks.clear();
        Ok(heads)
    }

    async fn drain_stream(
        &mut self,
        redis: &mut RedisStore,
        row: &TurnRow,
        opened: Fence,
        tail: &mut Tail,
    ) -> Result<HashMap<UserId, Head>, QuotaError> {
        // From its first: what Postgres holds already tells whose records have no expiry yet.
        let (mut after, mut heads) = (None, HashMap::new());
        loop {
            let page = redis.stream_after(opened, after).await?;
            let read = page.last().map(|batch| batch.seq);
            for batch in read_batches(redis, page).await? {
                heads.extend(batch.records.iter().map(|(user, head, _)| (user.clone(), *head)));
                tail.push(batch);
            }
            loop {
                let front = tail.front(self.parts.config.drain_max);
                let Some(last) = front.last().map(|batch| batch.seq) else { break };
                let postgres = self.parts.postgres.clone();
                postgres.drain(row.fence, opened, tail.drained(), &front, &mut self.months).await?;
                tail.drained_to(last);
            }
            match read {
                Some(last) => after = Some(last),
                None => return Ok(heads),
            }
        }
    }
}

/// The batches of a page with the users' present records: at least as new as the entries, since both
/// were written by one script, and no older writer can write any more.
async fn read_batches(redis: &mut RedisStore, page: Vec<StreamBatch>) -> Result<Vec<TailBatch>, QuotaError> {
    let mut batches: Vec<(Seq, Vec<LedgerEntry>)> = Vec::with_capacity(page.len());
    for batch in page {
        let entries = LedgerEntry::unpack_all(&batch.packed).map_err(RecordError::Body);
        let entries = entries.map_err(|cause| StoreError::Unreadable { store: "redis", cause })?;
        batches.push((batch.seq, entries));
    }
    let users: HashSet<&UserId> = batches.iter().flat_map(|(_, entries)| entries.iter().map(|e| &e.user)).collect();
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
    let mut batches: Vec<TailBatch> = batches
        .into_iter()
        .rev()
        .map(|(seq, entries)| {
            let records = entries
                .iter()
                .filter_map(|entry| records.remove(&entry.user).map(|(head, bytes)| (entry.user.clone(), head, bytes)));
            TailBatch { seq, records: records.collect(), entries }
        })
        .collect();
    batches.reverse();
    Ok(batches)
}

fn refuse(ready: &mut std::collections::VecDeque<super::Ask>) {
    for ask in ready.drain(..) {
        ask.answer(Verdict::try_again(TryAgain::ShardClosed));
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> TurnRow {
        TurnRow {
            fence: Fence(5),
            opened: Some(Fence(4)),
            owner: Some("other".into()),
            mode_redis: true,
            run_id: Some("run".into()),
            fence_key: Some("4:aa".into()),
            valid_from: Fence(2),
            drained: None,
        }
    }

    #[test]
    fn content_counts_only_in_the_same_life_with_the_same_key() {
        assert!(content_is_certain(&row(), Some("4:aa"), "run"));
        assert!(!content_is_certain(&row(), Some("4:bb"), "run"), "another turn came between");
        assert!(!content_is_certain(&row(), None, "run"), "flushed");
        assert!(!content_is_certain(&row(), Some("4:aa"), "other"), "restarted");
        let first = TurnRow { fence_key: None, run_id: None, mode_redis: false, ..row() };
        assert!(!content_is_certain(&first, None, "run"), "never opened");
    }

    #[test]
    fn uncertain_content_counts_from_the_new_fence() {
        assert_eq!(valid_from(&row(), true), Fence(2));
        assert_eq!(valid_from(&row(), false), Fence(5));
    }

    #[test]
    fn only_another_life_that_may_still_run_is_waited_for() {
        assert!(must_wait(&row(), "me", false, false));
        assert!(!must_wait(&row(), "me", true, false), "nothing can be missing");
        assert!(!must_wait(&row(), "me", false, true), "the lock proves its death");
        assert!(!must_wait(&row(), "other", false, false), "it is this very process");
    }
}
