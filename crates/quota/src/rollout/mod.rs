//! Candidates and shadows: policies in force beside those that decide, and what is counted of them.
//!
//! Counting costs a check a few relaxed increments, and only in tiers that have a candidate or a shadow.

mod counts;
mod faults;
mod metrics;
mod report;
mod stops;
#[cfg(test)]
mod tests;
mod watch;
mod way_back;

pub(crate) use counts::{Difference, SlotCounts};
pub use faults::{SlotFaults, faults};
pub use metrics::register;
pub use report::report;
pub(crate) use stops::{READ_STOPS, Stops, WRITE_STOP};
pub(crate) use watch::{RolloutWatch, Verdict};
pub use way_back::check as check_way_back;

use crate::tiers::Tier;
use cellar_model::{CellName, Percent, Rollout, WavePoint};
use std::sync::Arc;

/// Which of a tier's two sets of policies decides a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    Current,
    Candidate,
}

impl Variant {
    pub(crate) const ALL: [Variant; 2] = [Variant::Current, Variant::Candidate];

    /// The metrics' label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Variant::Current => "current",
            Variant::Candidate => "candidate",
        }
    }
}

/// A tier's candidate, made ready.
pub(crate) struct Candidate {
    pub(crate) tier: Box<Tier>,
    pub(crate) percent: Percent,
    pub(crate) held: bool,
    /// Whether this cell is one of those that are meant.
    pub(crate) here: bool,
    pub(crate) watch: Arc<RolloutWatch>,
}

impl Candidate {
    pub(crate) fn new(tier: Tier, rollout: &Rollout, watch: Arc<RolloutWatch>) -> Self {
        let (percent, held) = (rollout.percent, rollout.held);
        Self { tier: Box::new(tier), percent, held, here: rollout.cells.is_empty(), watch }
    }

    /// Whether it decides the user who stands there.
    pub(crate) fn decides(&self, user: WavePoint) -> bool {
        self.here && !self.held && user.is_in(self.percent) && self.watch.stopped().is_none()
    }

    pub(crate) fn enter(&mut self, cell: &CellName, rollout: &Rollout) {
        self.here = rollout.takes_part(cell);
    }
}
