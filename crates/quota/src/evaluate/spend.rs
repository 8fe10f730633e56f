//! Consume, reserve and peek.
//!
//! All policies see the same snapshot. All enforcing ones admit: all new states are kept. Any denies:
//! nothing changes. A shadow policy evolves its own state on the admitted traffic and never binds; what it
//! says, also of what was denied, is counted.
//!
//! Where an enforcing policy denies, grants of its slot that hold the whole amount give it instead, and
//! the policy's state stays as it is: an amount comes wholly out of the policy or wholly out of grants.

use super::ask::{Question, pairs, slot_state};
use super::{Charged, Decision, Evaluation, SlotVerdict};
use crate::entry::Act;
use crate::record::{RESERVATIONS_MAX, RecordBody, Reservation, Take};
use crate::rollout::Difference;
use crate::tiers::TierSlot;
use cellar_model::{
    Amount, ChargeId, Check, Degraded, Denial, Effect, OnFault, Operation, PolicyMode, RESERVATION_S_MAX, Refusal,
    SlotName, Unit,
};
use cellar_policy_host as host;

/// What a fault is answered with when the tier says deny: long enough not to hammer, short enough
/// that a breaker's recovery is noticed.
const FAULT_RETRY_US: u64 = 1_000_000;

/// What the slots said, in the tier's order; none of a shadow, and of one that faulted.
#[derive(Default)]
struct Said {
    verdicts: Vec<Option<SlotVerdict>>,
    violated: Vec<SlotName>,
    retry_after_us: u64,
    degraded: Option<Degraded>,
}

