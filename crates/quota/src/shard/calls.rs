//! Calls to the store: a batch built, decided, sent, and what its answer means.

use super::batch::{Decided, Deciding};
use super::drains::PendingAck;
use super::serve::Serving;
use super::{Ask, Shard};
use crate::error::StoreError;
use crate::metrics::FaultLabels;
use crate::outcome::Outcome;
use crate::record::Record;
use crate::store::Fsync;
use crate::store::redis::{Committed, Group};
use crate::tail::TailBatch;
use cellar_model::{Ack, BodyHash, Seq, TryAgain, UserId, Verdict};
use std::collections::HashMap;
use tokio::time::Instant;

/// Loads in flight, each of a batch's users: above it checks wait in line, where their number is bounded.
const LOADS_MAX: usize = 4;

/// One user's answers, whether anything was charged, and how durable his tier wants that to be.
struct Answered {
    charged: bool,
    ack: Ack,
    asks: Vec<(Ask, Verdict)>,
}

pub(super) struct CallDone {
    decided: Vec<Decided>,
    /// What was sent of each.
    groups: Vec<Group>,
    result: Result<Committed, StoreError>,
    sent: Instant,
}

impl Shard {
    /// Builds batches of what is ready and sends them, as long as calls may leave.
    pub(super) fn start_calls(&mut self, serving: &mut Serving) {
        while serving.calls.len() < self.parts.config.calls_max
            && serving.loads.len() < LOADS_MAX
            && !self.ready.is_empty()
        {
            self.start_call(serving);
        }
    }

    fn start_call(&mut self, serving: &mut Serving) {
        let full = self.tail.as_ref().is_some_and(|(_, tail)| tail.entries() >= self.parts.config.tail_max);
        if full || !self.is_autonomous(serving) {
            for ask in self.ready.drain(..) {
                ask.answer(Verdict::try_again(TryAgain::StoreDown));
            }
            return;
        }
        let groups = self.group(serving);
        if groups.is_empty() {
            return;
        }
        let (decided, groups) = self.decide(serving, groups);
        self.parts.metrics.batch_checks.observe(decided.iter().map(|d| d.asks.len()).sum::<usize>() as f64);
        let (mut redis, key, valid_from) =
            (serving.open.redis.clone(), serving.open.key.clone(), serving.open.valid_from);
        serving.calls.push(Box::pin(async move {
            let sent = Instant::now();
            let result = redis.commit(&key, valid_from, &groups).await;
            CallDone { decided, groups, result, sent }
        }));
    }

    /// Takes a batch from what is ready: by user, with records at hand. Users whose record or keys
    /// must be fetched first are sent for.
    fn group(&mut self, serving: &mut Serving) -> Vec<(UserId, Record, Vec<Ask>)> {
        let now = Instant::now();
        let must_look_up = serving.open.keys_from.is_some_and(|until| now < until);
        let mut places: HashMap<UserId, usize> = HashMap::new();
        let mut groups: Vec<(UserId, Record, Vec<Ask>)> = Vec::new();
        let (mut missing, mut keys) = (Vec::new(), Vec::new());
        for _ in 0..self.ready.len().min(self.parts.config.batch_max) {
            let Some(ask) = self.ready.pop_front() else { break };
            if ask.deadline <= now {
                ask.answer(Verdict::try_again(TryAgain::Deadline));
                continue;
            }
            let user = &ask.check.user;
            let user_batch_max = self.parts.config.user_batch_max;
            if let Some((_, _, asks)) = places.get(user).and_then(|place| groups.get_mut(*place)) {
                // A key twice in one batch: the second waits and meets the first one's outcome.
                let doubled = ask.check.key.is_some()
                    && asks.iter().any(|other| other.check.key.map(|k| k.id) == ask.check.key.map(|k| k.id));
                let looked_up = ask.looked_up || ask.check.key.is_none() || !must_look_up;
                if asks.len() < user_batch_max && !doubled && looked_up {
                    asks.push(ask);
                    continue;
                }
            }
            if serving.users.is_busy(user) {
                if let Some(ask) = serving.users.wait(ask) {
                    ask.answer(Verdict::try_again(TryAgain::Overloaded));
                }
                continue;
            }
            let look_up = must_look_up && !ask.looked_up && ask.check.key.is_some();
            let record = serving.users.take(user);
            match record {
                Some(record) if !look_up => {
                    places.insert(user.clone(), groups.len());
                    groups.push((user.clone(), record, vec![ask]));
                }
                record => {
                    keys.extend(ask.check.key.filter(|_| look_up).map(|key| key.id));
                    missing.push((user.clone(), record));
                    if let Some(ask) = serving.users.wait(ask) {
                        ask.answer(Verdict::try_again(TryAgain::Overloaded));
                    }
                }
            }
        }
        if !missing.is_empty() {
            self.start_load(serving, missing, keys);
        }
        groups
    }

    fn decide(&mut self, serving: &Serving, groups: Vec<(UserId, Record, Vec<Ask>)>) -> (Vec<Decided>, Vec<Group>) {
        let tiers = self.parts.tiers.borrow().clone();
        let faults = self.parts.metrics.faults.clone();
        let mut fault_seen = |slot: &crate::tiers::TierSlot, fault: &cellar_policy_host::Fault| {
            let labels = FaultLabels { policy: slot.policy.description().name.to_string(), kind: fault.kind() };
            faults.get_or_create(&labels).inc();
            tracing::warn!(policy = %labels.policy, slot = %slot.slot, kind = labels.kind, "policy fault");
        };
        let mut deciding = Deciding {
            stores: &mut self.stores,
            compiled: &mut self.compiled,
            tiers: &tiers,
            clock: &self.parts.config.clock,
            fence: serving.open.key.fence,
            unsafe_ack: serving.open.redis.fsync == Fsync::Everysec,
            fault_seen: &mut fault_seen,
        };
        groups.into_iter().map(|(user, record, asks)| deciding.decide(user, record, asks)).unzip()
    }

