//! What an operator writes.

use cellar_policy_sdk::calendar::{Grid, MINUTE_US, UTC_OFFSET_MAX_MINUTES, UTC_OFFSET_MIN_MINUTES};
use cellar_policy_sdk::{AMOUNT_MAX, fixed_struct};
use schemars::JsonSchema;
use serde::Deserialize;

/// An amount's own maximum: sums of a day fit 64 bits.
pub const LIMIT_MAX: u64 = AMOUNT_MAX;
pub const DAY_MINUTES: u64 = 24 * 60;

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Units a day.
    #[schemars(range(min = 1, max = LIMIT_MAX))]
    pub limit: u64,
    /// The minute of the local day at which the window opens and a new day begins; 0, midnight, if absent.
    #[serde(default)]
    #[schemars(range(min = 0, max = DAY_MINUTES - 1))]
    pub opens_at_minute: u64,
    /// Minutes that the window stays open, over midnight too; 1440, always, if absent.
    #[serde(default = "day_minutes")]
    #[schemars(range(min = 1, max = DAY_MINUTES))]
    pub open_minutes: u64,
    /// Minutes that local midnight comes before UTC's; 0 if absent.
    #[serde(default)]
    #[schemars(range(min = UTC_OFFSET_MIN_MINUTES, max = UTC_OFFSET_MAX_MINUTES))]
    pub utc_offset_minutes: i64,
}

fn day_minutes() -> u64 {
    DAY_MINUTES
}

fixed_struct! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Parameters {
        pub limit: u64,
        pub days: Grid,
        pub closed_us: u64,
    }
}

impl Parameters {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            limit: settings.limit,
            days: Grid::days_from(settings.opens_at_minute, settings.utc_offset_minutes),
            closed_us: (DAY_MINUTES - settings.open_minutes) * MINUTE_US,
        }
    }
}
