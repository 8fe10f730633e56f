//! Checks decided again, by the code a cell decides with and without any store: for backtests.

use crate::compiled::CompiledSettings;
use crate::entry::LedgerCheck;
use crate::evaluate::{Decision, Evaluation};
use crate::record::{Head, RECORD_BYTES_MAX, Record, RecordBody};
use crate::tiers::{Tier, TierSlot};
use cellar_model::{ChargeId, Check, Epoch, Fence, Refusal, Revision, SlotName, TryAgain, Verdict, Version};
use cellar_policy_host::{Burnt, Fault, Host, Stores};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One worker's copy of a tier, with instances of its policies.
pub struct Replay {
    tier: Arc<Tier>,
    stores: Stores,
    compiled: CompiledSettings,
    faults: BTreeMap<(SlotName, &'static str), u64>,
}

/// A user as a replay has him: his record, and nothing of any store.
pub struct Replayed {
    body: RecordBody,
    head: Head,
}

/// What was decided.
#[derive(Debug)]
pub struct Decided {
    pub verdict: Verdict,
    /// What the ledger would have of it; none if nothing was admitted.
    pub entry: Option<LedgerCheck>,
    /// Reservations that had expired by then.
    pub expired: Vec<LedgerCheck>,
}

impl Replay {
    pub fn new(host: &Host, tier: Arc<Tier>) -> Self {
        Self { tier, stores: Stores::new(host), compiled: CompiledSettings::default(), faults: BTreeMap::new() }
    }

    /// One who has never spent anything.
    pub fn user(&self) -> Replayed {
        let head = Head { fence: Fence(1), epoch: Epoch(1), version: Version(0) };
        Replayed { body: RecordBody::new(self.tier.document.name.clone()), head }
    }

    /// Decides `check` as of its own time; `found` is what the ledger has of the charge that it closes.
    ///
    /// Each check is a commit of its own here, as `shard/batch.rs` makes one of several.
    pub fn decide(&mut self, user: &mut Replayed, check: &Check, found: Option<&LedgerCheck>) -> Decided {
        // A user's policy time never runs backwards.
        let now = check.at.unwrap_or_default().max(user.body.now);
        let next = Head { version: user.head.version.next(), ..user.head };
        let before = user.body.clone();
        let Self { tier, stores, compiled, faults } = self;
        let mut fault_seen = |slot: &TierSlot, fault: &Fault| {
            *faults.entry((slot.slot.clone(), fault.kind())).or_default() += 1;
        };
        let mut evaluation = Evaluation {
            stores,
            compiled,
            fault_seen: &mut fault_seen,
            tier,
            catalog_revision: Revision(0),
            now,
            held: user.head,
        };
        let expired = evaluation.expire(&mut user.body, |place| name(next, place));
        if !expired.is_empty() {
            evaluation.held = next;
        }
        let decision = evaluation.decide(&mut user.body, check, name(next, expired.len()), found);
        let (verdict, entry) = said(decision, name(next, expired.len()));
        if entry.is_none() && expired.is_empty() {
            return Decided { verdict, entry, expired };
        }
        if large(&user.body) && (Record { head: next, body: user.body.clone() }).encode().is_err() {
            // No store would take it: the commit never was.
            user.body = before;
            return Decided { verdict: Verdict::try_again(TryAgain::NotReady), entry: None, expired: Vec::new() };
        }
        user.head = next;
        Decided { verdict, entry, expired }
    }

    /// By slot and kind, how often a policy gave no usable answer.
    pub fn faults(&self) -> impl Iterator<Item = (&SlotName, &'static str, u64)> {
        self.faults.iter().map(|((slot, kind), count)| (slot, *kind, *count))
    }

    /// What all calls to policies have cost.
    pub fn burnt(&self) -> Burnt {
        self.stores.burnt()
    }

    pub fn tier(&self) -> &Tier {
        &self.tier
    }
}

/// The charge at `place` of the commit that writes `head`.
fn name(head: Head, place: usize) -> ChargeId {
    ChargeId { epoch: head.epoch, fence: head.fence, version: head.version, place: place as u32 }
}

/// Whether the record may be near the most that is ever written, so that it has to be measured: what is left
/// out of this sum has less than a quarter of that.
fn large(body: &RecordBody) -> bool {
    let states: usize = body.slots.iter().map(|slot| slot.state.len()).sum();
    let settings: usize = body.overrides.iter().map(|held| held.settings.len()).sum();
    states + settings + body.reservations.len() * 128 > RECORD_BYTES_MAX / 2
}

fn said(decision: Decision, charge: ChargeId) -> (Verdict, Option<LedgerCheck>) {
    match decision {
        Decision::Admit { answer, charged, degraded } => {
            let (at, key) = (answer.at, None);
            let entry =
                LedgerCheck { charge, at, act: charged.act, charges: charged.charges, takes: charged.takes, key };
            (Verdict::Admitted { answer, replayed: false, degraded }, Some(entry))
        }
        Decision::Deny { denial, degraded } => (Verdict::Denied { denial, degraded }, None),
        Decision::Look(answer) => (Verdict::Seen { answer, degraded: None }, None),
        Decision::Free(answer) => (Verdict::Admitted { answer, replayed: false, degraded: None }, None),
        Decision::Refuse(Refusal::Undrained { .. }) => (Verdict::Refused(Refusal::UnknownCharge), None),
        Decision::Refuse(refusal) => (Verdict::Refused(refusal), None),
    }
}