    /// What a call's answer means. `Some`: a turn is due.
    pub(super) fn finish_call(&mut self, serving: &mut Serving, done: CallDone) -> Option<&'static str> {
        self.parts.metrics.commit_seconds.observe(done.sent.elapsed().as_secs_f64());
        let error = match done.result {
            Ok(committed) => {
                self.committed(serving, done.decided.into_iter().zip(done.groups), committed);
                return None;
            }
            Err(error) => error,
        };
        let (reason, cause) = match &error {
            StoreError::OutOfMemory => (TryAgain::OutOfMemory, None),
            StoreError::Fenced => (TryAgain::ShardClosed, Some("fenced")),
            StoreError::Refused { .. } => (TryAgain::StoreDown, Some("redis")),
            StoreError::Unknown { .. } | StoreError::Unreadable { .. } => (TryAgain::Unknown, Some("unanswered")),
        };
        tracing::warn!(shard = %self.parts.id, error = &error as &dyn std::error::Error, "commit failed");
        for decided in done.decided {
            // The record in memory has changed and its commit has not happened, or nobody knows:
            // it goes, and is read again.
            self.ready.extend(serving.users.release(&decided.user, None));
            for (ask, _) in decided.asks {
                ask.answer(Verdict::try_again(reason));
            }
        }
        cause
    }

    fn committed(&mut self, serving: &mut Serving, sent: impl Iterator<Item = (Decided, Group)>, committed: Committed) {
        let mut replayed: HashMap<usize, Vec<Option<Vec<u8>>>> = committed.replayed.into_iter().collect();
        let (mut entries, mut records, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        for (n, (decided, group)) in sent.enumerate() {
            if let Some(known) = replayed.remove(&n) {
                self.replayed(serving, decided, known);
                continue;
            }
            let charged = decided.entry.is_some();
            if let (Some(entry), Some((record, _))) = (decided.entry, group.write) {
                entries.push(entry);
                records.push((decided.user.clone(), decided.record.head, record));
            }
            // A record that could not be written is not what stores hold: it is read again.
            let record = (!decided.unwritten).then_some(decided.record);
            let waiting = serving.users.release(&decided.user, record);
            self.ready.extend(waiting);
            answers.push(Answered { charged, ack: decided.ack, asks: decided.asks });
        }
        let seq = committed.seq.unwrap_or_default();
        if !entries.is_empty() {
            self.push_tail(serving, TailBatch { seq, entries, records });
        }
        self.answer(serving, seq, answers);
    }

    /// Answers what is committed; what its tier, or a tail over its bounds, wants in Postgres first
    /// waits for the drain.
    fn answer(&mut self, serving: &Serving, seq: Seq, answers: Vec<Answered>) {
        let autonomous = self.is_autonomous(serving);
        let over = self.is_over(serving);
        for Answered { charged, ack, asks } in answers {
            for (ask, verdict) in asks {
                let admitted = charged && matches!(verdict, Verdict::Admitted { .. });
                if !autonomous {
                    ask.answer(Verdict::try_again(TryAgain::Unknown));
                } else if admitted && (ack == Ack::Postgres || over) {
                    self.acks.push_back(PendingAck { seq, by_tier: ack == Ack::Postgres, ask, verdict });
                } else {
                    ask.answer(verdict);
                }
            }
        }
    }

    /// The tail is longer than it may be while Postgres answers: it has to catch up.
    fn is_over(&self, serving: &Serving) -> bool {
        serving.postgres_answers && self.tail_over_bounds()
    }

    /// Nothing of this user's group was written, for some of its keys are known. Those get their
    /// first answer, the rest is decided again on the record read anew.
    fn replayed(&mut self, serving: &mut Serving, decided: Decided, known: Vec<Option<Vec<u8>>>) {
        let mut waiting = serving.users.release(&decided.user, None);
        let known: HashMap<usize, Vec<u8>> =
            decided.keyed.into_iter().zip(known).filter_map(|(n, bytes)| Some((n, bytes?))).collect();
        for (n, (ask, _)) in decided.asks.into_iter().enumerate().rev() {
            match (known.get(&n), ask.check.key) {
                (Some(bytes), Some(key)) => {
                    self.parts.metrics.replays.inc();
                    let verdict = match Outcome::decode(bytes) {
                        Some(outcome) => replay(&outcome, key.body),
                        None => Verdict::try_again(TryAgain::Unknown),
                    };
                    // As durable as the first answer had to be. His earlier calls are over, so what the
                    // key was charged by is in the tail, or drained.
                    match self.tail.as_ref().and_then(|(_, tail)| tail.last()) {
                        Some(seq) if decided.ack == Ack::Postgres || self.is_over(serving) => {
                            let by_tier = decided.ack == Ack::Postgres;
                            self.acks.push_back(PendingAck { seq, by_tier, ask, verdict });
                        }
                        _ => ask.answer(verdict),
                    }
                }
                _ => waiting.push_front(ask),
            }
        }
        self.ready.extend(waiting);
    }
}

/// The first answer again, or the refusal of another body under its key.
pub(crate) fn replay(outcome: &Outcome, body: BodyHash) -> Verdict {
    if outcome.body != body {
        return Verdict::Refused(crate::closing::mismatch(outcome, body));
    }
    Verdict::Admitted { answer: outcome.answer.clone(), replayed: true, degraded: None }
}
