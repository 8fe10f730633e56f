//! One user's part of a batch: his checks decided one after another on his record.

use super::Ask;
use crate::clock::{Clock, ClockMode};
use crate::entry::{EntryKind, KeyedAnswer, LedgerCheck, LedgerEntry};
use crate::evaluate::{Context, Decision, evaluate};
use crate::outcome::Outcome;
use crate::record::{Head, Record};
use crate::store::redis::{Group, KeyedCheck};
use crate::tiers::{Tier, TierSet, TierSlot};
use cellar_model::{Ack, ChargeId, Check, Degraded, Fence, Micros, Operation, Refusal, TryAgain, UserId, Verdict};
use cellar_policy_host::{Fault, Stores};

/// What deciding needs besides the record.
pub(super) struct Deciding<'a> {
    pub(super) stores: &'a mut Stores,
    pub(super) tiers: &'a TierSet,
    pub(super) clock: &'a Clock,
    pub(super) fence: Fence,
    /// The append-only file is not flushed at every write: every admission says so.
    pub(super) unsafe_ack: bool,
    pub(super) fault_seen: &'a mut dyn FnMut(&TierSlot, &Fault),
}

/// A user's checks, decided; nothing is true of it until a store has confirmed it.
pub(super) struct Decided {
    pub(super) user: UserId,
    /// As the commit leaves it. Equal to what it was when nothing was admitted.
    pub(super) record: Record,
    pub(super) entry: Option<LedgerEntry>,
    /// The commit could not be laid out: nothing is sent of it, and the record is as no store has it.
    pub(super) unwritten: bool,
    pub(super) asks: Vec<(Ask, Verdict)>,
    /// Which asks have keys, in the order the store is told of them.
    pub(super) keyed: Vec<usize>,
    pub(super) ack: Ack,
}

impl Deciding<'_> {
    /// Decides `asks` in order on `record`, and lays out the commit.
    #[tracing::instrument(name = "policy.call", level = "debug", skip_all, fields(checks = asks.len()))]
    pub(super) fn decide(&mut self, user: UserId, mut record: Record, asks: Vec<Ask>) -> (Decided, Group) {
        let tier = self.tiers.get(&record.body.tier).cloned();
        let before = record.head;
        let head = Head { fence: self.fence, epoch: before.epoch, version: before.version.next() };
        let (mut checks, mut decided, mut keys, mut keyed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut at = record.body.now;
        for ask in asks {
            let place = checks.len() as u32;
            let charge = ChargeId { epoch: head.epoch, fence: head.fence, version: head.version, place };
            let decision = match &tier {
                Some(tier) => self.one(tier, &mut record, &ask.check, charge, before),
                None => Decision::Refuse(Refusal::TryAgain { reason: TryAgain::NotReady }),
            };
            let window_s = tier.as_ref().map_or(0, |tier| tier.document.idempotency_window_s);
            let outcome = match (&decision, ask.check.key) {
                (Decision::Admit { answer, .. }, Some(key)) => {
                    Some(Outcome { body: key.body, answer: answer.clone() }.encode(self.fence))
                }
                _ => None,
            };
            if let Some(key) = ask.check.key {
                keyed.push(decided.len());
                // Twice the window: Redis's clock may jump.
                keys.push(KeyedCheck { id: key.id, outcome, expiry_s: (window_s * 2).max(1) });
            }
            if let Decision::Admit { answer, charges, .. } = &decision {
                at = answer.at;
                let key = ask.check.key.map(|key| KeyedAnswer {
                    id: key.id,
                    body: key.body,
                    answer: answer.clone(),
                    window_s,
                });
                checks.push(LedgerCheck { charge, charges: charges.clone(), key });
            }
            decided.push((ask, self.verdict(decision)));
        }
        let ack = tier.as_ref().map_or(Ack::Redis, |tier| tier.document.ack);
        if !checks.is_empty() {
            record.head = head;
        }
        let entry = (!checks.is_empty()).then(|| LedgerEntry {
            user: user.clone(),
            epoch: head.epoch,
            version: head.version,
            kind: EntryKind::Consume,
            at,
            checks,
        });
        let mut unwritten = false;
        let write = match entry.as_ref().map(|entry| layout(&record, entry)) {
            Some(Ok(write)) => Some(write),
            Some(Err(error)) => {
                tracing::error!(user = ?user, error = &error as &dyn std::error::Error, "a record cannot be written");
                unwritten = true;
                for (_, verdict) in &mut decided {
                    if matches!(verdict, Verdict::Admitted { .. }) {
                        *verdict = Verdict::try_again(TryAgain::NotReady);
                    }
                }
                None
            }
            None => None,
        };
        let entry = entry.filter(|_| write.is_some());
        let group = Group { user: user.clone(), write, keys };
        (Decided { user, record, entry, unwritten, asks: decided, keyed, ack }, group)
    }

    fn one(&mut self, tier: &Tier, record: &mut Record, check: &Check, charge: ChargeId, before: Head) -> Decision {
        if check.at.is_some() && self.clock.mode() != ClockMode::Virtual {
            return Decision::Refuse(Refusal::ClockNotVirtual);
        }
        // A user's policy time never runs backwards, whoever says it.
        let now: Micros = check.at.unwrap_or_else(|| self.clock.now()).max(record.body.now);
        let context =
            Context { tier, catalog_revision: self.tiers.revision, now, charge, held_version: before.version };
        evaluate(self.stores, &context, &mut record.body, check, &mut *self.fault_seen)
    }

    fn verdict(&self, decision: Decision) -> Verdict {
        let unsafe_ack = self.unsafe_ack.then_some(Degraded::UnsafeAck);
        match decision {
            Decision::Admit { answer, degraded, .. } => {
                Verdict::Admitted { answer, replayed: false, degraded: degraded.or(unsafe_ack) }
            }
            Decision::Deny { denial, degraded } => Verdict::Denied { denial, degraded },
            Decision::Look { answer, operation: Operation::Peek } => Verdict::Seen(answer),
            Decision::Look { answer, operation: Operation::Consume } => {
                Verdict::Admitted { answer, replayed: false, degraded: None }
            }
            Decision::Refuse(refusal) => Verdict::Refused(refusal),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum LayoutError {
    #[error("the record cannot be encoded")]
    Record(#[from] crate::record::RecordError),
    #[error("the ledger entry cannot be encoded")]
    Entry(#[from] postcard::Error),
}

/// A commit's bytes: the record, and the entry as the stream takes it.
fn layout(record: &Record, entry: &LedgerEntry) -> Result<(Vec<u8>, Vec<u8>), LayoutError> {
    let mut packed = Vec::with_capacity(128);
    entry.pack(&mut packed)?;
    Ok((record.encode()?, packed))
}
