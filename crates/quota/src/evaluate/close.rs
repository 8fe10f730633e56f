//! Settle, refund and expiry: what was charged, corrected.
//!
//! Only slots that took a charge are corrected, each by its policy's `settle` with what it gave and
//! when: the policy knows whether that period is over. That may be a slot of the tier's other variant, if
//! the user has changed sides since. A slot that the user's tier no longer has cannot be asked, and what it
//! gave stays given. The totals move by the difference in any case.

use super::ask::{Question, pairs, slot_state};
use super::{Charged, Decision, Evaluation};
use crate::entry::{Act, LedgerCheck};
use crate::record::{RecordBody, Take};
use cellar_model::{
    ChargeId, Check, Cost, Degraded, Effect, Micros, OnExpiry, OnFault, PolicyMode, Refusal, TryAgain, Unit,
};
use cellar_policy_host as host;

/// A charge as it stands, about to be corrected.
struct Held<'h> {
    at: Micros,
    charges: Vec<(Unit, u64)>,
    takes: &'h [Take],
    /// What is not used comes back. Not once it has expired: then only what is missing is charged.
    gives_back: bool,
}

/// What correcting a charge did.
struct Corrected {
    charges: Vec<(Unit, i64)>,
    overshoot: Vec<(Unit, u64)>,
    degraded: Option<Degraded>,
}

/// One slot's correction, already answered by its policy.
struct Answered<'t> {
    slot: &'t crate::tiers::TierSlot,
    state: Option<Vec<u8>>,
    grants_back: u64,
    above: u64,
}

