//! What is counted of policies, for whoever scrapes: read from the tiers in force when it is asked for.
//!
//! So every series stands at zero from the moment its tier comes into force, goes with it, and there are no
//! more of them than the catalog has slots.

use super::{Difference, RolloutWatch, Variant, Verdict};
use crate::tiers::{Tier, TierSet, TierSlot};
use cellar_policy_host::{FUEL_CLASSES, Policy};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use tokio::sync::watch;

/// Digits of an artifact's digest: enough to tell two versions apart.
const DIGEST_DIGITS: usize = 12;

/// Registers what is counted of the tiers in force.
pub fn register(registry: &mut Registry, tiers: watch::Receiver<Arc<TierSet>>) {
    registry.register_collector(Box::new(InForce(tiers)));
}

struct InForce(watch::Receiver<Arc<TierSet>>);

impl fmt::Debug for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InForce")
    }
}

impl Collector for InForce {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let set = self.0.borrow().clone();
        let mut tiers: Vec<&Tier> = set.all().collect();
        tiers.sort_by(|a, b| a.document.name.cmp(&b.document.name));
        let help = "Policies that trapped, looped or lied";
        faults(&tiers, encoder.encode_descriptor("cellar_policy_faults", help, None, MetricType::Counter)?)?;
        let help = "Fuel of one call of a policy, at most a million units";
        fuel(&tiers, encoder.encode_descriptor("cellar_policy_fuel", help, None, MetricType::Histogram)?)?;
        let help = "Checks by what a shadow says of them, beside what was answered";
        shadows(&tiers, encoder.encode_descriptor("cellar_shadow_decisions", help, None, MetricType::Counter)?)?;
        let help = "Decisions in tiers that have a candidate, by whose policies";
        decisions(&tiers, encoder.encode_descriptor("cellar_rollout_decisions", help, None, MetricType::Counter)?)?;
        let help = "1 where this cell has stopped the tier's candidate by itself";
        stopped(&tiers, encoder.encode_descriptor("cellar_rollout_stopped", help, None, MetricType::Gauge)?)
    }
}

/// Every slot in force, of candidates too.
fn slots<'t>(tiers: &'t [&'t Tier]) -> impl Iterator<Item = (&'t str, Variant, &'t TierSlot)> {
    tiers.iter().flat_map(|tier| {
        let name = tier.document.name.as_str();
        tier.variants().flat_map(move |(variant, slots)| slots.iter().map(move |slot| (name, variant, slot)))
    })
}

fn faults(tiers: &[&Tier], mut encoder: MetricEncoder<'_>) -> fmt::Result {
    for (tier, variant, slot) in slots(tiers) {
        let (description, digest) = (slot.policy.description(), digest(&slot.policy));
        for (kind, count) in slot.counts.faults() {
            let labels = [
                ("tier", tier),
                ("variant", variant.as_str()),
                ("slot", slot.slot.as_str()),
                ("policy", description.name.as_str()),
                ("version", &description.version),
                ("digest", &digest),
                ("kind", kind),
            ];
            counter(encoder.encode_family(&labels)?, count)?;
        }
    }
    Ok(())
}

/// A histogram an artifact, whichever slots decide by it.
fn fuel(tiers: &[&Tier], mut encoder: MetricEncoder<'_>) -> fmt::Result {
    let mut said = HashSet::new();
    for (_, _, slot) in slots(tiers).filter(|(_, _, slot)| said.insert(slot.policy.digest())) {
        let (description, digest) = (slot.policy.description(), digest(&slot.policy));
        let labels =
            [("policy", description.name.as_str()), ("version", &description.version), ("digest", digest.as_str())];
        let counts = slot.policy.fuel();
        let bounds = FUEL_CLASSES.iter().map(|most| *most as f64).chain([f64::MAX]);
        let classes: Vec<(f64, u64)> = bounds.zip(counts.classes()).collect();
        let calls = classes.iter().map(|(_, calls)| calls).sum();
        let mut series = encoder.encode_family(&labels)?;
        series.encode_histogram::<NoLabelSet>(counts.sum() as f64, calls, &classes, None)?;
    }
    Ok(())
}

fn digest(policy: &Policy) -> String {
    let mut digest = hex::encode(policy.digest().0);
    digest.truncate(DIGEST_DIGITS);
    digest
}

fn shadows(tiers: &[&Tier], mut encoder: MetricEncoder<'_>) -> fmt::Result {
    for (tier, variant, slot) in slots(tiers).filter(|(_, _, slot)| slot.is_shadow()) {
        for difference in Difference::ALL {
            let labels = [
                ("tier", tier),
                ("variant", variant.as_str()),
                ("slot", slot.slot.as_str()),
                ("difference", difference.as_str()),
            ];
            counter(encoder.encode_family(&labels)?, slot.counts.shadow(difference))?;
        }
    }
    Ok(())
}

fn candidates<'t>(tiers: &'t [&'t Tier]) -> impl Iterator<Item = (&'t str, &'t RolloutWatch)> {
    tiers.iter().filter_map(|tier| Some((tier.document.name.as_str(), &*tier.candidate.as_ref()?.watch)))
}

fn decisions(tiers: &[&Tier], mut encoder: MetricEncoder<'_>) -> fmt::Result {
    for (tier, watch) in candidates(tiers) {
        for (variant, verdict) in Variant::ALL.into_iter().flat_map(|v| Verdict::ALL.map(|verdict| (v, verdict))) {
            let labels = [("tier", tier), ("variant", variant.as_str()), ("verdict", verdict.as_str())];
            counter(encoder.encode_family(&labels)?, watch.count(variant, verdict))?;
        }
    }
    Ok(())
}

fn stopped(tiers: &[&Tier], mut encoder: MetricEncoder<'_>) -> fmt::Result {
    for (tier, watch) in candidates(tiers) {
        let stopped = i64::from(watch.stopped().is_some());
        encoder.encode_family(&[("tier", tier)])?.encode_gauge(&stopped)?;
    }
    Ok(())
}

fn counter(mut encoder: MetricEncoder<'_>, count: u64) -> fmt::Result {
    encoder.encode_counter::<NoLabelSet, _, u64>(&count, None)
}
