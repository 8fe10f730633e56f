//! What is counted of tiers and policies, for whoever scrapes: read from the tiers in force when it is asked for.
//!
//! So every series stands at zero from the moment its tier comes into force, and goes with it. A catalog may have as
//! many tiers as somebody writes: what is beyond the bounds here is counted together, under `other`.

use super::{Difference, RolloutWatch, Variant, Verdict};
use crate::metrics::{QuotaMetrics, TIERS_SHOWN_MAX, UNKNOWN_TIER};
use crate::tiers::{Tier, TierSet, TierSlot};
use cellar_metrics::{BoundedFamily, LabelOverflow, OTHER};
use cellar_model::TierName;
use cellar_policy_host::{FUEL_CLASSES, Fault, Policy};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use tokio::sync::watch;

/// Digits of an artifact's digest: enough to tell two versions apart.
const DIGEST_DIGITS: usize = 12;
/// Slots, of candidates too, that have series of their own: of some forty tiers. Each has one for every kind of
/// fault.
const SLOTS_SHOWN_MAX: usize = 128;
/// Artifacts that have a histogram of their own.
const ARTIFACTS_SHOWN_MAX: usize = 64;

/// Registers what is counted of the tiers in force.
pub fn register(
    registry: &mut Registry,
    overflow: &LabelOverflow,
    tiers: watch::Receiver<Arc<TierSet>>,
    metrics: &QuotaMetrics,
) {
    let hidden = Hidden {
        slots: overflow.of("cellar_policy_faults"),
        artifacts: overflow.of("cellar_policy_fuel"),
        candidates: overflow.of("cellar_rollout_decisions"),
    };
    registry.register_collector(Box::new(InForce { tiers, shed: metrics.shed.clone(), hidden }));
}

struct InForce {
    tiers: watch::Receiver<Arc<TierSet>>,
    shed: BoundedFamily<1, Counter>,
    hidden: Hidden,
}

/// What had no series of its own, counted at every scrape.
struct Hidden {
    slots: Counter,
    artifacts: Counter,
    candidates: Counter,
}

impl fmt::Debug for InForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InForce")
    }
}

impl Collector for InForce {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let set = self.tiers.borrow().clone();
        let mut tiers: Vec<&Tier> = set.all().collect();
        tiers.sort_by(|a, b| a.document.name.cmp(&b.document.name));
        let slots = Slots::of(&tiers);
        self.hidden.slots.inc_by(slots.hidden.len() as u64);
        let help = "Policies that trapped, looped or lied.";
        faults(&slots, encoder.encode_descriptor("cellar_policy_faults", help, None, MetricType::Counter)?)?;
        let help = "1 while a policy is not asked, having failed too often in a row: the tier's on_fault answers.";
        breakers(&slots, encoder.encode_descriptor("cellar_policy_breaker_open", help, None, MetricType::Gauge)?)?;
        let help = "Fuel of one call of a policy, at most a million units.";
        let family = encoder.encode_descriptor("cellar_policy_fuel", help, None, MetricType::Histogram)?;
        self.hidden.artifacts.inc_by(fuel(&tiers, family)?);
        let help = "Checks by what a shadow says of them, beside what was answered.";
        shadows(&slots, encoder.encode_descriptor("cellar_shadow_decisions", help, None, MetricType::Counter)?)?;
        let help = "Decisions in tiers that have a candidate, by whose policies.";
        let family = encoder.encode_descriptor("cellar_rollout_decisions", help, None, MetricType::Counter)?;
        self.hidden.candidates.inc_by(decisions(&tiers, family)?);
        let help = "1 where this cell has stopped the tier's candidate by itself.";
        stopped(&tiers, encoder.encode_descriptor("cellar_rollout_stopped", help, None, MetricType::Gauge)?)?;
        self.shed_by(&tiers);
        let help = "Checks refused early because the shard has a backlog, by tier; unknown: nobody knew it yet.";
        self.shed.encode(encoder.encode_descriptor("cellar_quota_shed", help, None, MetricType::Counter)?)
    }
}

