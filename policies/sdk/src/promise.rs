//! What a policy says it never exceeds.

use serde::Serialize;

/// A bound over time, in terms of the settings: each text is a JSON pointer into them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Promise {
    /// From any moment to any later one: at most `burst`, and `limit` for every `period_s` between them. Where
    /// the settings say no burst it is `limit`.
    Rate { limit: &'static str, period_s: &'static str, burst: &'static str },
    /// Within a calendar month in UTC, at most `limit`.
    CalendarMonth { limit: &'static str },
}
