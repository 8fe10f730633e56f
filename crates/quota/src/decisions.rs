//! The last decisions of this process, so that a request can be explained.
//!
//! A ring of a fixed size: a decision writes into a place of it and allocates nothing. What a policy would have said
//! before is not asked when the check is decided but when somebody wants to know: policies are pure, so the state of
//! then says it still.

use crate::record::RecordBody;
use crate::tiers::{Tier, TierSlot};
use cellar_model::wire::{Explained, ExplainedDecision, ExplainedPolicy, ProcessExplanations};
use cellar_model::{
    Answer, ChargeId, Check, Degraded, Digest, Fence, Micros, Operation, POLICIES_MAX, Refusal, RequestKey, Revision,
    SlotName, TierName, TryAgain, Unit, UserTail, Verdict, Version,
};
use cellar_policy_host::{self as host, Host, Policy, Request, Stores};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

/// Decisions that are kept: some 7 MB, and at the load a cell is made for a third of a second; of a quiet cell, hours.
const KEPT_MAX: usize = 10_000;
/// Slots that are kept: those of as many decisions, of whichever tiers, unless many are decided again.
const SLOTS_MAX: usize = KEPT_MAX * POLICIES_MAX;
/// Of one request: a batch has a thousand, and nobody reads more of them.
const SHOWN_MAX: usize = 100;
/// A state up to this length is kept with the decision: that of every policy that ships, but for open-reservations.
const STATE_BYTES_MAX: usize = 32;

/// Cheap to clone; all clones are the same.
#[derive(Clone)]
pub(crate) struct Decisions(Arc<Mutex<Ring>>);

/// Decisions and their slots stand apart: most tiers have one or two, and a check writes no more than it has.
struct Ring {
    kept: Places<Kept>,
    slots: Places<SlotKept>,
}

/// The last so many of what was put into it.
struct Places<T> {
    held: Vec<T>,
    max: usize,
    /// How many there have been: the next one's number.
    next: u64,
}

impl<T> Places<T> {
    fn new(max: usize) -> Self {
        // Memory is taken as it is written to.
        Self { held: Vec::with_capacity(max), max, next: 0 }
    }

    fn put(&mut self, one: T) -> u64 {
        let number = self.next;
        self.next += 1;
        match self.held.get_mut((number % self.max as u64) as usize) {
            Some(held) => *held = one,
            None => self.held.push(one),
        }
        number
    }

    /// None: another one has taken its place, or it has not been yet.
    fn at(&self, number: u64) -> Option<&T> {
        self.held.get(self.place(number)?)
    }

    fn at_mut(&mut self, number: u64) -> Option<&mut T> {
        let place = self.place(number)?;
        self.held.get_mut(place)
    }

    fn place(&self, number: u64) -> Option<usize> {
        let is_held = (1..=self.max as u64).contains(&self.next.wrapping_sub(number));
        is_held.then_some((number % self.max as u64) as usize)
    }

    /// The oldest first.
    fn in_order(&self) -> impl Iterator<Item = &T> {
        (self.next - self.held.len() as u64..self.next).filter_map(|number| self.at(number))
    }
}

/// Where a decision stands, as long as no other has taken its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(u64);

struct Kept {
    request: RequestKey,
    user: UserTail,
    operation: &'static str,
    shard: u16,
    asked: Instant,
    queued_us: u32,
    /// Once it is answered: how long it was decided, and was with a store.
    took_us: Option<[u32; 2]>,
    said: Said,
    decided: Option<Decided>,
}

/// A verdict without what it carries.
#[derive(Clone, Copy)]
struct Said {
    verdict: &'static str,
    why: &'static str,
    degraded: Option<Degraded>,
    charge: Option<ChargeId>,
}

#[derive(Clone)]
struct Decided {
    told: Arc<Told>,
    at: Micros,
    version: Version,
    version_after: Version,
    fence: Fence,
    /// The number of its first slot. **Invariant:** one slot for each of `told` stands from there on, in the same order.
    slots: u64,
}

/// What a check is about to be decided on.
pub(crate) struct Basis<'b> {
    pub(crate) tier: &'b Tier,
    pub(crate) body: &'b RecordBody,
    pub(crate) version: Version,
    pub(crate) fence: Fence,
}

