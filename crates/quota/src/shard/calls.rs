//! Calls to the store: a batch built, decided, sent, and what its answer means.

use super::batch::{Decided, Deciding};
use super::drains::PendingAck;
use super::replicas::Unreplicated;
use super::serve::Serving;
use super::turn::OpenStore;
use super::{Ask, Shard};
use crate::clock::boot_clock;
use crate::entry::LedgerEntry;
use crate::error::StoreError;
use crate::metrics::UNKNOWN_TIER;
use crate::moments::{self, Batch, Links};
use crate::outcome::Outcome;
use crate::record::{Head, Record};
use crate::store::redis::{Committed, Group};
use crate::tail::{Months, Tail, TailBatch};
use crate::tiers::{TierSet, TierSlot};
use cellar_metrics::TraceLabel;
use cellar_model::{Ack, BodyHash, Fence, Seq, Shed, TierName, TryAgain, UserId, Verdict};
use futures::FutureExt;
use futures::future::BoxFuture;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Loads in flight, and look-ups, each of a batch's users: above it checks wait in line, where their number
/// is bounded.
pub(super) const LOADS_MAX: usize = 4;

/// One user's answers, whether anything was charged, and how durable his tier wants that to be.
struct Answered {
    charged: bool,
    ack: Ack,
    asks: Vec<(Ask, Verdict)>,
}

/// How the shard stands with Postgres.
#[derive(Clone, Copy)]
pub(super) struct Reach {
    /// Whether anything may be acknowledged.
    autonomous: bool,
    /// Whether the tail is longer than it may be.
    over: bool,
}

/// A backlog, and which tiers' checks it is too long for.
struct Shedding {
    backlog: usize,
    queue_max: usize,
    tiers: Arc<TierSet>,
}

impl Shedding {
    /// The tier, as a metric's label, if its checks are refused. Of a user who is not in memory (`None`)
    /// nobody knows it: he costs a load besides, and counts as `normal`.
    fn sheds(&self, tier: Option<&TierName>) -> Option<String> {
        let shed = tier.and_then(|tier| self.tiers.get(tier)).map_or(Shed::Normal, |tier| tier.document.shed);
        let name = || tier.map_or(UNKNOWN_TIER, TierName::as_str).to_owned();
        (self.backlog > shed.backlog_max(self.queue_max)).then(name)
    }
}

/// A call on its way to the store.
pub(super) struct InFlight {
    decided: Vec<Decided>,
    sent: Instant,
    /// When it was sent: Postgres' answer confirms the fence as of then.
    asked: Duration,
    /// Sampled traces that have checks in it.
    links: Option<Links>,
}

pub(super) struct CallDone {
    number: u64,
    /// What was sent of each user.
    groups: Vec<Group>,
    result: Result<Committed, StoreError>,
    months: Option<Months>,
}

impl Shard {
    /// Builds batches of what is ready and sends them, as long as calls may leave.
    pub(super) fn start_calls(&mut self, serving: &mut Serving) {
        let calls_max = match serving.open.store {
            OpenStore::Redis { .. } => self.parts.config.calls_max,
            // Each moves the watermark from where the one before left it.
            OpenStore::Postgres => 1,
        };
        while serving.calls.len() < calls_max && Self::may_start(serving) && !self.ready.is_empty() {
            self.start_call(serving);
        }
    }

    /// While Postgres is silent its look-ups hang, and hold up nobody but those who need one.
    fn may_start(serving: &Serving) -> bool {
        let fetching =
            serving.loads.len() >= LOADS_MAX || (serving.look_ups.len() >= LOADS_MAX && serving.postgres_answers);
        !fetching && !serving.returning
    }

