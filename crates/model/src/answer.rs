//! What the quota engine answers, as it travels from cell to router and as it is kept for repeats.

use crate::{Amount, CellName, Epoch, Fence, Micros, Revision, SettingProblem, SlotName, TierName, Unit, Version};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Exactly one of these answers every check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Verdict {
    /// Committed; `replayed` when an earlier call committed it.
    Admitted {
        answer: Answer,
        replayed: bool,
        degraded: Option<Degraded>,
    },
    /// Nothing was written or charged.
    Denied {
        denial: Denial,
        degraded: Option<Degraded>,
    },
    /// What `Peek` found.
    Seen {
        answer: Answer,
        degraded: Option<Degraded>,
    },
    Refused(Refusal),
}

/// The members an allowed and a denied body share. It alone decides the body: what is kept for an
/// idempotency key is this value, and a repeat's body is made from it anew.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    pub charge: Option<ChargeId>,
    pub version: Version,
    pub tier: TierName,
    pub catalog_revision: Revision,
    /// Policy time of the decision: header fields count their seconds from it.
    pub at: Micros,
    pub slots: Vec<SlotAnswer>,
    pub effect: Effect,
}

/// What an answer says beyond what every answer says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Effect {
    /// Charged, or only looked at.
    #[default]
    Plain,
    Reserved {
        expires_at: Micros,
    },
    /// By unit, what was charged above what was left: it had been used already. Never zero.
    Settled {
        overshoot: Vec<(Unit, u64)>,
    },
    Refunded,
    /// A grant or an override is in force.
    Changed,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlotAnswer {
    pub slot: SlotName,
    pub unit: Unit,
    /// The most one call can ever be admitted.
    pub limit: u64,
    pub remaining: u64,
    pub resets_at: Micros,
    /// What is left of grants in force, beside `remaining`.
    pub granted: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Denial {
    pub answer: Answer,
    /// The slots that denied, in the tier's order; never empty.
    pub violated: Vec<SlotName>,
    /// Until the slowest of them would admit the same cost, if nothing else is spent.
    pub retry_after_us: u64,
}

/// Names one admitted charge of one user: where its commit stood. Unique among the user's charges,
/// since a (epoch, fence, version) is committed once.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ChargeId {
    pub epoch: Epoch,
    pub fence: Fence,
    pub version: Version,
    /// Place among the checks of that commit.
    pub place: u32,
}

impl fmt::Display for ChargeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}-{}-{}-{}", self.epoch, self.fence, self.version, self.place)
    }
}

/// Only what `Display` writes, digit for digit: a charge has one name.
impl FromStr for ChargeId {
    type Err = NotACharge;

