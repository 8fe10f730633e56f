//! Tiers made ready: documents of the catalog, with each policy's artifact loaded and its settings
//! compiled to the parameters it decides by.

use crate::decisions::Told;
use crate::record::{SlotState, Taker};
use crate::rollout::{Candidate, RolloutWatch, SlotCounts, Variant};
use cellar_model::{
    CellName, PolicyMode, PolicyRef, RevisedTier, Revision, SettingProblem, SlotName, TierDocument, TierName,
    TierPolicy, Unit, WavePoint,
};
use cellar_policy_host::{ConfigureError, Fault, Policy};
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// Every tier of one catalog revision. A new catalog is a new set.
#[derive(Default)]
pub struct TierSet {
    pub revision: Revision,
    tiers: HashMap<TierName, Arc<Tier>>,
}

/// One tier, ready to decide.
pub struct Tier {
    pub revision: Revision,
    pub document: TierDocument,
    /// In the document's order, at most `POLICIES_MAX`.
    pub slots: Vec<TierSlot>,
    /// Slots that the tier's other variant has beside these: what they took is still closed, and their states
    /// are kept, for a user may change sides with every stop and every wave.
    pub(crate) beside: Vec<TierSlot>,
    pub(crate) candidate: Option<Candidate>,
    /// Counts this variant's decisions, while there are two.
    pub(crate) watch: Option<(Arc<RolloutWatch>, Variant)>,
    /// For decisions that are kept: made by the first.
    told: OnceLock<Arc<Told>>,
}

#[derive(Clone)]
pub struct TierSlot {
    pub slot: SlotName,
    pub unit: Unit,
    pub mode: PolicyMode,
    pub policy: Arc<Policy>,
    pub parameters: Vec<u8>,
    /// Names what this slot took, in charges.
    pub taker: Taker,
    pub(crate) counts: Arc<SlotCounts>,
}

impl TierSlot {
    pub(crate) fn is_shadow(&self) -> bool {
        self.mode == PolicyMode::Shadow
    }

    /// Whether `state` is what this slot reads and writes.
    pub(crate) fn keeps(&self, state: &SlotState) -> bool {
        self.slot == state.slot && self.policy.description().name == state.policy
    }

    /// Counts a fault. Said at the first of a kind, the second, the fourth and so on: a policy that always
    /// traps must not fill the log.
    pub(crate) fn report(&self, fault: &Fault) {
        let count = self.counts.faulted(fault);
        if count.is_power_of_two() {
            let (policy, kind) = (&self.policy, fault.kind());
            tracing::warn!(?policy, slot = %self.slot, kind, count, error = %fault, "policy fault");
        }
    }

    /// Whether what was counted of `before` goes on here.
    fn continues(&self, before: &TierSlot) -> bool {
        self.slot == before.slot
            && self.mode == before.mode
            && self.policy.digest() == before.policy.digest()
            && self.parameters == before.parameters
    }
}

/// Why a tier cannot be made ready: all of it at once, by pointer into the document.
#[derive(Debug, Clone, thiserror::Error)]
#[error("tier {tier} is not fit: {}", .problems.iter().map(|p| format!("{}: {}", p.pointer, p.message)).collect::<Vec<_>>().join("; "))]
pub struct TierCompileError {
    pub tier: TierName,
    pub problems: Vec<SettingProblem>,
}

impl Tier {
    pub(crate) fn new(revision: Revision, document: TierDocument, slots: Vec<TierSlot>) -> Self {
        Self { revision, document, slots, beside: Vec::new(), candidate: None, watch: None, told: OnceLock::new() }
    }

    /// What it is, for whoever asks later by what a check was decided.
    pub(crate) fn told(&self) -> Arc<Told> {
        let candidate = || matches!(self.watch, Some((_, Variant::Candidate)));
        self.told.get_or_init(|| Arc::new(Told::of(self, candidate()))).clone()
    }

    /// Whether a user of this tier, in whichever variant, is decided by `state`.
    pub(crate) fn keeps(&self, state: &SlotState) -> bool {
        self.all_slots().any(|slot| slot.keeps(state))
    }

    /// The slots that decide here, then those that decide for the tier's other users.
    pub(crate) fn all_slots(&self) -> impl Iterator<Item = &TierSlot> {
        self.slots.iter().chain(&self.beside)
    }

    /// The sets of policies that decide its users, one or two.
    pub(crate) fn variants(&self) -> impl Iterator<Item = (Variant, &[TierSlot])> {
        let candidate = self.candidate.as_ref().map(|candidate| (Variant::Candidate, &candidate.tier.slots[..]));
        std::iter::once((Variant::Current, &self.slots[..])).chain(candidate)
    }

