//! Which policies fault, for whoever says how the cell is.

use super::Variant;
use crate::tiers::TierSet;
use cellar_model::OnFault;

/// A slot's policy, and how often it has faulted since the slot came into force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotFaults {
    /// `pro/per-minute`, of a candidate `pro/per-minute (candidate)`.
    pub slot: String,
    /// `gcra 1.0.0`
    pub policy: String,
    pub faults: u64,
    /// It has failed so often that it is hardly asked any more.
    pub left_alone: bool,
    /// It only says what it would do.
    pub shadow: bool,
    /// What its users are answered then: denied, or else admitted.
    pub denies: bool,
}

/// Of every slot in force.
pub fn faults(tiers: &TierSet) -> Vec<SlotFaults> {
    let of_tier = |tier: &crate::tiers::Tier| {
        let (name, denies) = (tier.document.name.clone(), tier.document.on_fault == OnFault::Deny);
        let slots = tier.variants().flat_map(|(variant, slots)| slots.iter().map(move |slot| (variant, slot)));
        let slots = slots.map(move |(variant, slot)| {
            let of = if variant == Variant::Candidate { " (candidate)" } else { "" };
            let description = slot.policy.description();
            SlotFaults {
                slot: format!("{name}/{}{of}", slot.slot),
                policy: format!("{} {}", description.name, description.version),
                faults: slot.counts.faults().map(|(_, count)| count).sum(),
                left_alone: slot.policy.is_left_alone(),
                shadow: slot.is_shadow(),
                denies,
            }
        });
        slots.collect::<Vec<_>>()
    };
    tiers.all().flat_map(of_tier).collect()
}
