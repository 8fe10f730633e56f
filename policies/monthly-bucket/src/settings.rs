//! What an operator writes, and the months it means.

use cellar_policy_sdk::calendar::{Grid, UTC_OFFSET_MAX_MINUTES, UTC_OFFSET_MIN_MINUTES};
use cellar_policy_sdk::{AMOUNT_MAX, fixed_struct};
use schemars::JsonSchema;
use serde::Deserialize;

/// An amount's own maximum: sums of a month fit 64 bits.
pub const LIMIT_MAX: u64 = AMOUNT_MAX;

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Units a month.
    #[schemars(range(min = 1, max = LIMIT_MAX))]
    pub limit: u64,
    /// The day on which a month begins; in a month that lacks it, on its last. 1, the calendar's own, if absent.
    #[serde(default = "first_day")]
    #[schemars(range(min = 1, max = 31))]
    pub anchor_day: u8,
    /// Minutes that local midnight comes before UTC's; 0 if absent.
    #[serde(default)]
    #[schemars(range(min = UTC_OFFSET_MIN_MINUTES, max = UTC_OFFSET_MAX_MINUTES))]
    pub utc_offset_minutes: i64,
}

fn first_day() -> u8 {
    1
}

fixed_struct! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Parameters {
        pub limit: u64,
        pub months: Grid,
        /// Calendar months in UTC, as in version 1.0.0: its states then are the same, byte for byte.
        pub plain: bool,
    }
}

impl Parameters {
    pub(crate) fn of(settings: &Settings) -> Self {
        let Settings { limit, anchor_day, utc_offset_minutes } = *settings;
        let months = Grid::months(anchor_day, utc_offset_minutes);
        Self { limit, months, plain: months == plain_months() }
    }
}

/// Calendar months in UTC.
pub(crate) fn plain_months() -> Grid {
    Grid::months(1, 0)
}
