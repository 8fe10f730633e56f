//! What became of one request, as a cell's process remembers it.

use crate::{Fence, Micros, Revision, SlotName, TierName, Unit, Version};
use serde::{Deserialize, Serialize};

/// `GET /admin/v1/explain?request_id=…`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Explanations {
    pub processes: Vec<ProcessExplanations>,
}

/// Of one process: what it remembers of the request, and how far back it remembers anything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessExplanations {
    pub cell: String,
    pub kept: usize,
    pub kept_max: usize,
    /// Seconds since the oldest of them; absent while there is none.
    pub reaches_s: Option<f64>,
    pub decisions: Vec<Explained>,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explained {
    /// The end of the id, as logs have it.
    pub user: String,
    /// `consume`, `admit`, …
    pub operation: String,
    pub ago_s: f64,
    pub shard: u16,
    /// `allowed`, `denied`, `seen`, `replayed`, or why there was no answer.
    pub verdict: String,
    /// What an answer that was none says, in a sentence.
    pub why: Option<String>,
    /// The header's word, of a degraded answer.
    pub degraded: Option<String>,
    pub charge_id: Option<String>,
    /// Absent of a check that never came to be decided.
    pub decided: Option<ExplainedDecision>,
    pub queued_us: u64,
    /// Absent, as what follows: there is no answer yet.
    pub decide_us: Option<u64>,
    /// Until a store had it, and a replica or Postgres where the tier wants that.
    pub commit_us: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainedDecision {
    pub tier: TierName,
    pub tier_revision: Revision,
    /// Decided by the tier's candidate.
    pub candidate: bool,
    /// Policy time.
    pub at: Micros,
    /// Of the user's record, before and after.
    pub version: Version,
    pub version_after: Version,
    pub fence: Fence,
    pub policies: Vec<ExplainedPolicy>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainedPolicy {
    pub slot: SlotName,
    pub unit: Unit,
    /// `gcra 1.0.0`
    pub policy: String,
    /// `sha256:…`
    pub digest: String,
    /// It binds nobody.
    pub shadow: bool,
    pub cost: u64,
    pub limit: Option<u64>,
    /// What it said was left before, asked anew for its state of then; absent where that cannot be done any more.
    pub remaining_before: Option<u64>,
    /// What it said was left after the check; absent of a shadow, and where it faulted.
    pub remaining_after: Option<u64>,
    /// The state it decided on, in hexadecimal, as the policy keeps it; absent of one that is longer than is kept.
    pub state_before: Option<String>,
    /// It denied.
    pub bound: bool,
}