impl Evaluation<'_> {
    pub(super) fn settle(
        &mut self,
        body: &mut RecordBody,
        check: &Check,
        charge: ChargeId,
        of: ChargeId,
        found: Option<&LedgerCheck>,
    ) -> Decision {
        let open = body.reservations.iter().position(|reservation| reservation.charge == of);
        let (at, charges, takes, gives_back) = match (open, found) {
            (Some(place), _) => {
                let open = &body.reservations[place];
                (open.at, open.charges.clone(), open.takes.clone(), true)
            }
            (None, None) => return Decision::Refuse(self.look_up(of)),
            // Neither open nor closed by a caller: it has expired.
            (None, Some(found)) => match found.act {
                Act::Reserve { on_expiry: OnExpiry::Charge } => (found.at, charged(found), found.takes.clone(), false),
                Act::Reserve { on_expiry: OnExpiry::Release } => {
                    let nothing = |take: &Take| Take { amount: 0, granted: 0, ..*take };
                    (found.at, Vec::new(), found.takes.iter().map(nothing).collect(), false)
                }
                _ => return Decision::Refuse(Refusal::NotReserved),
            },
        };
        let foreign = |unit: &Unit| !self.tier.meters(unit) && charges.iter().all(|(held, _)| held != unit);
        if let Some((unit, _)) = check.cost.iter().find(|(unit, _)| foreign(unit)) {
            return Decision::Refuse(Refusal::UnknownUnit(unit.clone()));
        }
        let held = Held { at, charges, takes: &takes, gives_back };
        let attributes = pairs(&check.attributes);
        match self.correct(body, &held, Some(&check.cost), &attributes, self.now) {
            Ok(corrected) => {
                body.reservations.retain(|reservation| reservation.charge != of);
                self.finish(body);
                let effect = Effect::Settled { overshoot: corrected.overshoot.clone() };
                self.closed(body, charge, of, Act::Settle { of }, effect, corrected)
            }
            Err(refusal) => Decision::Refuse(refusal),
        }
    }

    pub(super) fn refund(
        &mut self,
        body: &mut RecordBody,
        check: &Check,
        charge: ChargeId,
        of: ChargeId,
        found: Option<&LedgerCheck>,
    ) -> Decision {
        let open = body.reservations.iter().position(|reservation| reservation.charge == of);
        let (at, charges, takes) = match (open, found) {
            (Some(place), _) => {
                let open = &body.reservations[place];
                (open.at, open.charges.clone(), open.takes.clone())
            }
            (None, None) => return Decision::Refuse(self.look_up(of)),
            (None, Some(found)) => match found.act {
                Act::Consume | Act::Reserve { on_expiry: OnExpiry::Charge } => {
                    (found.at, charged(found), found.takes.clone())
                }
                // It was given back when it expired.
                Act::Reserve { on_expiry: OnExpiry::Release } => return Decision::Refuse(Refusal::ChargeClosed),
                // Corrections and terms are nobody's charges.
                _ => return Decision::Refuse(Refusal::UnknownCharge),
            },
        };
        let held = Held { at, charges, takes: &takes, gives_back: true };
        let attributes = pairs(&check.attributes);
        match self.correct(body, &held, None, &attributes, self.now) {
            Ok(corrected) => {
                body.reservations.retain(|reservation| reservation.charge != of);
                self.finish(body);
                self.closed(body, charge, of, Act::Refund { of }, Effect::Refunded, corrected)
            }
            Err(refusal) => Decision::Refuse(refusal),
        }
    }

    /// Looks after every reservation that is due, in the order they expire. Each becomes a check of the
    /// commit under way, named by `name`.
    ///
    /// One is released as of its expiry, not of the check that found it: what the record becomes does
    /// not depend on who touches it first. A release that a policy's fault forbids stays open.
    pub(crate) fn expire(
        &mut self,
        body: &mut RecordBody,
        mut name: impl FnMut(usize) -> ChargeId,
    ) -> Vec<LedgerCheck> {
        let mut expired = Vec::new();
        if body.next_expiry().is_none_or(|first| first > self.now) {
            return expired;
        }
        let (mut due, open): (Vec<_>, Vec<_>) =
            std::mem::take(&mut body.reservations).into_iter().partition(|one| one.expires_at <= self.now);
        body.reservations = open;
        due.sort_by_key(|reservation| reservation.expires_at);
        for reservation in due {
            let at = body.now.max(reservation.expires_at);
            let charges = match reservation.on_expiry {
                OnExpiry::Charge => Vec::new(),
                OnExpiry::Release => {
                    let charges = reservation.charges.clone();
                    let held = Held { at: reservation.at, charges, takes: &reservation.takes, gives_back: true };
                    match self.correct(body, &held, None, &[], at) {
                        Ok(corrected) => corrected.charges,
                        Err(_) => {
                            body.reservations.push(reservation);
                            continue;
                        }
                    }
                }
            };
            body.now = at;
            let (charge, act) = (name(expired.len()), Act::Expire { of: reservation.charge });
            expired.push(LedgerCheck { charge, at, act, charges, takes: Vec::new(), key: None });
        }
        expired
    }

    /// A charge that is not open: unknown if it is yet to come, else for the ledger to tell.
    fn look_up(&self, of: ChargeId) -> Refusal {
        let held = self.held;
        if (of.epoch, of.fence, of.version) > (held.epoch, held.fence, held.version) {
            return Refusal::UnknownCharge;
        }
        Refusal::Undrained { fence: held.fence, version: held.version }
    }

    fn closed(
        &mut self,
        body: &RecordBody,
        charge: ChargeId,
        of: ChargeId,
        act: Act,
        effect: Effect,
        corrected: Corrected,
    ) -> Decision {
        let mut answer = self.look(body, Some(charge), effect);
        // The caller knows the charge by the name it got when it was taken.
        answer.charge = Some(of);
        let charged = Charged { act, charges: corrected.charges, takes: Vec::new() };
        Decision::Admit { answer, charged, degraded: corrected.degraded }
    }

    /// Makes of `held` what `cost` says (none: nothing at all). All policies are asked before anything
    /// changes, so a refusal leaves the record as it was.
    fn correct(
        &mut self,
        body: &mut RecordBody,
        held: &Held<'_>,
        cost: Option<&Cost>,
        attributes: &[(&str, &str)],
        now: Micros,
    ) -> Result<Corrected, Refusal> {
        let tier = self.tier;
        let (mut answered, mut degraded) = (Vec::with_capacity(held.takes.len()), None);
        for take in held.takes {
            let Some(slot) = tier.all_slots().find(|slot| slot.taker == take.taker) else { continue };
            let used = cost.map_or(0, |cost| cost.of_unit(&slot.unit).get());
            match self.correct_slot(body, slot, take, used, held, attributes, now) {
                Ok(one) => answered.push(one),
                Err(()) if slot.mode == PolicyMode::Shadow => {}
                Err(()) if tier.document.on_fault == OnFault::Allow => degraded = Some(Degraded::PolicyFault),
                Err(()) => return Err(Refusal::TryAgain { reason: TryAgain::NotReady }),
            }
        }
        let mut overshoot: Vec<(Unit, u64)> = Vec::new();
        for Answered { slot, state, grants_back, above } in answered {
            if let Some(state) = state {
                body.put_state(slot_state(slot, state), |held| tier.keeps(held));
            }
            if grants_back > 0 {
                body.return_grants(&slot.slot, grants_back, now);
            }
            // Of several slots in one unit, the one that had least left says how far it was exceeded.
            match overshoot.iter_mut().find(|(unit, _)| *unit == slot.unit) {
                Some((_, most)) => *most = above.max(*most),
                None if above > 0 => overshoot.push((slot.unit.clone(), above)),
                None => {}
            }
        }
        let charges = differences(held, cost);
        for (unit, amount) in &charges {
            body.charge(unit, *amount);
        }
        Ok(Corrected { charges, overshoot, degraded })
    }

    /// Asks one slot to make `used` of what it gave. Beyond what it gave, the policy is charged: grants
    /// are spent only where a policy denies, and a settle is never denied. A policy is told of an open reservation's
    /// end also where nothing comes of it in amounts: it may count what is open.
    #[expect(clippy::too_many_arguments, reason = "the slot's part of everything `correct` was given")]
    fn correct_slot<'t>(
        &mut self,
        body: &RecordBody,
        slot: &'t crate::tiers::TierSlot,
        take: &Take,
        used: u64,
        held: &Held<'_>,
        attributes: &[(&str, &str)],
        now: Micros,
    ) -> Result<Answered<'t>, ()> {
        let given = take.amount + take.granted;
        let unused = if held.gives_back { given.saturating_sub(used) } else { 0 };
        let grants_back = unused.min(take.granted);
        let more = used.saturating_sub(given);
        let cost = take.amount + more - (unused - grants_back);
        let over = held.gives_back && take.amount > 0;
        if cost == take.amount && !over {
            return Ok(Answered { slot, state: None, grants_back, above: 0 });
        }
        let question =
            Question { operation: host::Operation::Settle, now, cost, held: take.amount, held_at: held.at, attributes };
        let above = match slot.mode {
            PolicyMode::Enforce if more > 0 => {
                more.saturating_sub(self.ask(slot, body, &Question::peek(now))?.remaining)
            }
            _ => 0,
        };
        let outcome = self.ask(slot, body, &question)?;
        Ok(Answered { slot, state: outcome.state, grants_back, above })
    }
}

/// By unit, what the ledger moves by; units that do not move are left out.
fn differences(held: &Held<'_>, cost: Option<&Cost>) -> Vec<(Unit, i64)> {
    let was = |unit: &Unit| held.charges.iter().find(|(of, _)| of == unit).map_or(0, |(_, amount)| *amount);
    let is = |unit: &Unit| cost.map_or(0, |cost| cost.of_unit(unit).get());
    let units = held.charges.iter().map(|(unit, _)| unit);
    let new = cost.into_iter().flat_map(Cost::iter).map(|(unit, _)| unit).filter(|unit| was(unit) == 0);
    let moved = units.chain(new).map(|unit| {
        // Both are sums of one check: at most 2^40.
        let difference = is(unit) as i64 - was(unit) as i64;
        (unit.clone(), if held.gives_back { difference } else { difference.max(0) })
    });
    moved.filter(|(_, difference)| *difference != 0).collect()
}

/// What a consume or a reserve charged, as the ledger has it.
fn charged(found: &LedgerCheck) -> Vec<(Unit, u64)> {
    found.charges.iter().map(|(unit, amount)| (unit.clone(), (*amount).max(0) as u64)).collect()
}
