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
    SlotName, TierName, TryAgain, Unit, UserId, Verdict, Version,
};
use cellar_policy_host::{self as host, Host, Policy, Request, Stores};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

/// Decisions that are kept: some 7 MB, and at the load a cell is made for a third of a second; of a quiet cell, hours.
const KEPT_MAX: usize = 10_000;
/// Of one request: a batch has a thousand, and nobody reads more of them.
const SHOWN_MAX: usize = 100;
/// A state up to this length is kept with the decision: that of every policy that ships, but for open-reservations.
const STATE_BYTES_MAX: usize = 32;

/// Cheap to clone; all clones are the same.
#[derive(Clone)]
pub(crate) struct Decisions(Arc<Mutex<Ring>>);

struct Ring {
    kept: Vec<Kept>,
    /// How many there have been: the next one's number.
    next: u64,
}

/// Where a decision stands, as long as no other has taken its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(u64);

struct Kept {
    request: RequestKey,
    user: UserId,
    operation: &'static str,
    shard: u16,
    asked: Instant,
    queued_us: u32,
    decide_us: u32,
    commit_us: Option<u32>,
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
pub(crate) struct Decided {
    told: Arc<Told>,
    at: Micros,
    version: Version,
    version_after: Version,
    fence: Fence,
    slots: [SlotKept; POLICIES_MAX],
}

/// A slot before its policy was asked, and what it said.
#[derive(Clone, Copy, Default)]
struct SlotKept {
    state: [u8; STATE_BYTES_MAX],
    /// None: longer than is kept.
    state_bytes: Option<u8>,
    /// Written by this version of the policy, and asked under the tier's own settings: it can be asked again.
    as_it_is: bool,
    cost: u64,
    limit: Option<u64>,
    remaining: Option<u64>,
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

impl Decided {
    /// What `check` is about to be decided on.
    pub(crate) fn before(tier: &Tier, body: &RecordBody, check: &Check, version: Version, fence: Fence) -> Self {
        let told = tier.told();
        let mut slots = [SlotKept::default(); POLICIES_MAX];
        for ((slot, kept), told) in tier.slots.iter().zip(&mut slots).zip(&told.slots) {
            let name = &slot.policy.description().name;
            let held = body.state(&slot.slot, name);
            let state = held.map_or(&[][..], |held| &held.state);
            if let Some(room) = kept.state.get_mut(..state.len()) {
                room.copy_from_slice(state);
                kept.state_bytes = Some(state.len() as u8);
            }
            kept.as_it_is = held.is_none_or(|held| held.schema == told.schema) && body.overrides.is_empty();
            kept.cost = match check.operation {
                Operation::Consume | Operation::Reserve { .. } => check.cost.of_unit(&slot.unit).get(),
                _ => 0,
            };
        }
        Self { told, at: Micros(0), version, version_after: version, fence, slots }
    }

    /// What the policies said.
    fn told(&mut self, answer: &Answer, violated: &[SlotName]) {
        (self.at, self.version_after) = (answer.at, answer.version);
        // An answer has the tier's slots in their order, without those that do not bind and those that faulted.
        let mut answered = answer.slots.iter().peekable();
        for (told, kept) in self.told.slots.iter().zip(&mut self.slots) {
            if let Some(slot) = answered.next_if(|slot| slot.slot == told.slot) {
                (kept.limit, kept.remaining) = (Some(slot.limit), Some(slot.remaining));
            }
            kept.bound = violated.contains(&told.slot);
        }
    }
}

/// Of a check on its way: where what becomes of it is kept. By default nowhere.
#[derive(Default)]
pub(crate) struct Remembered(Option<Remembering>);

struct Remembering {
    decisions: Decisions,
    asked: Instant,
    shard: u16,
    place: Option<Place>,
}

impl Remembered {
    /// A check whose request has no id is nobody's to ask about.
    pub(crate) fn of(check: &Check, shard: u16, decisions: &Decisions) -> Self {
        let (decisions, asked) =
            (RequestKey::of_origin(check.origin.as_deref()).is_some().then(|| decisions.clone()), Instant::now());
        Self(decisions.map(|decisions| Remembering { decisions, asked, shard, place: None }))
    }

    pub(crate) fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The policies have been asked. One that is decided anew keeps its place.
    pub(crate) fn decided(&mut self, check: &Check, decided: Decided, began: Instant) {
        let Some(Remembering { decisions, asked, shard, place }) = &mut self.0 else { return };
        *place = Some(decisions.keep(check, *shard, *asked, Some((decided, began)), *place));
    }