/// A slot before its policy was asked, and what it said.
#[derive(Clone, Copy, Default)]
struct SlotKept {
    state: [u8; STATE_BYTES_MAX],
    cost: u64,
    limit: u64,
    remaining: u64,
    /// None: longer than is kept.
    state_bytes: Option<u8>,
    /// Written by this version of the policy, and asked under the tier's own settings: it can be asked again.
    as_it_is: bool,
    /// The policy has said limit and remaining.
    answered: bool,
    bound: bool,
}

/// What a tier was when it decided. It keeps no policy loaded: once that has gone, it is not asked again.
pub(crate) struct Told {
    tier: TierName,
    revision: Revision,
    candidate: bool,
    slots: Vec<ToldSlot>,
}

struct ToldSlot {
    slot: SlotName,
    unit: Unit,
    policy: String,
    digest: Digest,
    shadow: bool,
    schema: u32,
    parameters: Vec<u8>,
    asked: Weak<Policy>,
}

impl Told {
    pub(crate) fn of(tier: &Tier, candidate: bool) -> Self {
        let slot = |slot: &TierSlot| ToldSlot {
            slot: slot.slot.clone(),
            unit: slot.unit.clone(),
            policy: format!("{} {}", slot.policy.description().name, slot.policy.description().version),
            digest: Digest(slot.policy.digest().0),
            shadow: slot.is_shadow(),
            schema: slot.policy.description().state_schema,
            parameters: slot.parameters.clone(),
            asked: Arc::downgrade(&slot.policy),
        };
        let slots = tier.slots.iter().take(POLICIES_MAX).map(slot).collect();
        Self { tier: tier.document.name.clone(), revision: tier.revision, candidate, slots }
    }
}

impl SlotKept {
    /// What stands in `slot` before `check`.
    fn before(slot: &TierSlot, told: &ToldSlot, body: &RecordBody, check: &Check) -> Self {
        let held = body.state(&slot.slot, &slot.policy.description().name);
        let mut kept = Self {
            as_it_is: held.is_none_or(|held| held.schema == told.schema) && body.overrides.is_empty(),
            cost: match check.operation {
                Operation::Consume | Operation::Reserve { .. } => check.cost.of_unit(&slot.unit).get(),
                _ => 0,
            },
            ..Self::default()
        };
        let state = held.map_or(&[][..], |held| &held.state);
        if let Some(room) = kept.state.get_mut(..state.len()) {
            room.copy_from_slice(state);
            kept.state_bytes = Some(state.len() as u8);
        }
        kept
    }
}

/// Of a check on its way: where what becomes of it is kept. By default nowhere.
#[derive(Default)]
pub(crate) struct Remembered(Option<Remembering>);

struct Remembering {
    decisions: Decisions,
    request: RequestKey,
    asked: Instant,
    shard: u16,
    place: Option<Place>,
    /// From and to, of the last time that the policies were asked.
    decided: Option<(Instant, Instant)>,
}

impl Remembered {
    /// A check whose request has no id is nobody's to ask about.
    pub(crate) fn of(check: &Check, asked: Instant, shard: u16, decisions: &Decisions) -> Self {
        let request = RequestKey::of_origin(check.origin.as_deref());
        let remembering =
            || Remembering { decisions: decisions.clone(), request, asked, shard, place: None, decided: None };
        Self(request.is_some().then(remembering))
    }

    /// The policies are about to be asked. What is decided anew keeps its place.
    pub(crate) fn deciding(&mut self, check: &Check, basis: &Basis<'_>) {
        let Some(remembering) = &mut self.0 else { return };
        let now = Instant::now();
        remembering.keep(check, Some(basis), now);
        remembering.decided = Some((now, now));
    }

    /// They have answered.
    pub(crate) fn decided(&mut self) {
        if let Some((_, ended)) = self.0.as_mut().and_then(|remembering| remembering.decided.as_mut()) {
            *ended = Instant::now();
        }
    }

    /// What its caller is told.
    pub(crate) fn answered(&mut self, check: &Check, verdict: &Verdict) {
        let Some(remembering) = &mut self.0 else { return };
        let now = Instant::now();
        let place = remembering.place.unwrap_or_else(|| remembering.keep(check, None, now));
        let (began, ended) = remembering.decided.unwrap_or((now, now));
        remembering.decisions.answered(place, [micros(began, ended), micros(ended, now)], verdict);
    }
}

