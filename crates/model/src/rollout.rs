//! A candidate: other policies that some of a tier's users are decided by, before all are.

use crate::{CellName, TierDocument, TierError, TierPolicy, UserId};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fmt;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The most cells that a candidate names. More than a world has: whoever means them all names none.
const CELLS_MAX: usize = 1_024;
/// The most decisions that a stop may wait for.
const AFTER_MAX: u32 = 1_000_000;
/// Other than the ring's and the shards', so that a wave has users of every cell and every shard alike.
const WAVE_SEED: u64 = 0x7761_7665;

/// A share, in steps of a hundredth of a percent. Written as a number of percent: `2.5`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Percent(u16);

#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{0} is no share: write 0 to 100, with two decimals at most")]
pub struct PercentError(f64);

impl Percent {
    pub const ALL: Percent = Percent(10_000);

    /// Of a hundred.
    pub const fn whole(percent: u8) -> Self {
        Self(if percent < 100 { percent as u16 * 100 } else { 10_000 })
    }

    /// Whether `part` of `all` is a larger share. Nothing of nothing is none.
    pub fn is_exceeded_by(self, part: u64, all: u64) -> bool {
        u128::from(part) * 10_000 > u128::from(all) * u128::from(self.0)
    }
}

impl TryFrom<f64> for Percent {
    type Error = PercentError;
    fn try_from(percent: f64) -> Result<Self, PercentError> {
        let steps = (percent * 100.0).round();
        // What has a third decimal is not what it would be rounded to.
        if !(0.0..=100.0).contains(&percent) || (steps / 100.0 - percent).abs() > 1e-9 {
            return Err(PercentError(percent));
        }
        Ok(Self(steps as u16))
    }
}

impl From<Percent> for f64 {
    fn from(percent: Percent) -> f64 {
        f64::from(percent.0) / 100.0
    }
}

impl std::str::FromStr for Percent {
    type Err = PercentError;
    fn from_str(text: &str) -> Result<Self, PercentError> {
        text.parse().map_err(|_| PercentError(f64::NAN)).and_then(|percent: f64| percent.try_into())
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", f64::from(*self))
    }
}

/// Where a user stands in every wave: the same on every machine, and in every tier.
///
/// **Invariant:** who is in at some percent is in at any larger one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WavePoint(pub u64);

impl WavePoint {
    pub fn is_in(self, percent: Percent) -> bool {
        self.0 % 10_000 < u64::from(percent.0)
    }
}

impl UserId {
    pub fn wave(&self) -> WavePoint {
        WavePoint(xxh3_64_with_seed(self.as_str().as_bytes(), WAVE_SEED))
    }
}

/// Which of a tier's users the candidate decides, and when that ends by itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollout {
    pub percent: Percent,
    /// None named: all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cells: Vec<CellName>,
    /// Nobody is decided by it for now; `percent` says how far it had come.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    #[serde(default)]
    pub stop: StopRules,
    #[serde(rename = "policy", default)]
    pub policies: Vec<TierPolicy>,
}

/// What a cell stops a candidate for, by what it has decided itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StopRules {
    /// More than this share of its decisions met a fault.
    pub faults_percent: Percent,
    /// The share of denials differs by more than so many percent from that of the current policies.
    pub denials_percent: Percent,
    /// So many decisions are too few to say.
    pub after: u32,
}

impl Default for StopRules {
    fn default() -> Self {
        Self { faults_percent: Percent::whole(1), denials_percent: Percent::whole(5), after: 200 }
    }
}

impl Rollout {
    pub fn takes_part(&self, cell: &CellName) -> bool {
        self.cells.is_empty() || self.cells.contains(cell)
    }
}

impl TierDocument {
    /// The tier as its candidate's users have it.
    pub fn candidate(&self) -> Option<TierDocument> {
        let rollout = self.rollout.as_ref()?;
        Some(TierDocument { policies: rollout.policies.clone(), rollout: None, ..self.clone() })
    }