    pub(crate) fn answered(&mut self, check: &Check, verdict: &Verdict) {
        let Some(Remembering { decisions, asked, shard, place }) = &mut self.0 else { return };
        let place = place.unwrap_or_else(|| decisions.keep(check, *shard, *asked, None, None));
        decisions.answered(place, verdict);
    }
}

impl Default for Decisions {
    fn default() -> Self {
        // Memory is taken as it is written to.
        Self(Arc::new(Mutex::new(Ring { kept: Vec::with_capacity(KEPT_MAX), next: 0 })))
    }
}

impl Decisions {
    /// Keeps what became of `check` up to here: decided by policies, or refused without them.
    pub(crate) fn keep(
        &self,
        check: &Check,
        shard: u16,
        asked: Instant,
        decided: Option<(Decided, Instant)>,
        held: Option<Place>,
    ) -> Place {
        let now = Instant::now();
        let began = decided.as_ref().map_or(now, |(_, began)| *began);
        let kept = Kept {
            request: RequestKey::of_origin(check.origin.as_deref()),
            user: check.user.clone(),
            operation: operation(check),
            shard,
            asked,
            queued_us: micros(asked, began),
            decide_us: micros(began, now),
            commit_us: None,
            said: Said { verdict: "unknown", why: "it has not been answered yet", degraded: None, charge: None },
            decided: decided.map(|(decided, _)| decided),
        };
        let mut ring = self.ring();
        let held = held.filter(|held| ring.next - held.0 <= KEPT_MAX as u64);
        let place = held.unwrap_or(Place(ring.next));
        ring.next += u64::from(held.is_none());
        let n = (place.0 % KEPT_MAX as u64) as usize;
        match ring.kept.get_mut(n) {
            Some(held) => *held = kept,
            None => ring.kept.push(kept),
        }
        place
    }

    /// What its caller is told.
    pub(crate) fn answered(&self, place: Place, verdict: &Verdict) {
        let mut ring = self.ring();
        if ring.next - place.0 > KEPT_MAX as u64 {
            return;
        }
        let Some(kept) = ring.kept.get_mut((place.0 % KEPT_MAX as u64) as usize) else { return };
        kept.said = said(verdict);
        let whole_us = micros(kept.asked, Instant::now());
        kept.commit_us = Some(whole_us.saturating_sub(kept.queued_us).saturating_sub(kept.decide_us));
        let Some(decided) = &mut kept.decided else { return };
        match verdict {
            Verdict::Admitted { answer, .. } | Verdict::Seen { answer, .. } => decided.told(answer, &[]),
            Verdict::Denied { denial, .. } => decided.told(&denial.answer, &denial.violated),
            Verdict::Refused(Refusal::AboveLimit { slot, .. }) => {
                for (told, kept) in decided.told.slots.iter().zip(&mut decided.slots) {
                    kept.bound = told.slot == *slot;
                }
            }
            Verdict::Refused(_) => {}
        }
    }