    fn start_call(&mut self, serving: &mut Serving) {
        let full = self.tail.as_ref().is_some_and(|(_, tail)| tail.entries() >= self.parts.config.tail_max);
        let autonomous = self.is_autonomous(serving);
        if full || !autonomous {
            self.allowances.postgres_answers(autonomous);
            self.refuse(TryAgain::StoreDown);
            return;
        }
        let groups = self.group(serving);
        if groups.is_empty() {
            return;
        }
        let (decided, groups) = self.decide(serving, groups);
        self.parts.metrics.batch_checks.observe(decided.iter().map(|d| d.asks.len()).sum::<usize>() as f64);
        let asks = decided.iter().flat_map(|decided| &decided.asks).map(|(ask, _)| (&ask.check, &ask.moments));
        let links = self.parts.config.tracer.is_on().then(|| moments::links(asks)).flatten();
        let number = serving.next_call;
        serving.next_call += 1;
        let call = match &serving.open.store {
            OpenStore::Redis { redis, key, valid_from } => {
                let (mut redis, key, valid_from) = (redis.clone(), key.clone(), *valid_from);
                async move {
                    let result = redis.commit(&key, valid_from, &groups).await;
                    CallDone { number, groups, result, months: None }
                }
                .boxed()
            }
            OpenStore::Postgres => {
                let entries: Vec<LedgerEntry> = decided.iter().filter_map(|d| d.entry.clone()).collect();
                self.commit_to_postgres(serving.open.fence, number, entries, groups)
            }
        };
        serving.calls.push(call);
        serving.in_flight.insert(number, InFlight { decided, sent: Instant::now(), asked: boot_clock(), links });
    }

