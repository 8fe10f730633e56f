//! What a policy that counts by periods keeps of a user.

use crate::calendar::Period;
use crate::fixed_struct;

fixed_struct! {
    /// What was spent in one period, and a moment in it: that of the last charge.
    ///
    /// The moment is enough to read it under other settings, whatever their periods are. All of it was spent by
    /// then; so if the moment lies before the period of the question, none of it counts there. If it lies within,
    /// all of it does: a part of it may be older, and is then counted once more rather than forgotten.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Spent {
        /// When the last charge was made.
        pub charged_us: u64,
        /// In the policy's unit.
        pub spent: u64,
    }
}

impl Spent {
    /// What counts in `period`, which holds the moment of the question.
    pub fn within(state: Option<Self>, period: Period) -> u64 {
        state.filter(|state| state.charged_us >= period.start_us).map_or(0, |state| state.spent)
    }
}