    fn from_str(text: &str) -> Result<Self, NotACharge> {
        let mut numbers = text.strip_prefix('c').ok_or(NotACharge)?.splitn(4, '-').map(str::parse::<u64>);
        let mut next = || numbers.next().and_then(Result::ok).ok_or(NotACharge);
        let (epoch, fence, version) = (Epoch(next()?), Fence(next()?), Version(next()?));
        let place = u32::try_from(next()?).map_err(|_| NotACharge)?;
        let charge = Self { epoch, fence, version, place };
        if charge.to_string() == text { Ok(charge) } else { Err(NotACharge) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the id of a charge")]
pub struct NotACharge;

impl fmt::Debug for ChargeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which degraded path an answer took; a header and a metric say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Degraded {
    /// A policy faulted and the tier's `on_fault` answered.
    PolicyFault,
    /// Redis is away, and Postgres takes the commits.
    Postgres,
    /// `appendfsync` is not `always`, and the operator allowed that.
    UnsafeAck,
    /// Neither Redis nor Postgres can be asked: allowed by the tier, to be charged later.
    Unavailable,
}

impl Degraded {
    pub const ALL: [Degraded; 4] =
        [Degraded::PolicyFault, Degraded::Postgres, Degraded::UnsafeAck, Degraded::Unavailable];

    pub fn label(self) -> &'static str {
        match self {
            Degraded::PolicyFault => "policy-fault",
            Degraded::Postgres => "postgres",
            Degraded::UnsafeAck => "unsafe-ack",
            Degraded::Unavailable => "unavailable",
        }
    }
}

/// Why there is neither an admission nor a denial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Refusal {
    UnknownUser,
    Blocked,
    /// This cell is not the user's home. For routers; callers never see it.
    Elsewhere {
        home: Option<CellName>,
        epoch: Epoch,
    },
    /// Mid-move. For routers.
    Frozen,
    /// Another process of this cell has the user's shard. For routers.
    OtherInstance {
        endpoint: String,
    },
    UnknownUnit(Unit),
    /// More than this slot can ever admit.
    AboveLimit {
        slot: SlotName,
        limit: Amount,
        unit: Unit,
    },
    KeyReused,
    /// `at_us` where the clock is not virtual.
    ClockNotVirtual,
    UnknownTier(TierName),
    /// The user has no such charge, or it is too old to be closed.
    UnknownCharge,
    /// A settle of what was only consumed.
    NotReserved,
    /// It was settled, refunded, or released at its expiry.
    ChargeClosed,
    TooManyReservations,
    /// The record has no room for another grant, override or reservation.
    RecordFull,
    /// The user's tier has no enforcing slot of this name.
    UnknownSlot(SlotName),
    /// The ledger has to be asked about a charge, and does not yet hold this commit of the user. For
    /// whoever took the request: he asks again, for a drain takes some 50 ms.
    Undrained {
        fence: Fence,
        version: Version,
    },
    Invalid(Vec<SettingProblem>),
    /// Unknown or certainly nothing written: either way the caller repeats with the same key.
    TryAgain {
        reason: TryAgain,
    },
    /// The session that came with the check is not in force: nothing was decided.
    InvalidSession,
}

/// Why an answer is unknown or was not attempted; the metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TryAgain {
    /// The shard is taking a turn, or waits for its Redis.
    ShardClosed,
    /// The store did not answer in time: the commit may have happened.
    Unknown,
    /// The queue is full: certainly nothing written.
    Overloaded,
    /// The caller's deadline passed before an answer.
    Deadline,
    StoreDown,
    CellDown,
    DirectoryDown,
    /// The ledger does not yet hold what has to be looked up in it: certainly nothing written.
    Undrained,
    /// The policy could not be loaded, or the catalog has not come yet.
    NotReady,
    OutOfMemory,
}

impl TryAgain {
    pub fn label(self) -> &'static str {
        match self {
            TryAgain::ShardClosed => "shard-closed",
            TryAgain::Unknown => "unknown",
            TryAgain::Overloaded => "overloaded",
            TryAgain::Deadline => "deadline",
            TryAgain::StoreDown => "store-down",
            TryAgain::CellDown => "cell-down",
            TryAgain::DirectoryDown => "directory-down",
            TryAgain::Undrained => "undrained",
            TryAgain::NotReady => "not-ready",
            TryAgain::OutOfMemory => "out-of-memory",
        }
    }

    pub const ALL: [TryAgain; 10] = [
        TryAgain::ShardClosed,
        TryAgain::Unknown,
        TryAgain::Overloaded,
        TryAgain::Deadline,
        TryAgain::StoreDown,
        TryAgain::CellDown,
        TryAgain::DirectoryDown,
        TryAgain::Undrained,
        TryAgain::NotReady,
        TryAgain::OutOfMemory,
    ];
}

impl Verdict {
    /// Why somebody may want to see how it came about, in a fixed word. None: it is as any other. That an answer is
    /// not flushed to the disk was an operator's choice, and says nothing of this one.
    pub fn trouble(&self) -> Option<&'static str> {
        match self {
            Verdict::Refused(Refusal::TryAgain { .. }) => Some("error"),
            Verdict::Admitted { degraded, .. } | Verdict::Denied { degraded, .. } | Verdict::Seen { degraded, .. } => {
                degraded.filter(|degraded| *degraded != Degraded::UnsafeAck).map(|_| "degraded")
            }
            Verdict::Refused(_) => None,
        }
    }

    pub fn try_again(reason: TryAgain) -> Self {
        Verdict::Refused(Refusal::TryAgain { reason })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_reads_back_from_its_one_name() {
        let charge = ChargeId { epoch: Epoch(1), fence: Fence(20), version: Version(u64::MAX), place: 3 };
        assert_eq!(charge.to_string().parse(), Ok(charge));
        for other in ["", "c1-2-3", "c1-2-3-4-5", "c01-2-3-4", "c+1-2-3-4", "c1-2-3-4294967296", "x1-2-3-4"] {
            assert_eq!(other.parse::<ChargeId>(), Err(NotACharge), "{other}");
        }
    }
}