impl Remembering {
    fn keep(&mut self, check: &Check, basis: Option<&Basis<'_>>, now: Instant) -> Place {
        let said = Said { verdict: "unknown", why: "it has not been answered yet", degraded: None, charge: None };
        let mut kept = Kept {
            request: self.request,
            user: check.user.tail(),
            operation: operation(check),
            shard: self.shard,
            asked: self.asked,
            queued_us: micros(self.asked, now),
            took_us: None,
            said,
            decided: None,
        };
        // Written down the first time that it is asked for: not while other shards wait for the ring.
        let told = basis.map(|basis| basis.tier.told());
        let mut ring = self.decisions.ring();
        if let (Some(Basis { tier, body, version, fence }), Some(told)) = (basis, told) {
            let before = |(slot, told): (&TierSlot, &ToldSlot)| SlotKept::before(slot, told, body, check);
            let slots = ring.put(tier.slots.iter().zip(&told.slots).map(before));
            let (version, fence) = (*version, *fence);
            kept.decided = Some(Decided { told, at: Micros(0), version, version_after: version, fence, slots });
        }
        let held = self.place.filter(|held| ring.kept.at(held.0).is_some());
        let place = match held {
            Some(held) => {
                if let Some(room) = ring.kept.at_mut(held.0) {
                    *room = kept;
                }
                held
            }
            None => Place(ring.kept.put(kept)),
        };
        drop(ring);
        self.place = Some(place);
        place
    }
}

impl Ring {
    fn new() -> Self {
        Self { kept: Places::new(KEPT_MAX), slots: Places::new(SLOTS_MAX) }
    }

    /// Keeps the slots of one decision; the number of the first.
    fn put(&mut self, slots: impl Iterator<Item = SlotKept>) -> u64 {
        let first = self.slots.next;
        for slot in slots {
            self.slots.put(slot);
        }
        first
    }

    /// What the policies said.
    fn told(&mut self, place: Place, answer: &Answer, violated: &[SlotName]) {
        let Some(decided) = self.kept.at_mut(place.0).and_then(|kept| kept.decided.as_mut()) else { return };
        (decided.at, decided.version_after) = (answer.at, answer.version);
        // An answer has the tier's slots in their order, without those that do not bind and those that faulted.
        let mut answered = answer.slots.iter().peekable();
        for (number, told) in (decided.slots..).zip(&decided.told.slots) {
            let Some(kept) = self.slots.at_mut(number) else { return };
            if let Some(slot) = answered.next_if(|slot| slot.slot == told.slot) {
                (kept.limit, kept.remaining, kept.answered) = (slot.limit, slot.remaining, true);
            }
            kept.bound = violated.contains(&told.slot);
        }
    }

    /// A policy said that it can never admit so much.
    fn above_limit(&mut self, place: Place, slot: &SlotName) {
        let Some(decided) = self.kept.at(place.0).and_then(|kept| kept.decided.as_ref()) else { return };
        for (number, told) in (decided.slots..).zip(&decided.told.slots) {
            if let Some(kept) = self.slots.at_mut(number) {
                kept.bound = told.slot == *slot;
            }
        }
    }

    /// A decision's slots, if all of them are there still.
    fn slots_of(&self, decided: &Decided) -> Vec<SlotKept> {
        let slots = (decided.slots..).take(decided.told.slots.len()).map(|number| self.slots.at(number).copied());
        slots.collect::<Option<_>>().unwrap_or_default()
    }
}

impl Default for Decisions {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Ring::new())))
    }
}

impl Decisions {
    /// What the check at `place` became, and how long it was decided, and was with a store.
    fn answered(&self, place: Place, took_us: [u32; 2], verdict: &Verdict) {
        let mut ring = self.ring();
        let Some(kept) = ring.kept.at_mut(place.0) else { return };
        (kept.took_us, kept.said) = (Some(took_us), said(verdict));
        match verdict {
            Verdict::Admitted { answer, .. } | Verdict::Seen { answer, .. } => ring.told(place, answer, &[]),
            Verdict::Denied { denial, .. } => ring.told(place, &denial.answer, &denial.violated),
            Verdict::Refused(Refusal::AboveLimit { slot, .. }) => ring.above_limit(place, slot),
            Verdict::Refused(_) => {}
        }
    }

