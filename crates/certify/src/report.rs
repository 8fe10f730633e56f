//! What was found, for people and for machines.

use crate::fingerprint::Fingerprint;
use crate::fuel::Fuel;
use crate::promise::Promise;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What became of one property.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verdict")]
pub enum Verdict {
    Holds {
        cases: u32,
    },
    Broken {
        counterexample: String,
    },
    /// The policy says that it is not meant to hold.
    Waived,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub property: String,
    pub sentence: String,
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// The certificate's content: what was tested, how, and what came of it. Equal on every machine for the same
/// component and plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub name: String,
    pub version: String,
    /// Of the component; none for a policy that is none.
    pub digest: Option<String>,
    pub promises: Vec<Promise>,
    pub seed: u64,
    pub cases: u32,
    pub findings: Vec<Finding>,
    /// The most fuel that any call of all histories burnt.
    pub fuel_most: u64,
    /// The most that a search for it found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuel: Option<Fuel>,
    /// What it answers to a fixed set of histories, whatever the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
    /// The artifact before it, whose states it reads and which reads its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<String>,
}

impl Report {
    /// Whether nothing was broken.
    pub fn certified(&self) -> bool {
        !self.findings.iter().any(|finding| matches!(finding.verdict, Verdict::Broken { .. }))
    }

    pub fn broken(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| matches!(finding.verdict, Verdict::Broken { .. }))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {}", self.name, self.version)?;
        for finding in &self.findings {
            let Finding { property, sentence, verdict } = finding;
            match verdict {
                Verdict::Holds { .. } => writeln!(f, "  holds    {property:<20} {sentence}")?,
                Verdict::Waived => writeln!(f, "  waived   {property:<20} {sentence}")?,
                Verdict::Broken { counterexample } => {
                    writeln!(f, "  BROKEN   {property:<20} {sentence}\n{counterexample}")?;
                }
            }
        }
        for promise in &self.promises {
            writeln!(f, "  promise  {}", promise.sentence())?;
        }
        if self.promises.is_empty() {
            writeln!(f, "  it promises nothing over time: only instants were held against its limit")?;
        }
        if let Some(previous) = &self.previous {
            writeln!(f, "  held against the version before it, {previous}")?;
        }
        if let Some(fuel) = &self.fuel {
            write!(f, "{fuel}")?;
        }
        if let Some(fingerprint) = &self.fingerprint {
            writeln!(f, "  {fingerprint}")?;
        }
        write!(
            f,
            "  {} cases a property, seed {}; at most {} units of fuel a call",
            self.cases, self.seed, self.fuel_most
        )
    }
}
