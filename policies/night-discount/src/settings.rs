//! What an operator writes, and what an amount costs when.

use cellar_policy_sdk::calendar::{DAY_US, Every, Grid, MINUTE_US, UTC_OFFSET_MAX_MINUTES, UTC_OFFSET_MIN_MINUTES};
use cellar_policy_sdk::priced::FULL_PRICE;
use cellar_policy_sdk::{AMOUNT_MAX, fixed_struct};
use schemars::JsonSchema;
use serde::Deserialize;

/// An amount's own maximum.
pub const LIMIT_MAX: u64 = AMOUNT_MAX;

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Units a period, at the full price.
    #[schemars(range(min = 1, max = LIMIT_MAX))]
    pub limit: u64,
    /// The period: hour, day, week (from Monday on) or month; month if absent.
    #[serde(default)]
    pub every: Every,
    /// What counts of an amount at the cheap hours, in thousandths: 500 is half.
    #[schemars(range(min = 1, max = FULL_PRICE))]
    pub price_permille: u32,
    /// The minute of the local day at which the cheap hours begin.
    #[schemars(range(min = 0, max = 1_439))]
    pub from_minute: u64,
    /// Minutes that they last, over midnight too.
    #[schemars(range(min = 1, max = 1_440))]
    pub minutes: u64,
    /// Minutes that local midnight comes before UTC's; 0 if absent.
    #[serde(default)]
    #[schemars(range(min = UTC_OFFSET_MIN_MINUTES, max = UTC_OFFSET_MAX_MINUTES))]
    pub utc_offset_minutes: i64,
}

fixed_struct! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Parameters {
        /// Thousandths a period.
        pub limit: u64,
        pub periods: Grid,
        /// Days that begin with the cheap hours.
        pub days: Grid,
        pub full_price_us: u64,
        pub night_price: u32,
    }
}

impl Parameters {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            // At most 2^50.
            limit: settings.limit * u64::from(FULL_PRICE),
            periods: Grid::every(settings.every, settings.utc_offset_minutes),
            days: Grid::days_from(settings.from_minute, settings.utc_offset_minutes),
            full_price_us: DAY_US - settings.minutes * MINUTE_US,
            night_price: settings.price_permille,
        }
    }

    /// What counts of an amount at that moment, in thousandths.
    pub(crate) fn price(&self, at_us: u64) -> u32 {
        let until_next_us = self.next_night_us(at_us).saturating_sub(at_us);
        if until_next_us > self.full_price_us { self.night_price } else { FULL_PRICE }
    }

    /// When the next cheap hours begin. Those at hand, if any, are not meant.
    pub(crate) fn next_night_us(&self, at_us: u64) -> u64 {
        self.days.period(at_us).end_us
    }
}