    /// What is known of `request`: the oldest of its checks first.
    pub(crate) fn explain(&self, request: RequestKey, host: &Host, cell: &str) -> ProcessExplanations {
        let now = Instant::now();
        let (found, kept, reaches_s) = {
            let ring = self.ring();
            let oldest = ring.kept.in_order().map(|kept| kept.asked).min();
            let of_request = ring.kept.in_order().filter(|kept| kept.request == request && request.is_some());
            // Written down while the ring is held, asked again after it.
            let written = |kept: &Kept| {
                let decided = kept.decided.as_ref().map(|decided| (decided.clone(), ring.slots_of(decided)));
                (kept.shown(now), decided)
            };
            let found: Vec<_> = of_request.take(SHOWN_MAX).map(written).collect();
            (found, ring.kept.held.len(), oldest.map(|oldest| now.saturating_duration_since(oldest).as_secs_f64()))
        };
        let mut stores = Stores::new(host);
        let asked_again = |(mut shown, decided): (Explained, Option<(Decided, Vec<SlotKept>)>)| {
            if let (Some(shown), Some((decided, slots))) = (&mut shown.decided, &decided) {
                shown.policies = decided.policies(slots, &mut stores);
            }
            shown
        };
        let decisions = found.into_iter().map(asked_again).collect();
        ProcessExplanations { cell: cell.to_owned(), kept, kept_max: KEPT_MAX, reaches_s, decisions }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // Nothing that holds it can panic half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// All but what the policies said.
    fn shown(&self, now: Instant) -> Explained {
        let decided = self.decided.as_ref().map(|decided| ExplainedDecision {
            tier: decided.told.tier.clone(),
            tier_revision: decided.told.revision,
            candidate: decided.told.candidate,
            at: decided.at,
            version: decided.version,
            version_after: decided.version_after,
            fence: decided.fence,
            policies: Vec::new(),
        });
        Explained {
            user: self.user.to_string(),
            operation: self.operation.to_owned(),
            ago_s: now.saturating_duration_since(self.asked).as_secs_f64(),
            shard: self.shard,
            verdict: self.said.verdict.to_owned(),
            why: (!self.said.why.is_empty()).then(|| self.said.why.to_owned()),
            degraded: self.said.degraded.map(|degraded| degraded.label().to_owned()),
            charge_id: self.said.charge.map(|charge| charge.to_string()),
            decided,
            queued_us: u64::from(self.queued_us),
            decide_us: self.took_us.map(|[decide, _]| u64::from(decide)),
            commit_us: self.took_us.map(|[_, commit]| u64::from(commit)),
        }
    }
}

impl Decided {
    fn policies(&self, slots: &[SlotKept], stores: &mut Stores) -> Vec<ExplainedPolicy> {
        let slots = self.told.slots.iter().zip(slots);
        let policy = |(told, kept): (&ToldSlot, &SlotKept)| ExplainedPolicy {
            slot: told.slot.clone(),
            unit: told.unit.clone(),
            policy: told.policy.clone(),
            digest: told.digest.to_string(),
            shadow: told.shadow,
            cost: kept.cost,
            limit: kept.answered.then_some(kept.limit),
            remaining_before: kept.remaining_before(told, self.at, stores),
            remaining_after: kept.answered.then_some(kept.remaining),
            state_before: kept.state().map(hex::encode),
            bound: kept.bound,
        };
        slots.map(policy).collect()
    }
}

impl SlotKept {
    fn state(&self) -> Option<&[u8]> {
        self.state.get(..usize::from(self.state_bytes?))
    }

