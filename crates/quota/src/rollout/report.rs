//! What is counted of shadows and candidates, for operators.

use super::{Candidate, Difference, Variant, Verdict};
use crate::tiers::{Tier, TierSet};
use cellar_model::wire::{ProcessDecisions, RolloutDecisions, ShadowDecisions, TierDecisions, VariantDecisions};

/// Of every tier in force that has a shadow or a candidate.
pub fn report(tiers: &TierSet) -> ProcessDecisions {
    let mut reported: Vec<TierDecisions> = tiers.all().filter_map(of_tier).collect();
    reported.sort_by(|a, b| a.tier.cmp(&b.tier));
    ProcessDecisions { tiers: reported }
}

fn of_tier(tier: &Tier) -> Option<TierDecisions> {
    let shadows: Vec<ShadowDecisions> =
        tier.variants().flat_map(|(variant, slots)| of_shadows(variant, slots)).collect();
    let rollout = tier.candidate.as_ref().map(of_candidate);
    let (name, revision) = (tier.document.name.clone(), tier.revision);
    (rollout.is_some() || !shadows.is_empty()).then_some(TierDecisions { tier: name, revision, shadows, rollout })
}

fn of_shadows(variant: Variant, slots: &[crate::tiers::TierSlot]) -> impl Iterator<Item = ShadowDecisions> {
    slots.iter().filter(|slot| slot.is_shadow()).map(move |slot| {
        let description = slot.policy.description();
        ShadowDecisions {
            variant: variant.as_str().to_owned(),
            slot: slot.slot.clone(),
            policy: description.name.clone(),
            version: description.version.clone(),
            none: slot.counts.shadow(Difference::None),
            would_deny: slot.counts.shadow(Difference::WouldDeny),
            would_admit: slot.counts.shadow(Difference::WouldAdmit),
            fault: slot.counts.shadow(Difference::Fault),
        }
    })
}

fn of_candidate(candidate: &Candidate) -> RolloutDecisions {
    let watch = &candidate.watch;
    let of = |variant| VariantDecisions {
        admitted: watch.count(variant, Verdict::Admitted),
        denied: watch.count(variant, Verdict::Denied),
        faulted: watch.count(variant, Verdict::Faulted),
    };
    RolloutDecisions {
        percent: candidate.percent,
        here: candidate.here,
        held: candidate.held,
        stopped: watch.stopped().map(str::to_owned),
        current: of(Variant::Current),
        candidate: of(Variant::Candidate),
    }
}
