//! One user's part of a batch: his checks decided one after another on his record.

use super::Ask;
use crate::clock::{Clock, ClockMode};
use crate::closing;
use crate::compiled::CompiledSettings;
use crate::decisions::Basis;
use crate::entry::{EntryKind, KeyedAnswer, LedgerCheck, LedgerEntry};
use crate::evaluate::{self, Charged, Decision, Evaluation};
use crate::outcome::Outcome;
use crate::record::{Head, Record};
use crate::rollout::{self, Variant};
use crate::store::redis::{Group, KeyedCheck};
use crate::tiers::{Tier, TierSet, TierSlot};
use cellar_model::{
    Ack, ChargeId, Check, Degraded, Fence, Micros, OnUnavailable, Operation, Refusal, TryAgain, UserId, Verdict,
    WavePoint,
};
use cellar_policy_host::{Fault, Stores};

/// What deciding needs besides the record.
pub(super) struct Deciding<'a> {
    pub(super) stores: &'a mut Stores,
    pub(super) compiled: &'a mut CompiledSettings,
    pub(super) tiers: &'a TierSet,
    pub(super) clock: &'a Clock,
    pub(super) fence: Fence,
    /// What every answer of this opening has to say of its store.
    pub(super) degraded: Option<Degraded>,
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
    /// His tier lets him spend something while no store can be asked.
    pub(super) allows: bool,
}

impl Deciding<'_> {
    /// Decides `asks` in order on `record`, and lays out the commit.
    pub(super) fn decide(&mut self, user: UserId, mut record: Record, asks: Vec<Ask>) -> (Decided, Group) {
        // For all of his checks: a candidate that is stopped, or a wave that grows, changes nothing half way.
        let (tiers, point) = (self.tiers, user.wave());
        let tier = tiers.of(&record.body.tier, point);
        self.stores.asked_for(Some(point.0));
        let before = record.head;
        let head = Head { fence: self.fence, epoch: before.epoch, version: before.version.next() };
        let (mut checks, mut decided, mut keys, mut keyed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for mut ask in asks {
            let under = match &ask.check.operation {
                Operation::Adopt(terms) => tiers.of(&terms.tier, point),
                _ => tier,
            };
            if let Some(tier) = under {
                let version = if checks.is_empty() { before.version } else { head.version };
                ask.remembered.deciding(&ask.check, &Basis { tier, body: &record.body, version, fence: self.fence });
            }
            let decision = match under {
                _ if ask.check.operation == Operation::Erase => self.erase(&mut record, head, checks.len()),
                Some(tier) => self.watched(tier, point, &mut record, &ask, head, &mut checks),
                None => Decision::Refuse(Refusal::TryAgain { reason: TryAgain::NotReady }),
            };
            let (verdict, charged) = self.verdict(decision);
            if under.is_some() {
                ask.remembered.decided();
            }
            let (window_s, expiry_s) = windows(tier, &ask);
            let admitted = match (&verdict, charged) {
                (Verdict::Admitted { answer, .. }, Some(charged)) => Some((answer, charged)),
                _ => None,
            };
            let outcome = admitted
                .as_ref()
                .zip(ask.check.key)
                .map(|((answer, _), key)| Outcome { body: key.body, answer: (*answer).clone() }.encode(self.fence));
            if let Some(key) = ask.check.key {
                keyed.push(decided.len());
                keys.push(KeyedCheck { id: key.id, outcome, expiry_s });
            }
            if let Some((answer, charged)) = admitted {
                let key = ask.check.key.map(|key| KeyedAnswer {
                    id: key.id,
                    body: key.body,
                    answer: answer.clone(),
                    window_s,
                });
                checks.push(LedgerCheck {
                    charge: name(head, checks.len()),
                    at: answer.at,
                    act: charged.act,
                    charges: charged.charges,
                    takes: charged.takes,
                    key,
                });
            }
            decided.push((ask, verdict));
        }
        if let Some(tier) = tier {
            judge(tier);
        }
        let ack = tier.map_or(Ack::Redis, |tier| tier.document.ack);
        let allows = tier.is_some_and(|tier| tier.document.on_unavailable != OnUnavailable::Deny);
        if !checks.is_empty() {
            record.head = head;
        }
        let entry = (!checks.is_empty()).then(|| LedgerEntry {
            user: user.clone(),
            epoch: head.epoch,
            version: head.version,
            kind: EntryKind::of(&checks),
            at: record.body.now,
            checks,
        });
        let write = entry.as_ref().map(|entry| layout(&record, entry)).transpose();
        let unwritten = write.is_err();
        let write = write.unwrap_or_else(|error| {
            refuse_unwritten(&user, &error, &mut decided);
            None
        });
        let entry = entry.filter(|_| write.is_some());
        let group = Group { user: user.clone(), write, keys };
        (Decided { user, record, entry, unwritten, asks: decided, keyed, ack, allows }, group)
    }

    /// What the clock says of a check that does not. In virtual time a user's time is what his own checks say: what
    /// his account tells does not move it.
    fn time_of(&self, check: &Check, record: &Record) -> Micros {
        match (&check.operation, self.clock.mode()) {
            (Operation::Adopt(_), ClockMode::Virtual) => record.body.now,
            _ => self.clock.now(),
        }
    }

    /// What is open ends with the rest.
    fn erase(&self, record: &mut Record, head: Head, place: usize) -> Decision {
        let now = match self.clock.mode() {
            ClockMode::Virtual => record.body.now,
            ClockMode::Wall => self.clock.now().max(record.body.now),
        };
        // Of a commit that is laid out already, its version is the record's.
        let held = if place > 0 { head } else { record.head };
        evaluate::erase(&mut record.body, held, name(head, place), now, self.tiers.revision)
    }

    /// Decides `ask`, and counts what becomes of it while his tier has a candidate.
    fn watched(
        &mut self,
        tier: &Tier,
        user: WavePoint,
        record: &mut Record,
        ask: &Ask,
        head: Head,
        checks: &mut Vec<LedgerCheck>,
    ) -> Decision {
        let Some((watch, variant)) = &tier.watch else { return self.one(tier, record, ask, head, checks) };
        let (mut faulted, report) = (false, &mut *self.fault_seen);
        let mut fault_seen = |slot: &TierSlot, fault: &Fault| {
            faulted |= !slot.is_shadow();
            report(slot, fault);
        };
        let mut watching = Deciding {
            stores: &mut *self.stores,
            compiled: &mut *self.compiled,
            fault_seen: &mut fault_seen,
            tiers: self.tiers,
            clock: self.clock,
            ..*self
        };
        let decision = watching.one(tier, record, ask, head, checks);
        if let Some(verdict) = counted(&ask.check, &decision, faulted) {
            watch.decided(*variant, verdict, user);
        }
        decision
    }

    /// Looks after what has expired by now, then decides `ask`. What expired is a check of the commit by
    /// itself: it stands whatever becomes of `ask`.
    fn one(
        &mut self,
        tier: &Tier,
        record: &mut Record,
        ask: &Ask,
        head: Head,
        checks: &mut Vec<LedgerCheck>,
    ) -> Decision {
        let check = &ask.check;
        if check.at.is_some() && self.clock.mode() != ClockMode::Virtual {
            return Decision::Refuse(Refusal::ClockNotVirtual);
        }
        // A user's policy time never runs backwards, whoever says it.
        let now: Micros = check.at.unwrap_or_else(|| self.time_of(check, record)).max(record.body.now);
        let mut evaluation = Evaluation {
            stores: &mut *self.stores,
            compiled: &mut *self.compiled,
            fault_seen: &mut *self.fault_seen,
            tier,
            catalog_revision: self.tiers.revision,
            now,
            held: record.head,
        };
        let before = checks.len();
        checks.extend(evaluation.expire(&mut record.body, |n| name(head, before + n)));
        if !checks.is_empty() {
            evaluation.held = head;
        }
        evaluation.decide(&mut record.body, check, name(head, checks.len()), ask.found.as_deref())
    }

    /// The verdict, once a store has confirmed it, and what it writes into the ledger.
    fn verdict(&self, decision: Decision) -> (Verdict, Option<Charged>) {
        let store = self.degraded;
        let verdict = match decision {
            Decision::Admit { answer, charged, degraded } => {
                let degraded = degraded.or(store);
                return (Verdict::Admitted { answer, replayed: false, degraded }, Some(charged));
            }
            Decision::Deny { denial, degraded } => Verdict::Denied { denial, degraded: degraded.or(store) },
            Decision::Look(answer) => Verdict::Seen { answer, degraded: store },
            Decision::Free(answer) => Verdict::Admitted { answer, replayed: false, degraded: store },
            Decision::Refuse(refusal) => Verdict::Refused(refusal),
        };
        (verdict, None)
    }
}

