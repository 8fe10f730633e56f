//! What an operator writes.

use cellar_policy_sdk::calendar::{Every, Grid, UTC_OFFSET_MAX_MINUTES, UTC_OFFSET_MIN_MINUTES};
use cellar_policy_sdk::{AMOUNT_MAX, Problem, fixed_struct};
use schemars::JsonSchema;
use serde::Deserialize;

/// An amount's own maximum.
pub const LIMIT_MAX: u64 = AMOUNT_MAX;
/// Periods in which an empty bucket fills: ten years of months. Longer is a typo, and would leave the calendar.
pub const FILL_PERIODS_MAX: u64 = 120;

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Tokens that a period brings.
    #[schemars(range(min = 1, max = LIMIT_MAX))]
    pub limit: u64,
    /// The period: hour, day, week (from Monday on) or month; month if absent.
    #[serde(default)]
    pub every: Every,
    /// Tokens that may roll over into the next period, in all; `limit` if absent: what the last one left.
    #[schemars(range(min = 0, max = LIMIT_MAX))]
    pub rollover_max: Option<u64>,
    /// Minutes that local midnight comes before UTC's; 0 if absent.
    #[serde(default)]
    #[schemars(range(min = UTC_OFFSET_MIN_MINUTES, max = UTC_OFFSET_MAX_MINUTES))]
    pub utc_offset_minutes: i64,
}

fixed_struct! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Parameters {
        pub limit: u64,
        pub rollover_max: u64,
        pub periods: Grid,
    }
}

impl Parameters {
    pub(crate) fn of(settings: &Settings) -> Result<Self, Vec<Problem>> {
        let Settings { limit, every, rollover_max, utc_offset_minutes } = *settings;
        let rollover_max = rollover_max.unwrap_or(limit);
        let fill_periods = rollover_max.div_ceil(limit);
        if fill_periods > FILL_PERIODS_MAX {
            let message =
                format!("would take {fill_periods} periods to gather; at most {FILL_PERIODS_MAX} are allowed");
            return Err(vec![Problem::new("/rollover_max", message)]);
        }
        Ok(Self { limit, rollover_max, periods: Grid::every(every, utc_offset_minutes) })
    }

    /// All that the bucket holds. Two amounts: far from 64 bits.
    pub(crate) fn capacity(&self) -> u64 {
        self.limit + self.rollover_max
    }
}