    /// Makes `tier` ready. `policy` finds the artifact that a reference of the document means.
    pub fn compile(
        tier: &RevisedTier,
        mut policy: impl FnMut(&PolicyRef) -> Option<Arc<Policy>>,
    ) -> Result<Self, TierCompileError> {
        let (document, mut problems) = (&tier.document, Vec::new());
        let slots = compile_slots(&document.policies, "", &mut policy, &mut problems);
        let rollout = document.rollout.as_ref().zip(document.candidate());
        let rollout = rollout.map(|(rollout, document)| {
            let slots = compile_slots(&rollout.policies, "/rollout", &mut policy, &mut problems);
            (rollout, Tier::new(tier.revision, document, slots))
        });
        if !problems.is_empty() {
            return Err(TierCompileError { tier: document.name.clone(), problems });
        }
        let mut ready = Self::new(tier.revision, document.clone(), slots);
        if let Some((rollout, mut candidate)) = rollout {
            let watch = Arc::new(RolloutWatch::new(rollout.stop));
            ready.beside = beside(&candidate.slots, &ready.slots);
            candidate.beside = beside(&ready.slots, &candidate.slots);
            ready.watch = Some((watch.clone(), Variant::Current));
            candidate.watch = Some((watch.clone(), Variant::Candidate));
            ready.candidate = Some(Candidate::new(candidate, rollout, watch));
        }
        Ok(ready)
    }

    /// As `cell` has it, after `before`: a candidate may be meant for other cells, and what is counted goes on
    /// where nothing has changed. A candidate that was stopped stays so under its revision.
    pub fn enter(mut self, cell: &CellName, before: Option<&Tier>) -> Self {
        if let (Some(candidate), Some(rollout)) = (&mut self.candidate, &self.document.rollout) {
            candidate.enter(cell, rollout);
        }
        if let Some(before) = before {
            self.go_on_from(before);
        }
        self
    }

    fn go_on_from(&mut self, before: &Tier) {
        go_on(&mut self.slots, &before.slots);
        let Some(candidate) = &mut self.candidate else { return };
        if let Some(earlier) = &before.candidate {
            go_on(&mut candidate.tier.slots, &earlier.tier.slots);
            if self.revision == before.revision {
                self.watch = Some((earlier.watch.clone(), Variant::Current));
                candidate.tier.watch = Some((earlier.watch.clone(), Variant::Candidate));
                candidate.watch = earlier.watch.clone();
            }
        }
        // What each side has of the other counts with it.
        self.beside = beside(&candidate.tier.slots, &self.slots);
        candidate.tier.beside = beside(&self.slots, &candidate.tier.slots);
    }

    /// Whether any policy meters `unit`. Every tier takes requests.
    pub(crate) fn meters(&self, unit: &Unit) -> bool {
        *unit == Unit::requests() || self.document.policies.iter().any(|policy| policy.unit == *unit)
    }
}

impl TierSet {
    pub fn new(revision: Revision, tiers: impl IntoIterator<Item = Arc<Tier>>) -> Self {
        let tiers = tiers.into_iter().map(|tier| (tier.document.name.clone(), tier)).collect();
        Self { revision, tiers }
    }

    /// The tier as most of its users have it.
    pub fn get(&self, name: &TierName) -> Option<&Arc<Tier>> {
        self.tiers.get(name)
    }

    /// The tier as the user who stands there has it.
    pub(crate) fn of(&self, name: &TierName, user: WavePoint) -> Option<&Tier> {
        let tier = self.tiers.get(name)?;
        match &tier.candidate {
            Some(candidate) if candidate.decides(user) => Some(&candidate.tier),
            _ => Some(tier),
        }
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Tier> {
        self.tiers.values().map(|tier| &**tier)
    }

    pub fn names(&self) -> impl Iterator<Item = &TierName> {
        self.tiers.keys()
    }
}

fn compile_slots(
    policies: &[TierPolicy],
    at: &str,
    policy: &mut impl FnMut(&PolicyRef) -> Option<Arc<Policy>>,
    problems: &mut Vec<SettingProblem>,
) -> Vec<TierSlot> {
    let mut slots = Vec::with_capacity(policies.len());
    for (n, entry) in policies.iter().enumerate() {
        let Some(policy) = policy(&entry.policy) else {
            let message = format!("there is no policy {}", entry.policy);
            problems.push(SettingProblem { pointer: format!("{at}/policy/{n}/use"), message });
            continue;
        };
        match policy.configure(&entry.settings.to_string()) {
            Ok(parameters) => slots.push(TierSlot {
                taker: Taker::of(&entry.slot, &policy.description().name, &entry.unit),
                slot: entry.slot.clone(),
                unit: entry.unit.clone(),
                mode: entry.mode,
                policy: policy.apart(),
                parameters,
                counts: Arc::default(),
            }),
            Err(ConfigureError::Refused(refused)) => {
                problems.extend(refused.into_iter().map(|problem| SettingProblem {
                    pointer: format!("{at}/policy/{n}/settings{}", problem.pointer),
                    message: problem.message,
                }));
            }
            Err(other) => problems
                .push(SettingProblem { pointer: format!("{at}/policy/{n}/settings"), message: other.to_string() }),
        }
    }
    slots
}

/// Those of `others` that take under another name than each of `own`.
fn beside(others: &[TierSlot], own: &[TierSlot]) -> Vec<TierSlot> {
    others.iter().filter(|other| own.iter().all(|slot| slot.taker != other.taker)).cloned().collect()
}

/// Goes on counting where `before` is, and keeps from asking what it keeps from.
fn go_on(slots: &mut [TierSlot], before: &[TierSlot]) {
    for slot in slots {
        if let Some(earlier) = before.iter().find(|earlier| slot.continues(earlier)) {
            (slot.counts, slot.policy) = (earlier.counts.clone(), earlier.policy.clone());
        }
    }
}