    /// One transaction for the batch: the same conditional update as a drain's, then all of it.
    fn commit_to_postgres(
        &mut self,
        fence: Fence,
        number: u64,
        entries: Vec<LedgerEntry>,
        groups: Vec<Group>,
    ) -> BoxFuture<'static, CallDone> {
        let postgres = self.parts.postgres.clone();
        let after = self.tail.as_ref().and_then(|(_, tail)| tail.drained());
        let mut months = std::mem::take(&mut self.months);
        async move {
            if entries.is_empty() {
                let result = match postgres.confirm_fence(fence).await {
                    Ok(standing) if standing.mine => Ok(Committed { seq: None, replayed: Vec::new() }),
                    Ok(_) => Err(StoreError::Fenced),
                    Err(error) => Err(error),
                };
                return CallDone { number, groups, result, months: Some(months) };
            }
            let seq = after.map_or(Seq(0), Seq::next);
            let heads = groups.iter().filter_map(|group| Some((&group.user, &group.write.as_ref()?.0)));
            let records =
                heads.filter_map(|(user, bytes)| Some((user.clone(), Head::from_bytes(bytes)?, bytes.clone())));
            let batch = Arc::new(TailBatch { seq, entries, records: records.collect() });
            let result = postgres.drain(fence, fence, (after, Some(seq)), &[batch], &mut months).await;
            let result = result.map(|()| Committed { seq: Some(seq), replayed: Vec::new() });
            CallDone { number, groups, result, months: Some(months) }
        }
        .boxed()
    }

    /// Takes a batch from what is ready: by user, with records at hand. Users whose record or keys
    /// must be fetched first are sent for.
    fn group(&mut self, serving: &mut Serving) -> Vec<(UserId, Record, Vec<Ask>)> {
        let now = Instant::now();
        let must_look_up = serving.open.asks_ledger(now);
        let shedding = self.shedding();
        let mut places: HashMap<UserId, usize> = HashMap::new();
        let mut groups: Vec<(UserId, Record, Vec<Ask>)> = Vec::new();
        let (mut missing, mut unknown, mut keys) = (Vec::new(), Vec::new(), Vec::new());
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
            if let Some(shedding) = &shedding
                && let Some(tier) = shedding.sheds(record.as_ref().map(|record| &record.body.tier))
            {
                self.parts.metrics.shed.get([&tier]).inc();
                self.ready.extend(serving.users.release(user, record));
                ask.answer(Verdict::try_again(TryAgain::Overloaded));
                continue;
            }
            match record {
                Some(record) if !look_up => {
                    places.insert(user.clone(), groups.len());
                    groups.push((user.clone(), record, vec![ask]));
                }
                record => {
                    match ask.check.key.filter(|_| look_up) {
                        Some(key) => {
                            keys.push(key.id);
                            unknown.push((user.clone(), record));
                        }
                        None => missing.push(user.clone()),
                    }
                    if let Some(ask) = serving.users.wait(ask) {
                        ask.answer(Verdict::try_again(TryAgain::Overloaded));
                    }
                }
            }
        }
        if !missing.is_empty() {
            self.start_load(serving, missing);
        }
        if !unknown.is_empty() {
            self.start_look_up(serving, unknown, keys);
        }
        groups
    }

    /// Whose checks are refused at once; none of them, as long as the backlog is small.
    fn shedding(&self) -> Option<Shedding> {
        let (backlog, queue_max) = (self.inbox.len() + self.ready.len(), self.parts.config.queue_max);
        let any = backlog > Shed::Early.backlog_max(queue_max);
        any.then(|| Shedding { backlog, queue_max, tiers: self.parts.tiers.borrow().clone() })
    }

    fn decide(&mut self, serving: &Serving, groups: Vec<(UserId, Record, Vec<Ask>)>) -> (Vec<Decided>, Vec<Group>) {
        let tiers = self.parts.tiers.borrow().clone();
        let mut deciding = Deciding {
            stores: &mut self.stores,
            compiled: &mut self.compiled,
            tiers: &tiers,
            clock: &self.parts.config.clock,
            fence: serving.open.fence,
            degraded: serving.open.degraded(),
            fault_seen: &mut TierSlot::report,
        };
        // One reading of the clock a user: where the one before ended.
        let traced = self.parts.config.tracer.is_on();
        let mut began = std::time::Instant::now();
        let decide = |(user, record, asks): (UserId, Record, Vec<Ask>)| {
            let mut decided = deciding.decide(user, record, asks);
            if traced {
                let (ended, of_user) = (std::time::Instant::now(), decided.0.asks.len());
                decided.0.asks.iter_mut().for_each(|(ask, _)| ask.moments.decided(of_user, began, ended));
                began = ended;
            }
            decided
        };
        groups.into_iter().map(decide).unzip()
    }

    /// What a call's answer means. `Some`: a turn is due.
    pub(super) fn finish_call(&mut self, serving: &mut Serving, done: CallDone) -> Option<&'static str> {
        let mut call = serving.in_flight.remove(&done.number)?;
        if self.parts.config.tracer.is_on() {
            self.tell_moments(&mut call, serving.open.on_postgres());
        }
        if let Some(months) = done.months {
            self.months = months;
        }
        // One of the traces that it is part of.
        let trace = call.links.as_ref().and_then(|links| links.first()).map(|(trace, _)| TraceLabel(trace.0));
        self.parts.metrics.commit_seconds.observe(call.sent.elapsed().as_secs_f64(), trace, None);
        let on_postgres = serving.open.on_postgres();
        let error = match done.result {
            Ok(committed) => {
                if on_postgres || self.is_autonomous(serving) {
                    self.parts.standing.confirm(serving.open.fence, call.asked);
                }
                if on_postgres {
                    serving.open.confirmed = call.asked;
                    if let (Some(seq), Some((_, tail))) = (committed.seq, &mut self.tail) {
                        tail.drained_to(seq);
                    }
                }
                self.committed(serving, call.decided.into_iter().zip(done.groups), committed);
                return None;
            }
            Err(error) => error,
        };
        self.parts.metrics.noticed.store_failed(&error);
        let (reason, cause) = match &error {
            StoreError::OutOfMemory => (TryAgain::OutOfMemory, None),
            StoreError::Fenced => (TryAgain::ShardClosed, Some("fenced")),
            // Postgres's own word that nothing was written: nothing to clear up.
            StoreError::Refused { .. } if on_postgres => (TryAgain::StoreDown, None),
            StoreError::Refused { .. } => (TryAgain::StoreDown, Some("redis")),
            StoreError::Unknown { .. } | StoreError::Unreadable { .. } => (TryAgain::Unknown, Some("unanswered")),
        };
        if matches!(error, StoreError::Fenced) {
            self.put_back(serving, call.decided);
            return cause;
        }
        tracing::warn!(shard = %self.parts.id, error = &error as &dyn std::error::Error, "commit failed");
        let unknown = matches!(error, StoreError::Unknown { .. } | StoreError::Unreadable { .. });
        for decided in call.decided {
            if unknown && !on_postgres {
                self.unanswered.extend(decided.entry.map(|entry| (serving.open.fence, entry)));
            }
            // The record in memory has changed and its commit has not happened, or nobody knows:
            // it goes, and is read again.
            self.ready.extend(serving.users.release(&decided.user, None));
            for (ask, _) in decided.asks {
                ask.answer(Verdict::try_again(reason));
            }
        }
        cause
    }

    /// Each check of a call when it was with the store, and with how many others.
    fn tell_moments(&self, call: &mut InFlight, on_postgres: bool) {
        let checks = call.decided.iter().map(|decided| decided.asks.len()).sum::<usize>();
        let narrow = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
        let (users, checks) = (narrow(call.decided.len()), narrow(checks));
        let batch = Batch { shard: self.parts.id.0, users, checks, on_postgres };
        let (sent, now) = (call.sent.into_std(), std::time::Instant::now());
        for (ask, _) in call.decided.iter_mut().flat_map(|decided| &mut decided.asks) {
            let links = call.links.as_ref().filter(|_| ask.moments.is_sampled());
            ask.moments.committed(batch, links, sent, now);
        }
    }

    /// Fenced: certainly nothing of it was written. It goes back to the front, to be decided anew by
    /// whoever is the writer; deadlines hold.
    fn put_back(&mut self, serving: &mut Serving, decided: Vec<Decided>) {
        let mut back = Vec::new();
        for decided in decided {
            let waiting = serving.users.release(&decided.user, None);
            back.extend(decided.asks.into_iter().map(|(ask, _)| ask).chain(waiting));
        }
        back.into_iter().rev().for_each(|ask| self.ready.push_front(ask));
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
            if decided.allows {
                let Head { epoch, .. } = decided.record.head;
                self.allowances.has_served(&decided.user, epoch, &decided.record.body);
            }
            // A record that could not be written is not what stores hold: it is read again.
            let record = (!decided.unwritten).then_some(decided.record);
            let waiting = serving.users.release(&decided.user, record);
            self.ready.extend(waiting);
            answers.push(Answered { charged, ack: decided.ack, asks: decided.asks });
        }
        let seq = committed.seq.unwrap_or_default();
        if !entries.is_empty() && !serving.open.on_postgres() {
            self.push_tail(serving, TailBatch { seq, entries, records });
        }
        self.answer(serving, seq, answers);
    }

    /// Answers what is committed; what its tier wants at a replica first waits for that.
    fn answer(&mut self, serving: &Serving, seq: Seq, answers: Vec<Answered>) {
        let on_redis = !serving.open.on_postgres();
        let reach = self.reach(serving);
        for Answered { charged, ack, asks } in answers {
            for (ask, verdict) in asks {
                let admitted = charged && matches!(verdict, Verdict::Admitted { .. });
                if admitted && ack == Ack::Replica && on_redis {
                    self.replicas.wait(Unreplicated { seq, ask, verdict });
                } else {
                    self.answer_one(reach, seq, admitted.then_some(ack), ask, verdict);
                }
            }
        }
    }

    /// What every answer of a moment depends on.
    pub(super) fn reach(&self, serving: &Serving) -> Reach {
        Reach { autonomous: self.is_autonomous(serving), over: self.is_over(serving) }
    }

    /// Answers, unless the answer is an admission (of a tier with this `ack`) that its tier, or a tail over
    /// its bounds, wants in Postgres first: that waits for the drain.
    pub(super) fn answer_one(&mut self, reach: Reach, seq: Seq, ack: Option<Ack>, ask: Ask, verdict: Verdict) {
        let by_tier = ack == Some(Ack::Postgres);
        if !reach.autonomous {
            ask.answer(Verdict::try_again(TryAgain::Unknown));
        } else if ack.is_some() && (by_tier || reach.over) && seq_waits(&self.tail, seq) {
            self.acks.push_back(PendingAck { seq, by_tier, ask, verdict });
        } else {
            ask.answer(verdict);
        }
    }

    /// Calls that will not be answered any more, for the turn that is due.
    pub(super) fn abandon_calls(&mut self, serving: &mut Serving) {
        let on_redis = !serving.open.on_postgres();
        self.replicas.abandon();
        for (_, call) in serving.in_flight.drain() {
            for decided in call.decided {
                if on_redis {
                    self.unanswered.extend(decided.entry.map(|entry| (serving.open.fence, entry)));
                }
                for (ask, _) in decided.asks {
                    ask.answer(Verdict::try_again(TryAgain::Unknown));
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
        let reach = self.reach(serving);
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
                    match (decided.ack, self.tail.as_ref().and_then(|(_, tail)| tail.last())) {
                        (Ack::Replica, seq) => {
                            let seq = seq.unwrap_or_default();
                            self.replicas.wait(Unreplicated { seq, ask, verdict });
                        }
                        // Drained: there is nothing to wait for.
                        (ack, seq) => {
                            self.answer_one(reach, seq.unwrap_or_default(), seq.and(Some(ack)), ask, verdict);
                        }
                    }
                }
                _ => waiting.push_front(ask),
            }
        }
        self.ready.extend(waiting);
    }
}