/// Answers those again whose commit cannot be laid out.
fn refuse_unwritten(user: &UserId, error: &LayoutError, decided: &mut [(Ask, Verdict)]) {
    tracing::error!(user = ?user, error = error as &dyn std::error::Error, "a record cannot be written");
    for (_, verdict) in decided {
        // Nor is it true that the ledger has to hold this commit before it is asked.
        if matches!(verdict, Verdict::Admitted { .. } | Verdict::Refused(Refusal::Undrained { .. })) {
            *verdict = Verdict::try_again(TryAgain::NotReady);
        }
    }
}

/// Once a commit: its checks were all decided by the same policies.
fn judge(tier: &Tier) {
    let Some((watch, Variant::Candidate)) = &tier.watch else { return };
    if let Some(reason) = watch.judge() {
        let (tier, revision) = (&tier.document.name, tier.revision);
        tracing::error!(%tier, %revision, reason, "this cell has stopped the tier's candidate");
    }
}

/// What the policies made of a check that they had a say in.
fn counted(check: &Check, decision: &Decision, faulted: bool) -> Option<rollout::Verdict> {
    match check.operation {
        Operation::Consume | Operation::Reserve { .. } | Operation::Settle { .. } | Operation::Refund { .. } => {}
        Operation::Peek | Operation::Grant(_) | Operation::Override(_) => return None,
        Operation::Sweep | Operation::Adopt(_) | Operation::Erase => return None,
    }
    match decision {
        _ if faulted => Some(rollout::Verdict::Faulted),
        Decision::Admit { .. } => Some(rollout::Verdict::Admitted),
        // More than a policy would ever admit is denied for good.
        Decision::Deny { .. } | Decision::Refuse(Refusal::AboveLimit { .. }) => Some(rollout::Verdict::Denied),
        Decision::Refuse(_) | Decision::Look(_) | Decision::Free(_) => None,
    }
}

/// The charge at `place` of the commit that writes `head`.
fn name(head: Head, place: usize) -> ChargeId {
    ChargeId { epoch: head.epoch, fence: head.fence, version: head.version, place: place as u32 }
}

/// For how long the ledger and Redis keep what `ask`'s key is answered, in seconds.
fn windows(tier: Option<&Tier>, ask: &Ask) -> (u32, u32) {
    let window_s = tier.map_or(0, |tier| tier.document.idempotency_window_s);
    match ask.check.operation.closes() {
        Some(_) => (closing::WINDOW_S, closing::expiry_s(window_s)),
        // Twice the window: Redis's clock may jump.
        None => (window_s, (window_s * 2).max(1)),
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