    /// What is wrong with a candidate, by pointer.
    pub(crate) fn rollout_problems(&self, mut problem: impl FnMut(String, String)) {
        let (Some(rollout), Some(candidate)) = (&self.rollout, self.candidate()) else { return };
        if let Err(TierError { problems }) = candidate.validate() {
            // The rest is the tier's own, and has been looked at.
            for found in problems.into_iter().filter(|found| found.pointer.starts_with("/policy")) {
                problem(format!("/rollout{}", found.pointer), found.message);
            }
        }
        let states: HashSet<_> =
            self.policies.iter().chain(&rollout.policies).map(|p| (&p.slot, &p.policy.name)).collect();
        if states.len() > crate::POLICIES_MAX {
            let message = format!(
                "slots of the tier and of its candidate with another policy are {} states a user: at most {}",
                states.len(),
                crate::POLICIES_MAX
            );
            problem("/rollout/policy".into(), message);
        }
        if rollout.cells.len() > CELLS_MAX {
            problem("/rollout/cells".into(), format!("names at most {CELLS_MAX} cells, or none for all"));
        }
        if !(1..=AFTER_MAX).contains(&rollout.stop.after) {
            problem("/rollout/stop/after".into(), format!("must be 1 to {AFTER_MAX} decisions"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITH_CANDIDATE: &str = r#"
        name = "pro"
        [[policy]]
        slot = "monthly"
        use  = "monthly-bucket@1"
        unit = "tokens"
        settings = { limit = 1000 }
        [rollout]
        percent = 2.5
        cells = ["eu-1"]
        stop = { faults_percent = 0.5, after = 50 }
        [[rollout.policy]]
        slot = "monthly"
        use  = "monthly-bucket@1"
        unit = "tokens"
        settings = { limit = 2000 }
    "#;

    fn percent(text: &str) -> Percent {
        text.parse().unwrap()
    }

    #[test]
    fn a_candidate_reads_and_reads_back_in_both_forms() {
        let tier = TierDocument::from_toml(WITH_CANDIDATE).unwrap();
        let rollout = tier.rollout.clone().unwrap();
        assert_eq!((rollout.percent, rollout.held), (percent("2.5"), false));
        let stop = StopRules { faults_percent: percent("0.5"), after: 50, ..StopRules::default() };
        assert_eq!(rollout.stop, stop);
        let json = serde_json::to_string(&tier).unwrap();
        assert_eq!(serde_json::from_str::<TierDocument>(&json).unwrap(), tier);
        assert_eq!(TierDocument::from_toml(&toml::to_string_pretty(&tier).unwrap()).unwrap(), tier);
        assert_eq!(tier.candidate().unwrap().policies, rollout.policies);
    }

    #[test]
    fn a_tier_without_a_candidate_is_written_as_ever() {
        let mut tier = TierDocument::from_toml(WITH_CANDIDATE).unwrap();
        tier.rollout = None;
        assert!(!serde_json::to_string(&tier).unwrap().contains("rollout"));
    }

    #[test]
    fn what_is_wrong_with_a_candidate_is_named_in_its_place() {
        let bad = WITH_CANDIDATE.replace("after = 50", "after = 0").replace(
            "[[rollout.policy]]",
            "[[rollout.policy]]\nslot = \"monthly\"\nuse = \"gcra@1\"\nunit = \"tokens\"\n[[rollout.policy]]",
        );
        let error = TierDocument::from_toml(&bad).unwrap_err();
        let pointers: Vec<&str> = error.problems.iter().map(|problem| problem.pointer.as_str()).collect();
        assert_eq!(pointers, ["/rollout/policy/1/slot", "/rollout/stop/after"]);
        for bad in ["percent = 100.5", "percent = -1", "percent = 0.001", "percent = nan"] {
            assert!(TierDocument::from_toml(&WITH_CANDIDATE.replace("percent = 2.5", bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn both_variants_together_have_no_more_states_than_a_record_keeps() {
        let slots = |table: &str, policy: &str| -> String {
            let slot = |n| format!("[[{table}]]\nslot = \"s{n}\"\nuse = \"{policy}@1\"\nunit = \"tokens\"\n");
            (0..5).map(slot).collect()
        };
        let text = |candidate: &str| {
            format!(
                "name = \"t\"\n{}[rollout]\npercent = 1\n{}",
                slots("policy", "a"),
                slots("rollout.policy", candidate)
            )
        };
        assert!(TierDocument::from_toml(&text("a")).is_ok());
        let error = TierDocument::from_toml(&text("b")).unwrap_err();
        assert_eq!(error.problems[0].pointer, "/rollout/policy");
    }

    #[test]
    fn a_larger_wave_has_everyone_of_a_smaller_one_and_about_its_share() {
        let waves = ["0", "0.01", "1", "10", "50", "99.99", "100"].map(percent);
        let mut counts = [0_u32; 7];
        for n in 0..100_000 {
            let point = UserId::new(&format!("eu_{n}")).unwrap().wave();
            let within = waves.map(|wave| point.is_in(wave));
            assert!(within.is_sorted(), "{n} leaves as the wave grows");
            within.iter().zip(&mut counts).for_each(|(is_in, count)| *count += u32::from(*is_in));
        }
        assert_eq!((counts[0], counts[6]), (0, 100_000));
        for (count, expected) in counts[2..5].iter().zip([1_000_i64, 10_000, 50_000]) {
            assert!((i64::from(*count) - expected).abs() < expected / 10, "{count} instead of {expected}");
        }
    }

    #[test]
    fn a_share_is_exceeded_only_by_more() {
        assert!(!Percent::whole(1).is_exceeded_by(2, 200) && Percent::whole(1).is_exceeded_by(3, 200));
        assert!(!Percent::ALL.is_exceeded_by(7, 7) && !Percent::default().is_exceeded_by(0, 0));
    }
}
