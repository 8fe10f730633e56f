//! Grants and overrides: what an operator gives one user beside his tier.

use super::{Charged, Decision, Evaluation};
use crate::entry::Act;
use crate::record::{GRANTS_MAX, Grant, Override, RecordBody, SLOTS_MAX};
use crate::tiers::TierSlot;
use cellar_model::{
    ChargeId, Effect, GrantTerms, Micros, OVERRIDE_BYTES_MAX, OverrideTerms, PolicyMode, Refusal, SettingProblem,
    SlotName, TryAgain,
};
use cellar_policy_host::ConfigureError;

/// What a grant or an override takes of a record beside its settings: two names and two numbers.
const TERMS_BYTES: usize = 96;

impl<'a> Evaluation<'a> {
    pub(super) fn grant(&mut self, body: &mut RecordBody, charge: ChargeId, terms: &GrantTerms) -> Decision {
        let checked = self.enforcing(&terms.slot).and_then(|_| {
            if terms.amount.get() == 0 {
                return Err(invalid("/amount", "must be at least 1"));
            }
            self.in_future(terms.until)
        });
        if let Err(refusal) = checked {
            return Decision::Refuse(refusal);
        }
        let in_force = body.grants.iter().filter(|grant| grant.until > self.now).count();
        if in_force >= GRANTS_MAX || !body.has_room(TERMS_BYTES) {
            return Decision::Refuse(Refusal::RecordFull);
        }
        let (slot, amount, until) = (terms.slot.clone(), terms.amount.get(), terms.until);
        body.grants.push(Grant { slot, amount, spent: 0, until });
        self.changed(body, charge, Act::Grant(Box::new(terms.clone())))
    }

    /// One override a slot: a later one takes its place.
    pub(super) fn override_slot(&mut self, body: &mut RecordBody, charge: ChargeId, terms: &OverrideTerms) -> Decision {
        let checked = self.enforcing(&terms.slot).and_then(|slot| {
            self.in_future(terms.until)?;
            if terms.settings.len() > OVERRIDE_BYTES_MAX {
                return Err(invalid("/settings", &format!("at most {OVERRIDE_BYTES_MAX} bytes")));
            }
            self.fit(slot, &terms.settings)?;
            Ok(slot.policy.description().name.clone())
        });
        let policy = match checked {
            Ok(policy) => policy,
            Err(refusal) => return Decision::Refuse(refusal),
        };
        let others = body.overrides.iter().filter(|held| held.slot != terms.slot && held.until > self.now).count();
        if others >= SLOTS_MAX || !body.has_room(TERMS_BYTES + terms.settings.len()) {
            return Decision::Refuse(Refusal::RecordFull);
        }
        body.overrides.retain(|held| held.slot != terms.slot);
        let (slot, settings, until) = (terms.slot.clone(), terms.settings.clone(), terms.until);
        body.overrides.push(Override { slot, policy, settings, until });
        self.changed(body, charge, Act::Override(Box::new(terms.clone())))
    }

    pub(super) fn changed(&mut self, body: &mut RecordBody, charge: ChargeId, act: Act) -> Decision {
        self.finish(body);
        let mut answer = self.look(body, Some(charge), Effect::Changed);
        // Nothing was charged that could be given back.
        answer.charge = None;
        let charged = Charged { act, charges: Vec::new(), takes: Vec::new() };
        Decision::Admit { answer, charged, degraded: None }
    }

    /// A shadow never binds, so there is nothing to be had from it.
    fn enforcing(&self, slot: &SlotName) -> Result<&'a TierSlot, Refusal> {
        let found = self.tier.slots.iter().find(|held| held.slot == *slot && held.mode == PolicyMode::Enforce);
        found.ok_or_else(|| Refusal::UnknownSlot(slot.clone()))
    }

    fn in_future(&self, until: Micros) -> Result<(), Refusal> {
        if until > self.now { Ok(()) } else { Err(invalid("/until", "has passed already")) }
    }

    fn fit(&mut self, slot: &TierSlot, settings: &str) -> Result<(), Refusal> {
        self.compiled.check(&slot.policy, settings).map_err(|error| match error {
            ConfigureError::Refused(problems) => {
                let below = |problem: SettingProblem| SettingProblem {
                    pointer: format!("/settings{}", problem.pointer),
                    message: problem.message,
                };
                Refusal::Invalid(problems.into_iter().map(below).collect())
            }
            ConfigureError::TooLarge { .. } => invalid("/settings", &error.to_string()),
            ConfigureError::Fault(fault) => {
                (self.fault_seen)(slot, &fault);
                Refusal::TryAgain { reason: TryAgain::NotReady }
            }
        })
    }
}

fn invalid(pointer: &str, message: &str) -> Refusal {
    Refusal::Invalid(vec![SettingProblem::new(pointer, message)])
}