    /// Asks the policy again, as of then. One that faults says nothing.
    fn remaining_before(&self, told: &ToldSlot, at: Micros, stores: &mut Stores) -> Option<u64> {
        // Its breaker is not that of who serves.
        let policy = told.asked.upgrade().filter(|_| self.as_it_is && at > Micros(0))?.apart();
        let request = Request {
            operation: host::Operation::Peek,
            now_us: at.0,
            cost: 0,
            held: 0,
            held_at_us: 0,
            attributes: &[],
        };
        Some(stores.decide(&policy, &told.parameters, self.state()?, &request).ok()?.remaining)
    }
}

fn micros(from: Instant, to: Instant) -> u32 {
    u32::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(u32::MAX)
}

fn operation(check: &Check) -> &'static str {
    match check.operation {
        Operation::Consume if check.session.is_some() => "admit",
        Operation::Consume => "consume",
        Operation::Peek => "quota",
        Operation::Reserve { .. } => "reserve",
        Operation::Settle { .. } => "settle",
        Operation::Refund { .. } => "refund",
        Operation::Grant(_) => "grant",
        Operation::Override(_) => "override",
        Operation::Sweep => "sweep",
        Operation::Adopt(_) => "adopt",
        Operation::Erase => "erase",
    }
}

fn said(verdict: &Verdict) -> Said {
    let (word, why, degraded, charge) = match verdict {
        Verdict::Admitted { answer, replayed: true, degraded } => {
            ("replayed", "its idempotency key was known: the first answer again", *degraded, answer.charge)
        }
        Verdict::Admitted { answer, degraded, .. } => ("allowed", "", *degraded, answer.charge),
        Verdict::Denied { degraded, .. } => ("denied", "", *degraded, None),
        Verdict::Seen { degraded, .. } => ("seen", "only looked at", *degraded, None),
        Verdict::Refused(refusal) => (refused(refusal), why(refusal), None, None),
    };
    Said { verdict: word, why, degraded, charge }
}

fn refused(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::TryAgain { reason } => reason.label(),
        _ => "refused",
    }
}

fn why(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::UnknownUser => "there is no such user",
        Refusal::Blocked => "the user is blocked",
        Refusal::Elsewhere { .. } => "this cell is not the user's home: the router was told where to go",
        Refusal::Frozen => "the user was being moved",
        Refusal::OtherInstance { .. } => "another process of the cell has the shard: the router was told which",
        Refusal::UnknownUnit(_) => "no policy of the tier meters this unit",
        Refusal::AboveLimit { .. } => "more than a policy of the tier can ever admit",
        Refusal::KeyReused => "the idempotency key was used with another body",
        Refusal::ClockNotVirtual => "at_us where the clock is not virtual",
        Refusal::UnknownTier(_) => "there is no such tier",
        Refusal::UnknownCharge => "the user has no such charge, or it is too old",
        Refusal::NotReserved => "the charge is no reservation",
        Refusal::ChargeClosed => "the charge was settled, refunded or released before",
        Refusal::TooManyReservations => "the user has as many open reservations as one may",
        Refusal::RecordFull => "the user's record has no room left",
        Refusal::UnknownSlot(_) => "the tier has no such slot",
        Refusal::Undrained { .. } => "the ledger did not have the charge yet: it was asked again",
        Refusal::Invalid(_) => "what was asked is not valid",
        Refusal::InvalidSession => "the session is not in force",
        Refusal::TryAgain { reason } => try_again(*reason),
    }
}

