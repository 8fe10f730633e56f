//! One check on one record: what the tier's policies say, and what the record becomes.
//!
//! All policies see the same snapshot. All enforcing ones admit: all new states are kept. Any denies:
//! nothing changes. A shadow policy evolves its own state on the admitted traffic and never binds.

use crate::record::{RecordBody, SlotState};
use crate::tiers::{Tier, TierSlot};
use cellar_model::{
    Amount, Answer, ChargeId, Check, Degraded, Denial, Micros, OnFault, Operation, PolicyMode, Refusal, Revision,
    SlotAnswer, SlotName, Unit, Version,
};
use cellar_policy_host::{self as host, Fault, Outcome, Request, Stores};

/// What was decided of one check, before any store has confirmed it.
#[derive(Debug, PartialEq)]
pub(crate) enum Decision {
    Admit {
        answer: Answer,
        charges: Vec<(Unit, u64)>,
        degraded: Option<Degraded>,
    },
    Deny {
        denial: Denial,
        degraded: Option<Degraded>,
    },
    /// Nothing was asked for: the answer of a peek, or of a cost of zero.
    Look {
        answer: Answer,
        operation: Operation,
    },
    Refuse(Refusal),
}

/// What a fault is answered with when the tier says deny: long enough not to hammer, short enough
/// that a breaker's recovery is noticed.
const FAULT_RETRY_US: u64 = 1_000_000;

/// Everything an evaluation reads besides the record.
pub(crate) struct Context<'a> {
    pub(crate) tier: &'a Tier,
    pub(crate) catalog_revision: Revision,
    pub(crate) now: Micros,
    /// The charge this check becomes if it is admitted; its version is the commit's.
    pub(crate) charge: ChargeId,
    /// The version of the record as it stands.
    pub(crate) held_version: Version,
}

/// One slot's part in the evaluation of one check.
struct SlotVerdict {
    outcome: Outcome,
    asked: u64,
}

/// Decides `check` and, if it is admitted, changes `body` to what it becomes.
pub(crate) fn evaluate(
    stores: &mut Stores,
    context: &Context<'_>,
    body: &mut RecordBody,
    check: &Check,
    mut fault_seen: impl FnMut(&TierSlot, &Fault),
) -> Decision {
    let tier = context.tier;
    if body.flags.blocked {
        return Decision::Refuse(Refusal::Blocked);
    }
    if let Some((unit, _)) = check.cost.iter().find(|(unit, _)| !tier.meters(unit)) {
        return Decision::Refuse(Refusal::UnknownUnit(unit.clone()));
    }
    let attributes: Vec<(&str, &str)> = check.attributes.iter().map(|a| (a.name.as_str(), a.value.as_str())).collect();
    let mut ask = |slot: &TierSlot, body: &RecordBody, amount: u64| {
        call(stores, context, slot, body, amount, &attributes).map_err(|fault| fault_seen(slot, &fault))
    };

    let mut verdicts = Vec::with_capacity(tier.slots.len());
    let (mut violated, mut retry_after_us, mut degraded) = (Vec::new(), 0, None);
    for slot in &tier.slots {
        let asked = amount_of(check, &slot.unit);
        if slot.mode == PolicyMode::Shadow {
            verdicts.push(None);
            continue;
        }
        match ask(slot, body, asked) {
            Ok(outcome) => {
                if !outcome.admitted && asked > outcome.limit {
                    // A limit is at most what an amount may be, or the amount could not exceed it.
                    let limit = Amount::new(outcome.limit).unwrap_or(Amount::MAX);
                    let (slot, unit) = (slot.slot.clone(), slot.unit.clone());
                    return Decision::Refuse(Refusal::AboveLimit { slot, limit, unit });
                }
                // One that is only asked does not bind.
                if !outcome.admitted && asked > 0 {
                    violated.push(slot.slot.clone());
                    retry_after_us = retry_after_us.max(outcome.retry_after_us).max(1);
                }
                verdicts.push(Some(SlotVerdict { outcome, asked }));
            }
            Err(()) => {
                degraded = Some(Degraded::PolicyFault);
                if tier.document.on_fault == OnFault::Deny && asked > 0 {
                    violated.push(slot.slot.clone());
                    retry_after_us = retry_after_us.max(FAULT_RETRY_US);
                }
                verdicts.push(None);
            }
        }
    }

    if !violated.is_empty() {
        // What a slot that would have admitted shows is what it holds, not what it would have held.
        for (slot, verdict) in tier.slots.iter().zip(&mut verdicts) {
            let Some(verdict) = verdict else { continue };
            if verdict.outcome.admitted
                && verdict.asked > 0
                && let Ok(peeked) = ask(slot, body, 0)
            {
                verdict.outcome = peeked;
            }
        }
        let answer = answer(context, None, &verdicts);
        return Decision::Deny { denial: Denial { answer, violated, retry_after_us }, degraded };
    }

    let charges: Vec<(Unit, u64)> = match check.operation {
        Operation::Consume => {
            check.cost.iter().filter(|(_, amount)| amount.get() > 0).map(|(u, a)| (u.clone(), a.get())).collect()
        }
        Operation::Peek => Vec::new(),
    };
    if charges.is_empty() {
        return Decision::Look { answer: answer(context, None, &verdicts), operation: check.operation };
    }
    let answer = answer(context, Some(context.charge), &verdicts);
    for (slot, verdict) in tier.slots.iter().zip(verdicts) {
        let outcome = match verdict {
            Some(verdict) => verdict.outcome,
            None if slot.mode == PolicyMode::Shadow => match ask(slot, body, amount_of(check, &slot.unit)) {
                Ok(outcome) => outcome,
                Err(()) => continue,
            },
            None => continue,
        };
        if let Some(state) = outcome.state {
            body.put_state(slot_state(slot, state), |name| tier.slots.iter().any(|slot| slot.slot == *name));
        }
    }
    for (unit, amount) in &charges {
        body.charge(unit, *amount);
    }
    body.now = context.now;
    body.tier_revision = tier.revision;
    Decision::Admit { answer, charges, degraded }
}