    /// What is known of `request`: the oldest of its checks first.
    pub(crate) fn explain(&self, request: RequestKey, host: &Host, cell: &str) -> ProcessExplanations {
        let (mut found, kept, reaches_s) = {
            let ring = self.ring();
            let oldest = ring.kept.iter().map(|kept| kept.asked).min();
            let of_request = ring.kept.iter().filter(|kept| kept.request == request && request.is_some());
            // Written down while the ring is held, asked again after it.
            let found: Vec<_> = of_request.take(SHOWN_MAX).map(|kept| (kept.shown(), kept.decided.clone())).collect();
            (found, ring.kept.len(), oldest.map(|oldest| oldest.elapsed().as_secs_f64()))
        };
        let mut stores = Stores::new(host);
        for (shown, decided) in &mut found {
            if let (Some(shown), Some(decided)) = (&mut shown.decided, &decided) {
                shown.policies = decided.policies(&mut stores);
            }
        }
        let mut decisions: Vec<Explained> = found.into_iter().map(|(shown, _)| shown).collect();
        decisions.sort_by(|one, other| other.ago_s.total_cmp(&one.ago_s));
        ProcessExplanations { cell: cell.to_owned(), kept, kept_max: KEPT_MAX, reaches_s, decisions }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        // Nothing that holds it can panic half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// All but what the policies said.
    fn shown(&self) -> Explained {
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
            user: format!("{:?}", self.user),
            operation: self.operation.to_owned(),
            ago_s: self.asked.elapsed().as_secs_f64(),
            shard: self.shard,
            verdict: self.said.verdict.to_owned(),
            why: (!self.said.why.is_empty()).then(|| self.said.why.to_owned()),
            degraded: self.said.degraded.map(|degraded| degraded.label().to_owned()),
            charge_id: self.said.charge.map(|charge| charge.to_string()),
            decided,
            queued_us: u64::from(self.queued_us),
            decide_us: u64::from(self.decide_us),
            commit_us: self.commit_us.map(u64::from),
        }
    }
}

impl Decided {
    fn policies(&self, stores: &mut Stores) -> Vec<ExplainedPolicy> {
        let slots = self.told.slots.iter().zip(&self.slots);
        let policy = |(told, kept): (&ToldSlot, &SlotKept)| ExplainedPolicy {
            slot: told.slot.clone(),
            unit: told.unit.clone(),
            policy: told.policy.clone(),
            digest: told.digest.to_string(),
            shadow: told.shadow,
            cost: kept.cost,
            limit: kept.limit,
            remaining_before: kept.remaining_before(told, self.at, stores),
            remaining_after: kept.remaining,
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
mod tests {
    use super::*;
    use cellar_model::{Cost, DeadlineMs, Origin, RequestId};
    use cellar_policy_host::HostLimits;

    /// Of a request that somebody has named.
    fn origin(request: &str) -> Option<Origin> {
        let traced = Origin::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")?;
        Some(Origin { named: Some(RequestId::new(request)?), ..traced })
    }

    fn check(request: &str) -> Check {
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

    #[test]
    fn what_was_refused_without_a_decision_is_explained_too() {
        let decisions = Decisions::default();
        let place = decisions.keep(&check("r-1"), 3, Instant::now(), None, None);
        let before = explained(&decisions, "r-1");
        assert_eq!((before.decisions.len(), before.decisions[0].commit_us), (1, None));
        decisions.answered(place, &Verdict::try_again(TryAgain::Overloaded));
        let one = explained(&decisions, "r-1").decisions.remove(0);
        assert_eq!((one.verdict.as_str(), one.shard, one.decided), ("overloaded", 3, None));
        assert!(one.why.unwrap().contains("too many") && !one.user.contains("somebody"), "{}", one.user);
        assert!(explained(&decisions, "r-2").decisions.is_empty());
    }

    #[test]
    fn ten_thousand_are_kept_and_the_next_one_takes_the_place_of_the_oldest() {
        let decisions = Decisions::default();
        let first = decisions.keep(&check("r-first"), 0, Instant::now(), None, None);
        for n in 0..KEPT_MAX {
            decisions.keep(&check(&format!("r-{n}")), 0, Instant::now(), None, None);
        }
        // Whoever answers late writes into no other's place.
        decisions.answered(first, &Verdict::try_again(TryAgain::Deadline));
        let gone = explained(&decisions, "r-first");
        assert_eq!((gone.kept, gone.decisions.len()), (KEPT_MAX, 0));
        assert!(gone.reaches_s.is_some());
        let last = explained(&decisions, &format!("r-{}", KEPT_MAX - 1)).decisions;
        assert_eq!((last.len(), last[0].verdict.as_str()), (1, "unknown"));
    }

    /// Prints what keeping a decision costs: nothing is asserted of the time.
    #[test]
    fn a_decision_is_kept_in_place() {
        let (decisions, check) = (Decisions::default(), check("r"));
        let slot = |slot: &str, unit| ToldSlot {
            slot: slot.parse().unwrap(),
            unit,
            policy: "gcra 1.0.0".into(),
            digest: Digest([7; 32]),
            shadow: false,
            schema: 1,
            parameters: vec![0; 32],
            asked: Weak::new(),
        };
        let slots = vec![slot("per-minute", Unit::requests()), slot("monthly", Unit::tokens())];
        let tier = "pro".parse().unwrap();
        let told = Arc::new(Told { tier, revision: Revision(1), candidate: false, slots });
        let decided = || Decided {
            told: told.clone(),
            at: Micros(1),
            version: Version(1),
            version_after: Version(1),
            fence: Fence(1),
            slots: Default::default(),
        };
        let (began, times) = (Instant::now(), 1_000_000);
        for _ in 0..times {
            let mut remembered = Remembered::of(&check, 0, &decisions);
            remembered.decided(&check, decided(), Instant::now());
            remembered.answered(&check, &Verdict::try_again(TryAgain::Deadline));
        }
        println!("{} ns a decision kept", began.elapsed().as_nanos() / times);
        assert_eq!(decisions.ring().kept.len(), KEPT_MAX);
        assert_eq!(decisions.ring().kept.capacity(), KEPT_MAX);
    }
}
