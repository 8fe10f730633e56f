//! The drain: the tail written behind to Postgres, and what waits for it.

use super::serve::Serving;
use super::{Ask, Shard};
use crate::clock::boot_clock;
use crate::error::StoreError;
use crate::protocol;
use crate::tail::{Months, Tail, TailBatch};
use cellar_model::{Seq, TryAgain, Verdict};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// Between failed drains.
const DRAIN_RETRY: Duration = Duration::from_millis(200);
/// A question to Postgres unanswered for this long counts as "it does not answer": shorter than the
/// deadline most callers have, so that none of those who wait for it only because the tail has grown
/// goes without an answer. A drain under load takes a tenth of it.
const PATIENCE: Duration = Duration::from_millis(300);

/// An admission that is answered when Postgres holds it.
pub(super) struct PendingAck {
    pub(super) seq: Seq,
    /// His tier asks for it; else he waits only because the tail is longer than it may be.
    pub(super) by_tier: bool,
    pub(super) ask: Ask,
    pub(super) verdict: Verdict,
}

pub(super) struct DrainDone {
    /// The batches that Postgres now holds; none: it was asked for the fence only.
    result: Result<Vec<Arc<TailBatch>>, StoreError>,
    /// Charges of older fences wait for a turn.
    late: bool,
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
        let entries = (self.tail.as_ref().map_or(0, |(_, tail)| tail.entries()) + self.orphans.len()) as u64;
        self.gauges.undrained.set(entries as i64);
        // What is of an older fence is older than the tail: its age goes on.
        if self.orphans.is_empty() {
            self.gauges.undrained_age.since(self.tail.as_ref().and_then(|(_, tail)| tail.oldest()));
        }
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
        if front.is_empty() {
            return;
        }
        let postgres = self.parts.postgres.clone();
        let mut months = std::mem::take(&mut self.months);
        serving.asked_postgres = Some(Instant::now());
        serving.drain = Some(Box::pin(async move {
            let (asked, sent) = (boot_clock(), Instant::now());
            let last = front.last().map(|batch| batch.seq);
            let result = postgres.drain(fence, fence, (after, last), &front, &mut months).await;
            DrainDone { result: result.map(|()| front), late: false, months: Some(months), asked, sent }
        }));
    }

    /// Asks Postgres whether this process still is the writer, unless a drain is about to.
    pub(super) fn confirm_fence(&mut self, serving: &mut Serving) {
        if serving.drain.is_some() || serving.drain_at.is_some() {
            return;
        }
        let (postgres, fence) = (self.parts.postgres.clone(), serving.open.fence);
        serving.asked_postgres = Some(Instant::now());
        serving.drain = Some(Box::pin(async move {
            let (asked, sent) = (boot_clock(), Instant::now());
            let (result, late) = match postgres.confirm_fence(fence).await {
                Ok(standing) if standing.mine => (Ok(Vec::new()), standing.late),
                Ok(_) => (Err(StoreError::Fenced), false),
                Err(error) => (Err(error), false),
            };
            DrainDone { result, late, months: None, asked, sent }
        }));
    }

    /// `Some`: a turn is due.
    pub(super) fn finish_drain(&mut self, serving: &mut Serving, done: DrainDone) -> Option<&'static str> {
        serving.drain = None;
        serving.asked_postgres = None;
        if let Some(months) = done.months {
            self.months = months;
        }
        match done.result {
            Ok(batches) => {
                serving.open.confirmed = done.asked;
                self.parts.standing.confirm(serving.open.fence, done.asked);
                serving.postgres_answers = true;
                let last = batches.last().map(|batch| batch.seq);
                if let (Some(last), Some((_, tail))) = (last, &mut self.tail) {
                    self.parts.metrics.drain_seconds.observe(done.sent.elapsed().as_secs_f64());
                    tail.drained_to(last);
                    if tail.entries() > 0 {
                        serving.drain_at = Some(Instant::now() + self.parts.config.drain_gather);
                    }
                    self.answer_drained(Some(last));
                    self.mark_drained(serving, &batches);
                }
                self.count_undrained();
                done.late.then_some("late")
            }
            // Another's turn, or one's own earlier statement that was not answered: the turn reads
            // the watermark and goes on from there.
            Err(StoreError::Fenced) => Some("fenced"),
            Err(error) => {
                self.parts.metrics.drain_failures.inc();
                self.parts.metrics.noticed.store_failed(&error);
                // Whatever it refused: the next one does not rely on partitions that may have gone.
                self.months = Months::default();
                tracing::debug!(shard = %self.parts.id, error = &error as &dyn std::error::Error, "drain failed");
                self.without_postgres(serving);
                serving.drain_at = Some(Instant::now() + DRAIN_RETRY);
                None
            }
        }
    }

    /// Whether what a store says now may be acknowledged: handled later than autonomy allows after
    /// Postgres last confirmed the fence, it is unknown, and its charge an entry all the same.
    pub(super) fn is_autonomous(&self, serving: &Serving) -> bool {
        protocol::is_autonomous(boot_clock(), serving.open.confirmed, self.parts.config.autonomy)
    }

    /// When Postgres counts as silent, if it has been asked and is not known to be.
    pub(super) fn patience_ends(serving: &Serving) -> Option<Instant> {
        serving.asked_postgres.filter(|_| serving.postgres_answers).map(|asked| asked + PATIENCE)
    }

    /// Postgres does not answer: the tail may grow within autonomy, and nobody waits whose tier does not
    /// ask for it.
    pub(super) fn without_postgres(&mut self, serving: &mut Serving) {
        if std::mem::replace(&mut serving.postgres_answers, false) {
            tracing::warn!(shard = %self.parts.id, "Postgres does not take the ledger; going on within autonomy");
        }
        let autonomous = self.is_autonomous(serving);
        for ack in std::mem::take(&mut self.acks) {
            if ack.by_tier {
                self.acks.push_back(ack);
            } else {
                ack.ask.answer(if autonomous { ack.verdict } else { Verdict::try_again(TryAgain::Unknown) });
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

    /// Forgets those who waited for Postgres beyond their deadline: they have been told "unknown".
    pub(super) fn drop_late_acks(&mut self) {
        let now = Instant::now();
        self.acks.retain(|ack| ack.ask.deadline > now);
    }

    pub(super) fn tail_is_empty(&self) -> bool {
        self.tail.as_ref().is_none_or(|(_, tail): &(_, Tail)| tail.entries() == 0)
    }
}
