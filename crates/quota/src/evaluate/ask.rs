//! One question to one policy.

use super::Evaluation;
use crate::record::{RecordBody, SlotState};
use crate::tiers::TierSlot;
use cellar_model::{Attribute, Micros};
use cellar_policy_host::{Fault, Operation, Outcome, Request};

/// What a policy is asked, in its own unit.
pub(super) struct Question<'q> {
    pub(super) operation: Operation,
    pub(super) now: Micros,
    pub(super) cost: u64,
    /// What a settle corrects, and when that was taken.
    pub(super) held: u64,
    pub(super) held_at: Micros,
    pub(super) attributes: &'q [(&'q str, &'q str)],
}

impl<'q> Question<'q> {
    /// Takes `cost`; nothing is only asked.
    pub(super) fn take(operation: Operation, now: Micros, cost: u64, attributes: &'q [(&'q str, &'q str)]) -> Self {
        let operation = if cost == 0 { Operation::Peek } else { operation };
        Self { operation, now, cost, held: 0, held_at: Micros(0), attributes }
    }

    pub(super) fn peek(now: Micros) -> Self {
        Self::take(Operation::Peek, now, 0, &[])
    }
}

/// As policies read them.
pub(super) fn pairs(attributes: &[Attribute]) -> Vec<(&str, &str)> {
    attributes.iter().map(|attribute| (attribute.name.as_str(), attribute.value.as_str())).collect()
}

impl Evaluation<'_> {
    /// Asks `slot`; a fault has been reported when this returns.
    pub(super) fn ask(&mut self, slot: &TierSlot, body: &RecordBody, question: &Question<'_>) -> Result<Outcome, ()> {
        self.call(slot, body, question).map_err(|fault| (self.fault_seen)(slot, &fault))
    }

    /// A state that an earlier artifact wrote under another schema is migrated first.
    fn call(&mut self, slot: &TierSlot, body: &RecordBody, question: &Question<'_>) -> Result<Outcome, Fault> {
        let (description, schema) = (slot.policy.description(), slot.policy.description().state_schema);
        let other = match body.settings(&slot.slot, &description.name, question.now) {
            Some(settings) => Some(self.compiled.get(&slot.policy, settings)?),
            None => None,
        };
        let parameters: &[u8] = other.as_deref().unwrap_or(&slot.parameters);
        let migrated;
        let state: &[u8] = match body.state(&slot.slot, &description.name) {
            None => &[],
            Some(held) if held.schema == schema => &held.state,
            Some(held) => {
                migrated = self.stores.migrate(&slot.policy, held.schema, parameters, &held.state)?;
                &migrated
            }
        };
        let request = Request {
            operation: question.operation,
            now_us: question.now.0,
            cost: question.cost,
            held: question.held,
            held_at_us: question.held_at.0,
            attributes: question.attributes,
        };
        self.stores.decide(&slot.policy, parameters, state, &request)
    }
}

pub(super) fn slot_state(slot: &TierSlot, state: Vec<u8>) -> SlotState {
    SlotState {
        slot: slot.slot.clone(),
        // As the policy's own description has it; the host's gate has checked the form.
        policy: slot.policy.description().name.clone(),
        digest: slot.policy.digest().0,
        schema: slot.policy.description().state_schema,
        state,
    }
}
