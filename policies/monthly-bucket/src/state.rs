//! What is kept of a user, and which month it counts in.

use crate::settings::{Parameters, plain_months};
use cellar_policy_sdk::calendar::Period;
use cellar_policy_sdk::fixed_struct;

/// Months that the one of a question can lie before the end of a calendar month, and after its start: none is
/// shorter than 28 days or longer than 31.
const MONTHS_BETWEEN_MAX: usize = 2;

fixed_struct! {
    /// Read under any limit, any day and any offset: what was spent stays spent.
    ///
    /// Under calendar months in UTC the moment is the month's start: that is all that version 1.0.0 writes and
    /// reads, so that it can take states back. Under other months it is that of the last charge, which says exactly
    /// whether any of it can have been spent in the month of a later question, whatever its months are.
    ///
    /// **Invariant:** a month's start is even, as all borders are, which are whole minutes; a charge's moment is
    /// made odd, which takes it over no border.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct State {
        pub moment_us: u64,
        pub spent: u64,
    }
}

impl State {
    pub(crate) fn of(parameters: &Parameters, month: Period, now_us: u64, spent: u64) -> Self {
        Self { moment_us: if parameters.plain { month.start_us } else { now_us | 1 }, spent }
    }

    /// Until when what was spent counts, if it counts in `month`: to that month's end, nearly always.
    ///
    /// A month's start, met under other months, tells only that it was spent in that calendar month. As any of it
    /// may have been spent on its last day, it counts in every month that reaches into that one: nothing is
    /// forgotten, and the first border after it clears it.
    pub(crate) fn counts_until(&self, parameters: &Parameters, month: Period) -> Option<u64> {
        let is_start = self.moment_us.is_multiple_of(2);
        if parameters.plain || !is_start {
            return (self.moment_us >= month.start_us).then_some(month.end_us);
        }
        let spent_before_us = plain_months().period(self.moment_us).end_us;
        if spent_before_us <= month.start_us {
            return None;
        }
        let mut end_us = month.end_us;
        for _ in 0..MONTHS_BETWEEN_MAX {
            if end_us < spent_before_us {
                end_us = parameters.months.period(end_us).end_us;
            }
        }
        Some(end_us)
    }
}
