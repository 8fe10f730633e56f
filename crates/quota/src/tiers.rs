//! Tiers made ready: documents of the catalog, with each policy's artifact loaded and its settings
//! compiled to the parameters it decides by.

use crate::record::Taker;
use cellar_model::{PolicyMode, RevisedTier, Revision, SettingProblem, SlotName, TierDocument, TierName, Unit};
use cellar_policy_host::{ConfigureError, Policy};
use std::collections::HashMap;
use std::sync::Arc;

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
}

pub struct TierSlot {
    pub slot: SlotName,
    pub unit: Unit,
    pub mode: PolicyMode,
    pub policy: Arc<Policy>,
    pub parameters: Vec<u8>,
    /// Names what this slot took, in charges.
    pub taker: Taker,
}

/// Why a tier cannot be made ready: all of it at once, by pointer into the document.
#[derive(Debug, Clone, thiserror::Error)]
#[error("tier {tier} is not fit: {}", .problems.iter().map(|p| format!("{}: {}", p.pointer, p.message)).collect::<Vec<_>>().join("; "))]
pub struct TierCompileError {
    pub tier: TierName,
    pub problems: Vec<SettingProblem>,
}

impl Tier {
    pub(crate) fn has_slot(&self, name: &SlotName) -> bool {
        self.slots.iter().any(|slot| slot.slot == *name)
    }

    /// Makes `tier` ready. `policy` finds the artifact that a reference of the document means.
    pub fn compile(
        tier: &RevisedTier,
        mut policy: impl FnMut(&cellar_model::PolicyRef) -> Option<Arc<Policy>>,
    ) -> Result<Self, TierCompileError> {
        let mut problems = Vec::new();
        let mut slots = Vec::with_capacity(tier.document.policies.len());
        for (n, entry) in tier.document.policies.iter().enumerate() {
            let Some(policy) = policy(&entry.policy) else {
                let message = format!("there is no policy {}", entry.policy);
                problems.push(SettingProblem { pointer: format!("/policy/{n}/use"), message });
                continue;
            };
            match policy.configure(&entry.settings.to_string()) {
                Ok(parameters) => slots.push(TierSlot {
                    taker: Taker::of(&entry.slot, &policy.description().name, &entry.unit),
                    slot: entry.slot.clone(),
                    unit: entry.unit.clone(),
                    mode: entry.mode,
                    policy,
                    parameters,
                }),
                Err(ConfigureError::Refused(refused)) => {
                    problems.extend(refused.into_iter().map(|problem| SettingProblem {
                        pointer: format!("/policy/{n}/settings{}", problem.pointer),
                        message: problem.message,
                    }));
                }
                Err(other) => problems
                    .push(SettingProblem { pointer: format!("/policy/{n}/settings"), message: other.to_string() }),
            }
        }
        if !problems.is_empty() {
            return Err(TierCompileError { tier: tier.document.name.clone(), problems });
        }
        Ok(Self { revision: tier.revision, document: tier.document.clone(), slots })
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

    pub fn get(&self, name: &TierName) -> Option<&Arc<Tier>> {
        self.tiers.get(name)
    }

    pub fn names(&self) -> impl Iterator<Item = &TierName> {
        self.tiers.keys()
    }
}
