//! The tier document: which policies decide, in what order, with what settings.

use crate::{PolicyName, Revision, Rollout, SlotName, TierName, Unit};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The most policies a tier may name: what bounds the work of one check and the size of a record.
pub const POLICIES_MAX: usize = 8;
/// The largest artifact of a policy: what a host lets in, and so what a catalog takes. A policy in Rust
/// with its settings schema has about 150 KiB.
pub const ARTIFACT_BYTES_MAX: usize = 2 * 1024 * 1024;

/// A named, revised document. Written as TOML by operators, kept as JSON in the catalog.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierDocument {
    pub name: TierName,
    /// When an admission is answered. Stronger means later.
    #[serde(default)]
    pub ack: Ack,
    #[serde(default)]
    pub on_fault: OnFault,
    #[serde(default)]
    pub on_unavailable: OnUnavailable,
    /// When a backlog makes a cell refuse some of its checks at once, whose.
    #[serde(default)]
    pub shed: Shed,
    #[serde(default)]
    pub on_expiry: OnExpiry,
    /// Seconds for which a repeated idempotency key gets its first answer; at most a day.
    #[serde(default = "default_window_s")]
    pub idempotency_window_s: u32,
    #[serde(rename = "policy", default)]
    pub policies: Vec<TierPolicy>,
    /// What some users are decided by instead, to see how it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
}

fn default_window_s() -> u32 {
    3_600
}

/// One policy of a tier.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierPolicy {
    /// The name in answers and headers, and what a user's state is kept under.
    pub slot: SlotName,
    #[serde(rename = "use")]
    pub policy: PolicyRef,
    pub unit: Unit,
    #[serde(default)]
    pub mode: PolicyMode,
    #[serde(default)]
    pub settings: serde_json::Value,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyMode {
    #[default]
    Enforce,
    /// Evolves its own state on the admitted traffic and never binds.
    Shadow,
}

/// When an admission is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ack {
    /// The commit is in Redis's append-only file.
    #[default]
    Redis,
    /// … and one replica has it.
    Replica,
    /// … and the ledger rows are committed in Postgres.
    Postgres,
}

/// What a check gets when a policy of its tier traps, loops or lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFault {
    #[default]
    Deny,
    Allow,
}

/// What becomes of a reservation that nobody settles. It is the tier's word when it was made that counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnExpiry {
    /// What was reserved stays charged: whoever lost touch may have used it.
    #[default]
    Charge,
    /// It is given back.
    Release,
}

/// How full a shard's queue is when checks of a tier are refused at once with 503 (certainly not charged), so
/// that others are answered in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shed {
    /// From a quarter on.
    Early,
    /// From half on.
    #[default]
    Normal,
    /// When it is full.
    Late,
}

impl Shed {
    /// Of a queue with room for `queue_max`, how many may wait before checks are refused.
    pub fn backlog_max(self, queue_max: usize) -> usize {
        match self {
            Shed::Early => queue_max / 4,
            Shed::Normal => queue_max / 2,
            Shed::Late => queue_max,
        }
    }
}

/// What a check gets when no store can be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUnavailable {
    #[default]
    Deny,
    AllowUpTo(std::collections::BTreeMap<Unit, u64>),
}

/// `gcra@1` (the newest artifact of that major version) or `gcra@sha256:…` (this one).
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PolicyRef {
    pub name: PolicyName,
    pub pin: Pin,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Pin {
    Major(u64),
    Digest([u8; 32]),
}

impl TryFrom<String> for PolicyRef {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let form = || format!("{text:?} is not a policy: write name@1 or name@sha256:<64 hex digits>");
        let (name, pin) = text.split_once('@').ok_or_else(form)?;
        let name = PolicyName::new(name).map_err(|e| e.to_string())?;
        let pin = match pin.strip_prefix("sha256:") {
            Some(digest) => {
                let mut bytes = [0; 32];
                hex::decode_to_slice(digest, &mut bytes).map_err(|_| form())?;
                Pin::Digest(bytes)
            }
            None => Pin::Major(pin.parse().map_err(|_| form())?),
        };
        Ok(Self { name, pin })
    }
}

impl From<PolicyRef> for String {
    fn from(policy: PolicyRef) -> String {
        policy.to_string()
    }
}

