//! The drain: the tail written behind to Postgres, and what waits for it.

use super::serve::Serving;
use super::{Ask, Shard};
use crate::clock::boot_clock;
use crate::error::StoreError;
use crate::record::Head;
use crate::tail::{Months, Tail, TailBatch};
use cellar_model::{Seq, UserId, Verdict};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// Between failed drains.
const DRAIN_RETRY: Duration = Duration::from_millis(200);
/// Records that Postgres holds live on in Redis for this long: beyond the longest built-in period,
/// a month.
const RECORD_TTL_S: u32 = 32 * 86_400;

/// An admission that is answered when Postgres holds it.
pub(super) struct PendingAck {
    pub(super) seq: Seq,
    pub(super) ask: Ask,
    pub(super) verdict: Verdict,
}

pub(super) struct DrainDone {
    /// Up to which seq Postgres holds the shard's entries; none: it was asked for the fence only.
    result: Result<Option<Seq>, StoreError>,
    months: Option<Months>,
    /// Boot time at which the question was sent.
    asked: Duration,
    sent: Instant,
}

impl Shard {
    pub(super) fn push_tail(&mut self, serving: &mut Serving, batch: TailBatch) {
        if let Some((_, tail)) = &mut self.tail {
            tail.push(batch);
        }
        serving.drain_at.get_or_insert_with(|| Instant::now() + self.parts.config.drain_gather);
        self.count_undrained();
    }

    pub(super) fn tail_over_bounds(&self) -> bool {
        let config = &self.parts.config;
        self.tail
            .as_ref()
            .is_some_and(|(_, tail)| tail.entries() > config.undrained_max || tail.age() > config.undrained_age_max)
    }

    pub(super) fn count_undrained(&self) {
        let entries = self.tail.as_ref().map_or(0, |(_, tail)| tail.entries()) as u64;
        self.gauges.undrained.set(entries as i64);
        self.parts.undrained.store(entries, Ordering::Relaxed);
    }

    /// Starts a ledger transaction when one is due and none is under way.
    pub(super) fn start_drain(&mut self, serving: &mut Serving) {
        let config = self.parts.config.clone();
        let Some((fence, tail)) = &self.tail else { return };
        let (fence, after) = (*fence, tail.drained());
        let due = serving.drain_at.is_some_and(|at| at <= Instant::now()) || tail.entries() >= config.drain_max;
        if serving.drain.is_some() || !due {
            return;
        }
        let front = tail.front(config.drain_max);
        serving.drain_at = None;
        let Some(last) = front.last().map(|batch| batch.seq) else { return };
        let (postgres, mut redis, key) =
            (self.parts.postgres.clone(), serving.open.redis.clone(), serving.open.key.clone());
        let mut months = std::mem::take(&mut self.months);
        serving.drain = Some(Box::pin(async move {
            let (asked, sent) = (boot_clock(), Instant::now());
            let result = postgres.drain(fence, fence, after, &front, &mut months).await;
            if result.is_ok() {
                // A trim that fails is made up for by the next one.
                let _ = redis.drained(&key, last, RECORD_TTL_S, &latest_heads(&front)).await;
            }
            DrainDone { result: result.map(|()| Some(last)), months: Some(months), asked, sent }
        }));
    }

    /// Asks Postgres whether this process still is the writer, unless a drain is about to.
    pub(super) fn confirm_fence(&mut self, serving: &mut Serving) {
        if serving.drain.is_some() || serving.drain_at.is_some() {
            return;
        }
        let (postgres, fence) = (self.parts.postgres.clone(), serving.open.key.fence);
        let sweep = self.parts.id.0 == 0;
        serving.drain = Some(Box::pin(async move {
            let (asked, sent) = (boot_clock(), Instant::now());
            let result = match postgres.confirm_fence(fence).await {
                Ok(true) => Ok(None),
                Ok(false) => Err(StoreError::Fenced),
                Err(error) => Err(error),
            };
            if sweep && result.is_ok() {
                // Keys past their window; what is left over goes at the next tick.
                let _ = postgres.expire_keys().await;
            }
            DrainDone { result, months: None, asked, sent }
        }));
    }

    /// `Some`: a turn is due.
    pub(super) fn finish_drain(&mut self, serving: &mut Serving, done: DrainDone) -> Option<&'static str> {
        serving.drain = None;
        if let Some(months) = done.months {
            self.months = months;
        }
        match done.result {
            Ok(last) => {
                serving.open.confirmed = done.asked;
                serving.postgres_answers = true;
                if let (Some(last), Some((_, tail))) = (last, &mut self.tail) {
                    self.parts.metrics.drain_seconds.observe(done.sent.elapsed().as_secs_f64());
                    tail.drained_to(last);
                    if tail.entries() > 0 {
                        serving.drain_at = Some(Instant::now() + self.parts.config.drain_gather);
                    }
                    self.answer_drained(Some(last));
                }
                self.count_undrained();
                None
            }
            // Another's turn, or one's own earlier statement that was not answered: the turn reads
            // the watermark and goes on from there.
            Err(StoreError::Fenced) => Some("fenced"),
            Err(error) => {
                self.parts.metrics.drain_failures.inc();
                if serving.postgres_answers {
                    tracing::warn!(shard = %self.parts.id, error = &error as &dyn std::error::Error,
                        "Postgres does not take the ledger; going on within autonomy");
                }
                serving.postgres_answers = false;
                serving.drain_at = Some(Instant::now() + DRAIN_RETRY);
                None
            }
        }
    }

    /// Answers the admissions that waited for Postgres, up to `last` (none: it holds nothing yet).
    pub(super) fn answer_drained(&mut self, last: Option<Seq>) {
        while self.acks.front().is_some_and(|ack| Some(ack.seq) <= last) {
            if let Some(ack) = self.acks.pop_front() {
                ack.ask.answer(ack.verdict);
            }
        }
    }

    pub(super) fn tail_is_empty(&self) -> bool {
        self.tail.as_ref().is_none_or(|(_, tail): &(_, Tail)| tail.entries() == 0)
    }
}

/// Each user's newest head among `batches`.
fn latest_heads(batches: &[Arc<TailBatch>]) -> Vec<(UserId, Head)> {
    let mut heads: HashMap<&UserId, Head> = HashMap::new();
    for (user, head, _) in batches.iter().flat_map(|batch| &batch.records) {
        let held = heads.entry(user).or_insert(*head);
        *held = (*held).max(*head);
    }
    heads.into_iter().map(|(user, head)| (user.clone(), head)).collect()
}
