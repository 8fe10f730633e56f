//! Standing by: the shard is another process's, and what this one holds of it is handed over.
//!
//! A turn among healthy stores takes over by itself: it reads the stream. What is left for the old owner to
//! say is that it has stopped, and what only its memory has: entries that an emptied Redis forgot, and
//! calls that nobody can ask Redis about.

use super::Shard;
use crate::entry::LedgerEntry;
use crate::error::StoreError;
use crate::membership::Place;
use crate::standing::READING_LEASE;
use crate::store::postgres::Ended;
use cellar_model::{Fence, Refusal, TryAgain, Verdict};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::time::Duration;
use tokio::time::Instant;

/// For so long is the turn that ended the fence left to drain what it finds by itself; one that waits for
/// this process's word gets it then.
const TURN_MAX: Duration = Duration::from_millis(500);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Between failed attempts.
const RETRY: Duration = Duration::from_millis(200);
/// Entries of one statement.
const CHUNK: usize = 1_000;
/// For how long a process that stops tries to hand over.
const STOP_MAX: Duration = Duration::from_secs(3);

/// A step of the hand-over, done.
enum Step {
    Looked(Result<Ended, StoreError>),
    Left(Result<(), StoreError>),
}

/// What was served under `fence`, on its way to its next owner.
#[derive(Clone, Copy)]
struct Parting {
    fence: Fence,
    since: Instant,
    /// How long the turn that ended the fence is waited for.
    patience: Duration,
}

impl Shard {
    /// Sends everyone to the owner until the shard is this process's own. False: told to stop.
    pub(super) async fn stand_by(&mut self) -> bool {
        self.gauges.open.set(0);
        let (membership, stop) = (self.parts.membership.clone(), self.parts.stop.clone());
        let mut members = membership.subscribe();
        let parting = self.served.map(|fence| Parting { fence, since: Instant::now(), patience: TURN_MAX });
        let mut step = parting.map(|parting| self.look(parting.fence, Duration::ZERO));
        loop {
            match membership.place(self.parts.id) {
                Place::Mine => return true,
                Place::Other(endpoint) => {
                    for ask in self.ready.drain(..) {
                        ask.answer(Verdict::Refused(Refusal::OtherInstance { endpoint: endpoint.to_string() }));
                    }
                }
                Place::Nobody => self.refuse(TryAgain::ShardClosed),
            }
            tokio::select! {
                () = stop.cancelled() => return false,
                Ok(()) = members.changed() => {}
                Some(ask) = self.inbox.recv() => self.ready.push_back(ask),
                done = async { step.as_mut().expect("guarded").await }, if step.is_some() => {
                    step = parting.and_then(|parting| self.part(parting, done));
                }
            }
        }
    }

    /// The last word of a process that stops.
    pub(super) async fn leave_behind(&mut self) {
        let Some(fence) = self.served.filter(|_| self.parts.membership.is_on()) else { return };
        // With nothing in memory there is nothing a turn would have to drain first.
        let patience = if self.tail_is_empty() { Duration::ZERO } else { TURN_MAX };
        let parting = Parting { fence, since: Instant::now(), patience };
        let until = parting.since + STOP_MAX;
        let mut step = Some(self.look(fence, Duration::ZERO));
        while let Some(under_way) = step {
            match tokio::time::timeout_at(until, under_way).await {
                Ok(done) => step = self.part(parting, done),
                Err(_) => {
                    tracing::warn!(shard = %self.parts.id, "stopped without a word to Postgres");
                    return;
                }
            }
        }
    }

    fn look(&self, fence: Fence, after: Duration) -> BoxFuture<'static, Step> {
        let postgres = self.parts.postgres.clone();
        async move {
            tokio::time::sleep(after).await;
            Step::Looked(postgres.ended(fence).await)
        }
        .boxed()
    }

    /// What comes after a step; nothing once all is handed over.
    fn part(&mut self, parting: Parting, done: Step) -> Option<BoxFuture<'static, Step>> {
        let Parting { fence, since, patience } = parting;
        let ended = match done {
            Step::Looked(Ok(ended)) => ended,
            Step::Looked(Err(error)) | Step::Left(Err(error)) => {
                tracing::debug!(shard = %self.parts.id, error = &error as &dyn std::error::Error, "nothing handed over yet");
                return Some(self.look(fence, RETRY));
            }
            Step::Left(Ok(())) => {
                self.forget();
                return None;
            }
        };
        if let (Some(last), Some((_, tail))) = (ended.watermark, self.tail.as_mut().filter(|(of, _)| *of == fence)) {
            tail.drained_to(last);
        }
        self.answer_drained(ended.watermark);
        self.count_undrained();
        let turning = !ended.finished && since.elapsed() < patience;
        let visited = self.parts.standing.has_visitors() && since.elapsed() < READING_LEASE;
        if turning || visited {
            return Some(self.look(fence, LOOK_AGAIN));
        }
        Some(self.leave(fence))
    }

    /// What the ledger lacks, and this process's word that it has stopped.
    fn leave(&self, fence: Fence) -> BoxFuture<'static, Step> {
        let tail = self.tail.as_ref().map(|(_, tail)| tail.entries_held()).unwrap_or_default();
        let unanswered = self.unanswered.iter().filter(|(of, _)| *of == fence);
        let entries: Vec<(LedgerEntry, bool)> = tail
            .into_iter()
            .chain(self.orphans.iter().cloned())
            .map(|entry| (entry, true))
            .chain(unanswered.map(|(_, entry)| (entry.clone(), false)))
            .collect();
        if !entries.is_empty() {
            tracing::warn!(shard = %self.parts.id, %fence, entries = entries.len(), "handing over late entries");
        }
        let postgres = self.parts.postgres.clone();
        async move {
            let (mut rest, mut result) = (&entries[..], Ok(()));
            while result.is_ok() {
                let (chunk, after) = rest.split_at(rest.len().min(CHUNK));
                result = postgres.hand_over(fence, chunk, after.is_empty()).await;
                if after.is_empty() {
                    break;
                }
                rest = after;
            }
            Step::Left(result)
        }
        .boxed()
    }

    fn forget(&mut self) {
        self.tail = None;
        self.orphans.clear();
        self.unanswered.clear();
        // Committed, and not in the ledger when it was looked at: unknown.
        self.acks.clear();
        self.served = None;
        self.count_undrained();
    }
}