/// Whether Postgres does not hold `seq` yet.
fn seq_waits(tail: &Option<(Fence, Tail)>, seq: Seq) -> bool {
    tail.as_ref().is_some_and(|(_, tail)| tail.drained() < Some(seq))
}

/// The first answer again, or the refusal of another body under its key.
pub(crate) fn replay(outcome: &Outcome, body: BodyHash) -> Verdict {
    if outcome.body != body {
        return Verdict::Refused(crate::closing::mismatch(outcome, body));
    }
    Verdict::Admitted { answer: outcome.answer.clone(), replayed: true, degraded: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiers::Tier;
    use cellar_model::{Revision, TierDocument};

    #[test]
    fn the_longer_the_backlog_the_more_tiers_are_shed() {
        let tier = |name: &str| {
            let text = format!(
                "name = \"{name}\"\nshed = \"{name}\"\n[[policy]]\nslot = \"s\"\nuse = \"p@1\"\nunit = \"tokens\""
            );
            let document = TierDocument::from_toml(&text).unwrap();
            Arc::new(Tier::new(Revision(1), document, Vec::new()))
        };
        let tiers = Arc::new(TierSet::new(Revision(1), ["early", "normal", "late"].map(tier)));
        let shed = |backlog: usize| {
            let shedding = Shedding { backlog, queue_max: 400, tiers: tiers.clone() };
            let named = |name: &str| shedding.sheds(Some(&TierName::new(name).unwrap())).is_some();
            [named("early"), named("normal"), named("late"), shedding.sheds(None).is_some()]
        };
        assert_eq!(shed(100), [false; 4]);
        assert_eq!(shed(101), [true, false, false, false]);
        assert_eq!(shed(201), [true, true, false, true]);
        assert_eq!(shed(400), [true, true, false, true], "a full queue takes no more by itself");
    }
}