impl InForce {
    /// The tiers there are, each from 0 on.
    fn shed_by(&self, tiers: &[&Tier]) {
        let name_of = |tier: &&Tier| tier.document.name.clone();
        let names: HashSet<TierName> = tiers.iter().map(name_of).collect();
        self.shed.retain(|[tier]| tier == UNKNOWN_TIER || names.iter().any(|name| name.as_str() == tier));
        let first = tiers.iter().take(TIERS_SHOWN_MAX - 1).map(|tier| tier.document.name.as_str());
        first.chain([UNKNOWN_TIER]).for_each(|tier| drop(self.shed.get([tier])));
    }
}

/// A slot of a tier's variant.
type Slot<'t> = (&'t str, Variant, &'t TierSlot);

/// Every slot in force, of candidates too.
struct Slots<'t> {
    shown: Vec<Slot<'t>>,
    hidden: Vec<Slot<'t>>,
}

impl<'t> Slots<'t> {
    fn of(tiers: &'t [&'t Tier]) -> Self {
        let mut shown: Vec<Slot<'t>> = slots(tiers).collect();
        let hidden = shown.split_off(shown.len().min(SLOTS_SHOWN_MAX));
        Self { shown, hidden }
    }
}

fn slots<'t>(tiers: &'t [&'t Tier]) -> impl Iterator<Item = Slot<'t>> {
    tiers.iter().flat_map(|tier| {
        let name = tier.document.name.as_str();
        tier.variants().flat_map(move |(variant, slots)| slots.iter().map(move |slot| (name, variant, slot)))
    })
}

fn faults(slots: &Slots<'_>, mut encoder: MetricEncoder<'_>) -> fmt::Result {
    for (tier, variant, slot) in &slots.shown {
        let (description, digest) = (slot.policy.description(), digest(&slot.policy));
        for (kind, count) in slot.counts.faults() {
            let labels = [
                ("tier", *tier),
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
    for kind in Fault::KINDS.into_iter().filter(|_| !slots.hidden.is_empty()) {
        let of_kind = |slot: &TierSlot| slot.counts.faults().find(|(of, _)| *of == kind).map_or(0, |(_, count)| count);
        let count = slots.hidden.iter().map(|(_, _, slot)| of_kind(slot)).sum();
        let names = ["tier", "variant", "slot", "policy", "version", "digest"].map(|name| (name, OTHER));
        let labels: Vec<(&str, &str)> = names.into_iter().chain([("kind", kind)]).collect();
        counter(encoder.encode_family(&labels)?, count)?;
    }
    Ok(())
}

fn breakers(slots: &Slots<'_>, mut encoder: MetricEncoder<'_>) -> fmt::Result {
    let mut gauge = |tier: &str, variant: &str, slot: &str, open: bool| {
        let labels = [("tier", tier), ("variant", variant), ("slot", slot)];
        encoder.encode_family(&labels)?.encode_gauge(&i64::from(open))
    };
    for (tier, variant, slot) in &slots.shown {
        gauge(tier, variant.as_str(), slot.slot.as_str(), slot.policy.is_left_alone())?;
    }
    match &slots.hidden[..] {
        [] => Ok(()),
        hidden => gauge(OTHER, OTHER, OTHER, hidden.iter().any(|(_, _, slot)| slot.policy.is_left_alone())),
    }
}

/// A histogram an artifact, whichever slots decide by it. How many there was no room for.
fn fuel(tiers: &[&Tier], mut encoder: MetricEncoder<'_>) -> Result<u64, fmt::Error> {
    let mut said = HashSet::new();
    let policies = slots(tiers).map(|(_, _, slot)| &*slot.policy);
    let policies: Vec<&Policy> = policies.filter(|policy| said.insert(policy.digest())).collect();
    let (shown, hidden) = policies.split_at(policies.len().min(ARTIFACTS_SHOWN_MAX));
    for policy in shown {
        let (description, digest) = (policy.description(), digest(policy));
        let labels =
            [("policy", description.name.as_str()), ("version", &description.version), ("digest", digest.as_str())];
        burnt(&[policy], encoder.encode_family(&labels)?)?;
    }
    if !hidden.is_empty() {
        let labels = ["policy", "version", "digest"].map(|name| (name, OTHER));
        burnt(hidden, encoder.encode_family(&labels)?)?;
    }
    Ok(hidden.len() as u64)
}

/// One histogram of all of them.
fn burnt(policies: &[&Policy], mut series: MetricEncoder<'_>) -> fmt::Result {
    let bounds = FUEL_CLASSES.iter().map(|most| *most as f64).chain([f64::INFINITY]);
    let mut classes: Vec<(f64, u64)> = bounds.map(|most| (most, 0)).collect();
    let mut sum = 0;
    for policy in policies {
        sum += policy.fuel().sum();
        classes.iter_mut().zip(policy.fuel().classes()).for_each(|((_, calls), more)| *calls += more);
    }
    let calls = classes.iter().map(|(_, calls)| calls).sum();
    series.encode_histogram::<NoLabelSet>(sum as f64, calls, &classes, None)
}

fn digest(policy: &Policy) -> String {
    let mut digest = hex::encode(policy.digest().0);
    digest.truncate(DIGEST_DIGITS);
    digest
}

fn shadows(slots: &Slots<'_>, mut encoder: MetricEncoder<'_>) -> fmt::Result {
    for (tier, variant, slot) in slots.shown.iter().filter(|(_, _, slot)| slot.is_shadow()) {
        for difference in Difference::ALL {
            let labels = [
                ("tier", *tier),
                ("variant", variant.as_str()),
                ("slot", slot.slot.as_str()),
                ("difference", difference.as_str()),
            ];
            counter(encoder.encode_family(&labels)?, slot.counts.shadow(difference))?;
        }
    }
    let hidden: Vec<_> = slots.hidden.iter().filter(|(_, _, slot)| slot.is_shadow()).collect();
    for difference in Difference::ALL.into_iter().filter(|_| !hidden.is_empty()) {
        let labels = [("tier", OTHER), ("variant", OTHER), ("slot", OTHER), ("difference", difference.as_str())];
        let count = hidden.iter().map(|(_, _, slot)| slot.counts.shadow(difference)).sum();
        counter(encoder.encode_family(&labels)?, count)?;
    }
    Ok(())
}

fn candidates<'t>(tiers: &'t [&'t Tier]) -> impl Iterator<Item = (&'t str, &'t RolloutWatch)> {
    tiers.iter().filter_map(|tier| Some((tier.document.name.as_str(), &*tier.candidate.as_ref()?.watch)))
}

/// How many tiers with a candidate there was no room for.
fn decisions(tiers: &[&Tier], mut encoder: MetricEncoder<'_>) -> Result<u64, fmt::Error> {
    let each = || Variant::ALL.into_iter().flat_map(|variant| Verdict::ALL.map(|verdict| (variant, verdict)));
    for (tier, watch) in candidates(tiers).take(TIERS_SHOWN_MAX) {
        for (variant, verdict) in each() {
            let labels = [("tier", tier), ("variant", variant.as_str()), ("verdict", verdict.as_str())];
            counter(encoder.encode_family(&labels)?, watch.count(variant, verdict))?;
        }
    }
    let hidden: Vec<&RolloutWatch> = candidates(tiers).skip(TIERS_SHOWN_MAX).map(|(_, watch)| watch).collect();
    for (variant, verdict) in each().filter(|_| !hidden.is_empty()) {
        let labels = [("tier", OTHER), ("variant", variant.as_str()), ("verdict", verdict.as_str())];
        let count = hidden.iter().map(|watch| watch.count(variant, verdict)).sum();
        counter(encoder.encode_family(&labels)?, count)?;
    }
    Ok(hidden.len() as u64)
}

fn stopped(tiers: &[&Tier], mut encoder: MetricEncoder<'_>) -> fmt::Result {
    for (tier, watch) in candidates(tiers).take(TIERS_SHOWN_MAX) {
        let stopped = i64::from(watch.stopped().is_some());
        encoder.encode_family(&[("tier", tier)])?.encode_gauge(&stopped)?;
    }
    let mut hidden = candidates(tiers).skip(TIERS_SHOWN_MAX).map(|(_, watch)| watch).peekable();
    if hidden.peek().is_some() {
        let stopped = i64::from(hidden.any(|watch| watch.stopped().is_some()));
        encoder.encode_family(&[("tier", OTHER)])?.encode_gauge(&stopped)?;
    }
    Ok(())
}

fn counter(mut encoder: MetricEncoder<'_>, count: u64) -> fmt::Result {
    encoder.encode_counter::<NoLabelSet, _, u64>(&count, None)
}