fn try_again(reason: TryAgain) -> &'static str {
    match reason {
        TryAgain::ShardClosed => "the shard was closed: a turn was under way, or no store took its commits",
        TryAgain::Unknown => "the store did not answer in time: it may have been charged",
        TryAgain::Overloaded => "too many checks waited: nothing was decided",
        TryAgain::Deadline => "the caller's deadline passed while it waited",
        TryAgain::StoreDown => "the store could not be asked",
        TryAgain::CellDown => "the cell could not be reached",
        TryAgain::DirectoryDown => "the directory could not be asked",
        TryAgain::Undrained => "the ledger did not have the charge within the deadline",
        TryAgain::NotReady => "the tier or its policies were not loaded",
        TryAgain::OutOfMemory => "Redis was short of memory",
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use cellar_model::{Cost, DeadlineMs, Effect, Origin, RequestId, SlotAnswer, UserId};
    use cellar_policy_host::HostLimits;

    /// Of a request that somebody has named.
    fn origin(request: &str) -> Option<Origin> {
        let traced = Origin::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")?;
        Some(Origin { named: Some(RequestId::new(request)?), ..traced })
    }

    pub(crate) fn check(request: &str) -> Check {
        Check {
            user: UserId::new("somebody-with-a-long-name").unwrap(),
            operation: Operation::Consume,
            cost: Cost::one_request(),
            attributes: Vec::new(),
            key: None,
            at: None,
            deadline: DeadlineMs::QUOTA,
            session: None,
            origin: origin(request).map(Arc::new),
        }
    }

    fn explained(decisions: &Decisions, request: &str) -> ProcessExplanations {
        let host = Host::new(HostLimits::default()).unwrap();
        decisions.explain(RequestKey::of(request), &host, "eu-1")
    }

    fn remembered(decisions: &Decisions, request: &str) -> (Remembered, Check) {
        let check = check(request);
        (Remembered::of(&check, Instant::now(), 3, decisions), check)
    }

    #[test]
    fn what_was_refused_without_a_decision_is_explained_too() {
        let decisions = Decisions::default();
        let (mut remembered, check) = remembered(&decisions, "r-1");
        assert!(explained(&decisions, "r-1").decisions.is_empty());
        remembered.answered(&check, &Verdict::try_again(TryAgain::Overloaded));
        let one = explained(&decisions, "r-1").decisions.remove(0);
        assert_eq!((one.verdict.as_str(), one.shard, one.decided), ("overloaded", 3, None));
        assert!(one.why.unwrap().contains("too many") && !one.user.contains("somebody"), "{}", one.user);
        assert!(explained(&decisions, "r-2").decisions.is_empty());
    }

    #[test]
    fn ten_thousand_are_kept_and_the_next_one_takes_the_place_of_the_oldest() {
        let decisions = Decisions::default();
        let (mut first, first_check) = remembered(&decisions, "r-first");
        first.0.as_mut().unwrap().keep(&first_check, None, Instant::now());
        for n in 0..KEPT_MAX {
            let (mut one, check) = remembered(&decisions, &format!("r-{n}"));
            one.0.as_mut().unwrap().keep(&check, None, Instant::now());
        }
        // Whoever answers late writes into no other's place.
        first.answered(&first_check, &Verdict::try_again(TryAgain::Deadline));
        let gone = explained(&decisions, "r-first");
        assert_eq!((gone.kept, gone.decisions.len()), (KEPT_MAX, 0));
        assert!(gone.reaches_s.is_some());
        let last = explained(&decisions, &format!("r-{}", KEPT_MAX - 1)).decisions;
        assert_eq!((last.len(), last[0].verdict.as_str()), (1, "unknown"));
        assert_eq!((last[0].decide_us, last[0].commit_us), (None, None), "nobody knows yet how long it takes");
    }

    #[test]
    fn the_checks_of_a_request_are_explained_in_their_order_also_where_the_ring_begins_anew() {
        let decisions = Decisions::default();
        for n in 0..KEPT_MAX - 2 {
            remembered(&decisions, &format!("r-{n}")).0.answered(&check("r"), &Verdict::try_again(TryAgain::Deadline));
        }
        let reasons = [TryAgain::Overloaded, TryAgain::Deadline, TryAgain::Unknown, TryAgain::StoreDown];
        let asked = Instant::now();
        for reason in reasons {
            let check = check("r-batch");
            Remembered::of(&check, asked, 3, &decisions).answered(&check, &Verdict::try_again(reason));
        }
        let said: Vec<String> = explained(&decisions, "r-batch").decisions.into_iter().map(|one| one.verdict).collect();
        assert_eq!(said, reasons.map(TryAgain::label));
    }

    fn told(slots: &[&str]) -> Arc<Told> {
        let slot = |slot: &&str| ToldSlot {
            slot: slot.parse().unwrap(),
            unit: Unit::tokens(),
            policy: "gcra 1.0.0".into(),
            digest: Digest([7; 32]),
            shadow: false,
            schema: 1,
            parameters: Vec::new(),
            asked: Weak::new(),
        };
        let slots = slots.iter().map(slot).collect();
        Arc::new(Told { tier: "pro".parse().unwrap(), revision: Revision(1), candidate: false, slots })
    }

    /// A decision about to be made by these slots, each with a cost of its own.
    fn put(ring: &mut Ring, told: &Arc<Told>, cost: u64) -> Place {
        let slots = (cost..).take(told.slots.len()).map(|cost| SlotKept { cost, ..SlotKept::default() });
        let (at, version, fence) = (Micros(0), Version(1), Fence(1));
        let decided =
            Decided { told: told.clone(), at, version, version_after: version, fence, slots: ring.put(slots) };
        let check = check("r");
        let said = Said { verdict: "unknown", why: "", degraded: None, charge: None };
        let (request, user) = (RequestKey::of("r"), check.user.tail());
        let (operation, asked, decided) = (operation(&check), Instant::now(), Some(decided));
        let kept = Kept { request, user, operation, shard: 0, asked, queued_us: 0, took_us: None, said, decided };
        Place(ring.kept.put(kept))
    }

    fn answer(slots: &[(&str, u64)]) -> Answer {
        let slot = |(slot, remaining): &(&str, u64)| SlotAnswer {
            slot: slot.parse().unwrap(),
            unit: Unit::tokens(),
            limit: 100,
            remaining: *remaining,
            resets_at: Micros(0),
            granted: 0,
        };
        Answer {
            charge: None,
            version: Version(2),
            tier: "pro".parse().unwrap(),
            catalog_revision: Revision(1),
            at: Micros(5),
            slots: slots.iter().map(slot).collect(),
            effect: Effect::Plain,
        }
    }

    /// Of each slot: its cost, what its policy said was left, and whether it denied.
    fn slots(ring: &Ring, place: Place) -> Vec<(u64, Option<u64>, bool)> {
        let decided = ring.kept.at(place.0).unwrap().decided.as_ref().unwrap();
        let slot = |kept: &SlotKept| (kept.cost, kept.answered.then_some(kept.remaining), kept.bound);
        ring.slots_of(decided).iter().map(slot).collect()
    }

    #[test]
    fn what_each_policy_said_stands_with_its_slot_whichever_tiers_are_decided_in_between() {
        let mut ring = Ring::new();
        let (short, long) = (told(&["a"]), told(&["a", "b", "c"]));
        let (first, second, third) = (put(&mut ring, &long, 10), put(&mut ring, &short, 20), put(&mut ring, &long, 30));
        // One whose policy faulted, or that is a shadow, is not in the answer.
        ring.told(first, &answer(&[("a", 1), ("c", 3)]), &["c".parse().unwrap()]);
        ring.told(second, &answer(&[("a", 7)]), &[]);
        ring.above_limit(third, &"b".parse().unwrap());
        assert_eq!(slots(&ring, first), [(10, Some(1), false), (11, None, false), (12, Some(3), true)]);
        assert_eq!(slots(&ring, second), [(20, Some(7), false)]);
        assert_eq!(slots(&ring, third), [(30, None, false), (31, None, true), (32, None, false)]);
    }

    #[test]
    fn a_decision_whose_slots_are_gone_shows_none_of_them_and_says_nothing_of_others() {
        let mut ring = Ring::new();
        let place = put(&mut ring, &told(&["a", "b"]), 10);
        ring.put((0..SLOTS_MAX as u64 - 1).map(|cost| SlotKept { cost, ..SlotKept::default() }));
        assert_eq!(slots(&ring, place), []);
        ring.told(place, &answer(&[("a", 1), ("b", 2)]), &["a".parse().unwrap()]);
        assert!(ring.slots.in_order().all(|kept| !kept.answered && !kept.bound));
    }

    #[test]
    fn a_place_is_known_until_another_takes_it() {
        let mut places = Places::new(3);
        for number in 0..4 {
            assert_eq!(places.put(number * 10), number);
        }
        assert_eq!([0, 1, 3].map(|number| places.at(number).copied()), [None, Some(10), Some(30)]);
        *places.at_mut(2).unwrap() = 7;
        assert_eq!((places.at(2).copied(), places.held.capacity()), (Some(7), 3));
        assert!(places.at_mut(0).is_none());
        assert_eq!([4, 5, u64::MAX].map(|number| places.at(number).copied()), [None; 3], "they have not been yet");
        assert_eq!(places.in_order().copied().collect::<Vec<_>>(), [10, 7, 30]);
    }

    #[test]
    fn what_is_kept_weighs_what_it_is_said_to() {
        let slots = SLOTS_MAX * size_of::<SlotKept>();
        let bytes = slots + KEPT_MAX * size_of::<Kept>();
        assert!((6_000_000..8_000_000).contains(&bytes), "{bytes}");
        assert_eq!(size_of::<SlotKept>(), 64, "a line of the processor's cache");
    }
}
