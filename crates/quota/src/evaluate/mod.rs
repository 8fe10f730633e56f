//! One check on one record: what the tier's policies say, and what the record becomes. No I/O.
//!
//! `spend` is consume, reserve and peek; `close` is settle, refund and expiry; `terms` is what an
//! operator grants; `account` is what an account's row changes; `force` is a charge that is true already;
//! `ask` is one question to one policy.

mod account;
mod ask;
mod close;
mod force;
mod spend;
mod terms;
#[cfg(test)]
mod tests;

use crate::compiled::CompiledSettings;
use crate::entry::{Act, LedgerCheck};
use crate::record::{Head, RecordBody, Take};
use crate::tiers::{Tier, TierSlot};
pub(crate) use account::erase;
use ask::Question;
use cellar_model::{
    Answer, ChargeId, Check, Degraded, Denial, Effect, Epoch, Micros, Operation, PolicyMode, Refusal, Revision,
    SlotAnswer, Unit,
};
use cellar_policy_host::{Fault, Outcome, Stores};

/// What was decided of one check, before any store has confirmed it.
#[derive(Debug, PartialEq)]
pub(crate) enum Decision {
    Admit {
        answer: Answer,
        charged: Charged,
        degraded: Option<Degraded>,
    },
    Deny {
        denial: Denial,
        degraded: Option<Degraded>,
    },
    /// Only looked at.
    Look(Answer),
    /// Admitted, and nothing was asked for: there is nothing to commit.
    Free(Answer),
    Refuse(Refusal),
}

/// What an admitted check writes into the ledger.
#[derive(Debug, PartialEq)]
pub(crate) struct Charged {
    pub(crate) act: Act,
    pub(crate) charges: Vec<(Unit, i64)>,
    pub(crate) takes: Vec<Take>,
}

/// Everything an evaluation reads besides the record.
pub(crate) struct Evaluation<'a> {
    pub(crate) stores: &'a mut Stores,
    pub(crate) compiled: &'a mut CompiledSettings,
    pub(crate) fault_seen: &'a mut dyn FnMut(&TierSlot, &Fault),
    pub(crate) tier: &'a Tier,
    pub(crate) catalog_revision: Revision,
    pub(crate) now: Micros,
    /// Of the record as it stands.
    pub(crate) held: Head,
}

/// One slot's part in the evaluation of one check.
struct SlotVerdict {
    outcome: Outcome,
    asked: u64,
    /// The policy denied, and grants gave the amount.
    granted: bool,
}

impl Evaluation<'_> {
    /// Decides `check` and, if it is admitted, changes `body` to what it becomes.
    ///
    /// `charge` is what the check becomes if it is admitted, `found` what the ledger has of the charge
    /// that it closes.
    pub(crate) fn decide(
        &mut self,
        body: &mut RecordBody,
        check: &Check,
        charge: ChargeId,
        found: Option<&LedgerCheck>,
    ) -> Decision {
        if body.flags.erased {
            return Decision::Refuse(nobody());
        }
        match &check.operation {
            // A block ends spending. What was spent before is still settled, refunded and granted for.
            Operation::Consume | Operation::Reserve { .. } | Operation::Peek if body.flags.blocked => {
                Decision::Refuse(Refusal::Blocked)
            }
            Operation::Consume | Operation::Reserve { .. } | Operation::Peek => self.spend(body, check, charge),
            Operation::Settle { charge: of } => self.settle(body, check, charge, *of, found),
            Operation::Refund { charge: of } => self.refund(body, check, charge, *of, found),
            Operation::Grant(terms) => self.grant(body, charge, terms),
            Operation::Override(terms) => self.override_slot(body, charge, terms),
            Operation::Adopt(terms) => self.adopt(body, charge, terms),
            Operation::Sweep => Decision::Look(self.answer(body, None, &[])),
            // Decided without a tier, which may be gone: `account::erase`.
            Operation::Erase => Decision::Refuse(nobody()),
        }
    }

    /// What every admission leaves in the record.
    fn finish(&self, body: &mut RecordBody) {
        body.now = body.now.max(self.now);
        body.tier_revision = self.tier.revision;
        body.drop_ended(self.now);
    }

    /// The answer to a check that was not asked of every slot: each says what it holds now.
    fn look(&mut self, body: &RecordBody, charge: Option<ChargeId>, effect: Effect) -> Answer {
        let tier = self.tier;
        let verdicts: Vec<Option<SlotVerdict>> = tier
            .slots
            .iter()
            .map(|slot| {
                let outcome =
                    (slot.mode == PolicyMode::Enforce).then(|| self.ask(slot, body, &Question::peek(self.now)));
                outcome?.ok().map(|outcome| SlotVerdict { outcome, asked: 0, granted: false })
            })
            .collect();
        Answer { effect, ..self.answer(body, charge, &verdicts) }
    }

    fn answer(&self, body: &RecordBody, charge: Option<ChargeId>, verdicts: &[Option<SlotVerdict>]) -> Answer {
        let slots = self.tier.slots.iter().zip(verdicts);
        let slots = slots.filter_map(|(slot, verdict)| {
            let outcome = &verdict.as_ref()?.outcome;
            Some(SlotAnswer {
                slot: slot.slot.clone(),
                unit: slot.unit.clone(),
                limit: outcome.limit,
                remaining: outcome.remaining,
                resets_at: self.now.saturating_add(outcome.reset_after_us),
                granted: body.granted(&slot.slot, self.now),
            })
        });
        Answer {
            charge,
            version: charge.map_or(self.held.version, |charge| charge.version),
            tier: self.tier.document.name.clone(),
            catalog_revision: self.catalog_revision,
            at: self.now,
            slots: slots.collect(),
            effect: Effect::Plain,
        }
    }
}

/// As for whom this cell has no row: whether there is such a user at all, the directory knows.
fn nobody() -> Refusal {
    Refusal::Elsewhere { home: None, epoch: Epoch(0) }
}
