//! What a slot has been seen to do.

use cellar_policy_host::Fault;
use std::sync::atomic::{AtomicU64, Ordering};

/// How a shadow's word compares with that of the policies that enforce.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Difference {
    None,
    WouldDeny,
    WouldAdmit,
    Fault,
}

impl Difference {
    pub(crate) const ALL: [Difference; 4] =
        [Difference::None, Difference::WouldDeny, Difference::WouldAdmit, Difference::Fault];

    /// The metric's label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Difference::None => "none",
            Difference::WouldDeny => "would_deny",
            Difference::WouldAdmit => "would_admit",
            Difference::Fault => "fault",
        }
    }

    pub(crate) fn of(enforcing_admit: bool, shadow_admits: bool) -> Self {
        match (enforcing_admit, shadow_admits) {
            (true, false) => Difference::WouldDeny,
            (false, true) => Difference::WouldAdmit,
            _ => Difference::None,
        }
    }
}

/// Of one slot, over all shards of the process.
#[derive(Debug, Default)]
pub(crate) struct SlotCounts {
    faults: [AtomicU64; Fault::KINDS.len()],
    shadow: [AtomicU64; Difference::ALL.len()],
}

impl SlotCounts {
    /// How many of this kind there have been, this one among them.
    pub(crate) fn faulted(&self, fault: &Fault) -> u64 {
        let place = Fault::KINDS.iter().position(|kind| *kind == fault.kind());
        place.map_or(0, |place| self.faults[place].fetch_add(1, Ordering::Relaxed) + 1)
    }

    pub(crate) fn compared(&self, difference: Difference) {
        self.shadow[difference as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Every kind with its number.
    pub(crate) fn faults(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Fault::KINDS.into_iter().zip(self.faults.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    pub(crate) fn shadow(&self, difference: Difference) -> u64 {
        self.shadow[difference as usize].load(Ordering::Relaxed)
    }
}