fn amount_of(check: &Check, unit: &Unit) -> u64 {
    match check.operation {
        Operation::Consume => check.cost.of_unit(unit).get(),
        Operation::Peek => 0,
    }
}

fn slot_state(slot: &TierSlot, state: Vec<u8>) -> SlotState {
    SlotState {
        slot: slot.slot.clone(),
        policy: policy_name(slot),
        digest: slot.policy.digest().0,
        schema: slot.policy.description().state_schema,
        state,
    }
}

/// A policy's name as its own description has it; the host's gate has checked the form.
fn policy_name(slot: &TierSlot) -> cellar_model::PolicyName {
    slot.policy.description().name.clone()
}

/// Asks one policy. A state that an earlier artifact wrote under another schema is migrated first.
fn call(
    stores: &mut Stores,
    context: &Context<'_>,
    slot: &TierSlot,
    body: &RecordBody,
    amount: u64,
    attributes: &[(&str, &str)],
) -> Result<Outcome, Fault> {
    let schema = slot.policy.description().state_schema;
    let migrated;
    let state: &[u8] = match body.state(&slot.slot, &slot.policy.description().name) {
        None => &[],
        Some(held) if held.schema == schema => &held.state,
        Some(held) => {
            migrated = stores.migrate(&slot.policy, held.schema, &slot.parameters, &held.state)?;
            &migrated
        }
    };
    let operation = if amount == 0 { host::Operation::Peek } else { host::Operation::Consume };
    let request = Request { operation, now_us: context.now.0, cost: amount, held: 0, held_at_us: 0, attributes };
    stores.decide(&slot.policy, &slot.parameters, state, &request)
}

fn answer(context: &Context<'_>, charge: Option<ChargeId>, verdicts: &[Option<SlotVerdict>]) -> Answer {
    let slots = context.tier.slots.iter().zip(verdicts);
    let slots =
        slots.filter_map(|(slot, verdict)| verdict.as_ref().map(|v| slot_answer(context.now, slot, &v.outcome)));
    Answer {
        charge,
        version: charge.map_or(context.held_version, |charge| charge.version),
        tier: context.tier.document.name.clone(),
        catalog_revision: context.catalog_revision,
        at: context.now,
        slots: slots.collect(),
    }
}

fn slot_answer(now: Micros, slot: &TierSlot, outcome: &Outcome) -> SlotAnswer {
    let slot_name: SlotName = slot.slot.clone();
    SlotAnswer {
        slot: slot_name,
        unit: slot.unit.clone(),
        limit: outcome.limit,
        remaining: outcome.remaining,
        resets_at: now.saturating_add(outcome.reset_after_us),
    }
}