impl fmt::Display for PolicyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.pin {
            Pin::Major(major) => write!(f, "{}@{major}", self.name),
            Pin::Digest(digest) => write!(f, "{}@sha256:{}", self.name, hex::encode(digest)),
        }
    }
}

impl fmt::Debug for PolicyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is wrong with a tier document, all of it at once, by JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.problems.iter().map(|p| format!("{}: {}", p.pointer, p.message)).collect::<Vec<_>>().join("\n"))]
pub struct TierError {
    pub problems: Vec<crate::SettingProblem>,
}

impl TierDocument {
    /// Reads a tier file.
    pub fn from_toml(text: &str) -> Result<Self, TierError> {
        let tier: Self = toml::from_str(text)
            .map_err(|e| TierError { problems: vec![crate::SettingProblem::new("", e.to_string().trim())] })?;
        tier.validate()?;
        Ok(tier)
    }

    /// What types cannot say. Settings are for the policy itself to judge.
    pub fn validate(&self) -> Result<(), TierError> {
        let mut problems = Vec::new();
        let mut problem = |pointer: String, message: String| {
            problems.push(crate::SettingProblem { pointer, message });
        };
        if self.policies.is_empty() || self.policies.len() > POLICIES_MAX {
            problem("/policy".into(), format!("a tier names 1 to {POLICIES_MAX} policies"));
        }
        if !(1..=86_400).contains(&self.idempotency_window_s) {
            problem("/idempotency_window_s".into(), "must be 1 to 86400 seconds".into());
        }
        if let OnUnavailable::AllowUpTo(limits) = &self.on_unavailable {
            if limits.is_empty() {
                problem("/on_unavailable/allow_up_to".into(), "names at least one unit, or use deny".into());
            }
            for unit in limits.keys().filter(|unit| !self.policies.iter().any(|policy| policy.unit == **unit)) {
                let message = format!("no policy of this tier meters {unit}");
                problem(format!("/on_unavailable/allow_up_to/{unit}"), message);
            }
        }
        for (n, policy) in self.policies.iter().enumerate() {
            if self.policies[..n].iter().any(|earlier| earlier.slot == policy.slot) {
                problem(format!("/policy/{n}/slot"), format!("{} stands twice", policy.slot));
            }
        }
        let shadows = self.policies.iter().filter(|p| p.mode == PolicyMode::Shadow).count();
        if shadows > 1 {
            problem("/policy".into(), "a tier has at most one shadow policy".into());
        }
        if shadows == self.policies.len() && shadows > 0 {
            problem("/policy".into(), "a tier needs a policy that enforces".into());
        }
        self.rollout_problems(problem);
        if problems.is_empty() { Ok(()) } else { Err(TierError { problems }) }
    }
}

/// A tier as the catalog holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RevisedTier {
    pub revision: Revision,
    pub document: TierDocument,
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRO: &str = r#"
        name = "pro"
        [[policy]]
        slot = "per-minute"
        use  = "gcra@1"
        unit = "requests"
        settings = { limit = 600, period_s = 60, burst = 100 }
        [[policy]]
        slot = "monthly"
        use  = "monthly-bucket@1"
        unit = "tokens"
        settings = { limit = 2000000 }
    "#;

    #[test]
    fn a_tier_file_reads_and_its_json_reads_back() {
        let tier = TierDocument::from_toml(PRO).unwrap();
        assert_eq!(tier.policies[1].policy.to_string(), "monthly-bucket@1");
        assert_eq!(tier.idempotency_window_s, 3_600);
        let json = serde_json::to_string(&tier).unwrap();
        assert_eq!(serde_json::from_str::<TierDocument>(&json).unwrap(), tier);
    }

    #[test]
    fn an_unknown_member_is_named() {
        let error = TierDocument::from_toml("name = \"x\"\nburts = 3").unwrap_err().to_string();
        assert!(error.contains("burts"), "{error}");
    }

    #[test]
    fn all_problems_come_at_once() {
        let twice = format!("idempotency_window_s = 0\n{}", PRO.replace("\"monthly\"", "\"per-minute\""));
        let error = TierDocument::from_toml(&twice).unwrap_err();
        assert_eq!(error.problems.len(), 2, "{error}");
    }
}
