//! What the processes of a cell have counted of shadows and candidates.

use crate::{Percent, PolicyName, Revision, SlotName, TierName};
use serde::{Deserialize, Serialize};

/// `GET /admin/v1/decisions` of a cell, and by way of a router of all its processes.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CellDecisions {
    pub processes: Vec<ProcessDecisions>,
}

/// Of one process, since each tier's revision came into force there.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ProcessDecisions {
    pub tiers: Vec<TierDecisions>,
}

/// Of a tier that has a shadow or a candidate.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TierDecisions {
    pub tier: TierName,
    pub revision: Revision,
    pub shadows: Vec<ShadowDecisions>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutDecisions>,
}

/// What a shadow says of the checks that cost something of its unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowDecisions {
    /// `current` or `candidate`.
    pub variant: String,
    pub slot: SlotName,
    pub policy: PolicyName,
    pub version: String,
    /// The same as the policies that enforce.
    pub none: u64,
    /// It denies what they admitted.
    pub would_deny: u64,
    /// It admits what they denied.
    pub would_admit: u64,
    /// Nothing to be trusted: it trapped, looped or lied.
    pub fault: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RolloutDecisions {
    pub percent: Percent,
    /// Whether this cell takes part.
    pub here: bool,
    pub held: bool,
    /// Why this cell stopped the candidate, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    pub current: VariantDecisions,
    pub candidate: VariantDecisions,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VariantDecisions {
    pub admitted: u64,
    pub denied: u64,
    /// A policy trapped, looped or lied, whatever the tier answered then.
    pub faulted: u64,
}

impl VariantDecisions {
    pub fn all(&self) -> u64 {
        self.admitted + self.denied + self.faulted
    }
}