impl Evaluation<'_> {
    pub(super) fn spend(&mut self, body: &mut RecordBody, check: &Check, charge: ChargeId) -> Decision {
        if let Some((unit, _)) = check.cost.iter().find(|(unit, _)| !self.tier.meters(unit)) {
            return Decision::Refuse(Refusal::UnknownUnit(unit.clone()));
        }
        if let Operation::Reserve { .. } = check.operation
            && let Err(refusal) = self.room_for_reservation(body, check)
        {
            return Decision::Refuse(refusal);
        }
        let attributes = pairs(&check.attributes);
        let mut said = match self.ask_all(body, check, &attributes) {
            Ok(said) => said,
            Err(refusal) => return Decision::Refuse(refusal),
        };
        if !said.violated.is_empty() {
            self.ask_shadows_of_denied(body, check, &attributes);
            return self.deny(body, said);
        }
        let charges: Vec<(Unit, u64)> = match check.operation {
            Operation::Peek => return Decision::Look(self.answer(body, None, &said.verdicts)),
            _ => check.cost.iter().filter(|(_, amount)| amount.get() > 0).map(|(u, a)| (u.clone(), a.get())).collect(),
        };
        if charges.is_empty() && check.operation == Operation::Consume {
            return Decision::Free(self.answer(body, None, &said.verdicts));
        }
        let takes = self.take(body, check, &attributes, &mut said);
        let mut answer = self.answer(body, Some(charge), &said.verdicts);
        let charged = match check.operation {
            Operation::Reserve { expires_in_s } => {
                let expires_in_s = expires_in_s.clamp(1, RESERVATION_S_MAX);
                let expires_at = self.now.saturating_add(u64::from(expires_in_s) * 1_000_000);
                let on_expiry = self.tier.document.on_expiry;
                let reservation = Reservation {
                    charge,
                    at: self.now,
                    expires_at,
                    on_expiry,
                    charges: charges.clone(),
                    takes: takes.clone(),
                };
                body.reservations.push(reservation);
                answer.effect = Effect::Reserved { expires_at };
                Act::Reserve { on_expiry }
            }
            _ => Act::Consume,
        };
        // An amount is at most 2^40.
        let charges: Vec<(Unit, i64)> = charges.into_iter().map(|(unit, amount)| (unit, amount as i64)).collect();
        for (unit, amount) in &charges {
            body.charge(unit, *amount);
        }
        self.finish(body);
        Decision::Admit { answer, charged: Charged { act: charged, charges, takes }, degraded: said.degraded }
    }

    fn room_for_reservation(&self, body: &RecordBody, check: &Check) -> Result<(), Refusal> {
        if body.reservations.len() >= RESERVATIONS_MAX {
            return Err(Refusal::TooManyReservations);
        }
        // Ids and times, then eight bytes and two amounts a slot, a name and an amount a unit.
        let units = check.cost.iter().map(|(unit, _)| unit.as_str().len() + 8).sum::<usize>();
        let bytes = 64 + self.tier.slots.len() * 24 + units;
        if body.has_room(bytes) { Ok(()) } else { Err(Refusal::RecordFull) }
    }

    /// Asks every enforcing slot.
    fn ask_all(&mut self, body: &RecordBody, check: &Check, attributes: &[(&str, &str)]) -> Result<Said, Refusal> {
        let tier = self.tier;
        let mut said = Said { verdicts: Vec::with_capacity(tier.slots.len()), ..Said::default() };
        for slot in &tier.slots {
            if slot.mode == PolicyMode::Shadow {
                said.verdicts.push(None);
                continue;
            }
            let asked = amount_of(check, &slot.unit);
            let Ok(outcome) = self.ask(slot, body, &self.question(check, asked, attributes)) else {
                said.degraded = Some(Degraded::PolicyFault);
                // One that is only asked does not bind.
                if tier.document.on_fault == OnFault::Deny && asked > 0 {
                    said.violated.push(slot.slot.clone());
                    said.retry_after_us = said.retry_after_us.max(FAULT_RETRY_US);
                }
                said.verdicts.push(None);
                continue;
            };
            let granted = !outcome.admitted && asked > 0 && body.granted(&slot.slot, self.now) >= asked;
            if !outcome.admitted && asked > 0 && !granted {
                if asked > outcome.limit {
                    return Err(above_limit(slot, outcome.limit));
                }
                said.violated.push(slot.slot.clone());
                said.retry_after_us = said.retry_after_us.max(outcome.retry_after_us).max(1);
            }
            said.verdicts.push(Some(SlotVerdict { outcome, asked, granted }));
        }
        Ok(said)
    }

    fn question<'q>(&self, check: &Check, asked: u64, attributes: &'q [(&'q str, &'q str)]) -> Question<'q> {
        let operation = match check.operation {
            Operation::Reserve { .. } => host::Operation::Reserve,
            _ => host::Operation::Consume,
        };
        Question::take(operation, self.now, asked, attributes)
    }

    /// What a slot that would have admitted shows is what it holds, not what it would have held.
    fn deny(&mut self, body: &RecordBody, mut said: Said) -> Decision {
        let tier = self.tier;
        for (slot, verdict) in tier.slots.iter().zip(&mut said.verdicts) {
            let Some(verdict) = verdict else { continue };
            if verdict.outcome.admitted
                && verdict.asked > 0
                && let Ok(peeked) = self.ask(slot, body, &Question::peek(self.now))
            {
                verdict.outcome = peeked;
            }
        }
        let answer = self.answer(body, None, &said.verdicts);
        let denial = Denial { answer, violated: said.violated, retry_after_us: said.retry_after_us };
        Decision::Deny { denial, degraded: said.degraded }
    }

    /// All admit: the record takes their new states. Returns which slot gave what.
    fn take(
        &mut self,
        body: &mut RecordBody,
        check: &Check,
        attributes: &[(&str, &str)],
        said: &mut Said,
    ) -> Vec<Take> {
        let (tier, reserves) = (self.tier, matches!(check.operation, Operation::Reserve { .. }));
        let mut takes = Vec::with_capacity(tier.slots.len());
        for (slot, verdict) in tier.slots.iter().zip(&mut said.verdicts) {
            let asked = amount_of(check, &slot.unit);
            let (state, gave, granted) = match verdict {
                Some(verdict) => (verdict.outcome.state.take(), !verdict.granted, verdict.granted),
                None if slot.mode == PolicyMode::Shadow => match self.ask_shadow(slot, body, check, attributes, true) {
                    Some(outcome) => (outcome.state, outcome.admitted, false),
                    None => continue,
                },
                None => continue,
            };
            if let Some(state) = state {
                body.put_state(slot_state(slot, state), |held| tier.keeps(held));
            }
            if granted {
                body.spend_grants(&slot.slot, asked, self.now);
            }
            if (gave || granted) && (asked > 0 || reserves) {
                let (amount, granted) = if granted { (0, asked) } else { (asked, 0) };
                takes.push(Take { taker: slot.taker, amount, granted });
            }
        }
        takes
    }

    /// What the shadows would have said of a check that is denied. Nothing of it is kept: what was not
    /// admitted is no traffic.
    fn ask_shadows_of_denied(&mut self, body: &RecordBody, check: &Check, attributes: &[(&str, &str)]) {
        let (tier, only_asks) = (self.tier, check.operation == Operation::Peek);
        for slot in tier.slots.iter().filter(|slot| slot.is_shadow() && !only_asks) {
            self.ask_shadow(slot, body, check, attributes, false);
        }
    }

    /// Asks a shadow, and counts how its word compares where the check costs something of its unit.
    fn ask_shadow(
        &mut self,
        slot: &TierSlot,
        body: &RecordBody,
        check: &Check,
        attributes: &[(&str, &str)],
        enforcing_admit: bool,
    ) -> Option<host::Outcome> {
        let asked = amount_of(check, &slot.unit);
        let outcome = self.ask(slot, body, &self.question(check, asked, attributes)).ok();
        if asked > 0 {
            let difference = outcome.as_ref().map(|outcome| Difference::of(enforcing_admit, outcome.admitted));
            slot.counts.compared(difference.unwrap_or(Difference::Fault));
        }
        outcome
    }
}

fn amount_of(check: &Check, unit: &Unit) -> u64 {
    match check.operation {
        Operation::Peek => 0,
        _ => check.cost.of_unit(unit).get(),
    }
}

fn above_limit(slot: &TierSlot, limit: u64) -> Refusal {
    // A limit is at most what an amount may be, or the amount could not exceed it.
    let limit = Amount::new(limit).unwrap_or(Amount::MAX);
    Refusal::AboveLimit { slot: slot.slot.clone(), limit, unit: slot.unit.clone() }
}
