//! What a policy says it never exceeds.

use serde::Serialize;

/// A bound over time, in terms of the settings. A text that begins with `/` is a JSON pointer into them; any other
/// is the value itself, for what the settings do not name. What is absent, here or in the settings, is what the
/// sentence says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Promise {
    /// From any moment to any later one: at most `burst`, and `limit` for every `period_s` between them. Where
    /// the settings say no burst it is `limit`.
    Rate { limit: &'static str, period_s: &'static str, burst: &'static str },
    /// Within a calendar month in UTC, at most `limit`.
    CalendarMonth { limit: &'static str },
    /// Within any number of periods that follow one another: `limit` for each, and `rollover_max` (nothing) once.
    ///
    /// A period is an `hour`, a `day`, a `week` from Monday on or a `month` (month), as a clock shows it that is
    /// `utc_offset_minutes` (0) ahead of UTC. A day begins at `from_minute` (0), a month on `anchor_day` (1).
    Periods {
        limit: &'static str,
        every: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        anchor_day: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        from_minute: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        utc_offset_minutes: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        rollover_max: Option<&'static str>,
    },
    /// Within a period, as above, at most `limit`, where of each amount only so many thousandths count as
    /// `price_permille` (1,000) says; where there are hours, only from `from_minute` on and for `minutes`, and
    /// outside of them all of it counts. Other settings carry what was spent only if these are the same.
    Priced {
        limit: &'static str,
        every: &'static str,
        price_permille: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        from_minute: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        minutes: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        utc_offset_minutes: Option<&'static str>,
    },
    /// At any moment, at most `limit` in reservations that are open; one is, for `open_s` seconds (3,600), unless it
    /// is settled. A consume is held against it and then gone, so it is by reserving that the policy is tested.
    Open { limit: &'static str, open_s: &'static str },
}
