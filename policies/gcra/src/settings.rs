//! What an operator writes, and the rate in lowest terms.

use cellar_policy_sdk::{AMOUNT_MAX, Problem, fixed_struct};
use schemars::JsonSchema;
use serde::Deserialize;

/// An amount's own maximum.
pub const LIMIT_MAX: u64 = AMOUNT_MAX;
/// A leap year: a rate over more than that is a bucket, not a rate.
pub const PERIOD_MAX_S: u64 = 366 * 86_400;
/// Ten years, from all taken to fully rested. Longer is a typo, and would leave 64 bits.
pub const REST_MAX_S: u64 = 3_660 * 86_400;

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Units that come back in a period.
    #[schemars(range(min = 1, max = LIMIT_MAX))]
    pub limit: u64,
    /// The period in seconds.
    #[schemars(range(min = 1, max = PERIOD_MAX_S))]
    pub period_s: u64,
    /// How much a rested user may take at one instant; `limit` if absent.
    #[schemars(range(min = 1, max = LIMIT_MAX))]
    pub burst: Option<u64>,
}

fixed_struct! {
    /// The rate is `units` per `span_us`, in lowest terms. A part is the `units`-th part of a
    /// microsecond: `units` parts pass each microsecond, and one unit costs `span_us` parts.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Parameters {
        pub units: u64,
        pub span_us: u64,
        pub burst: u64,
    }
}

impl Parameters {
    pub(crate) fn of(settings: &Settings) -> Result<Self, Vec<Problem>> {
        let burst = settings.burst.unwrap_or(settings.limit);
        let rest_s = u128::from(burst) * u128::from(settings.period_s) / u128::from(settings.limit);
        if rest_s > u128::from(REST_MAX_S) {
            let message = format!("would take {rest_s} s to come back; at most {REST_MAX_S} s are allowed");
            return Err(vec![Problem::new("/burst", message)]);
        }
        // The schema bounds `period_s`, so this fits.
        let period_us = settings.period_s * 1_000_000;
        let common = greatest_common_divisor(settings.limit, period_us);
        Ok(Self { units: settings.limit / common, span_us: period_us / common, burst })
    }

    /// What may be owed at most, in parts.
    pub(crate) fn capacity(&self) -> u128 {
        self.price(self.burst)
    }

    /// What `amount` costs, in parts.
    pub(crate) fn price(&self, amount: u64) -> u128 {
        u128::from(amount) * u128::from(self.span_us)
    }
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Gcra;
    use cellar_policy_sdk::configure;

    fn problems(json: &str) -> Vec<String> {
        configure::<Gcra>(json).unwrap_err().into_iter().map(|p| format!("{}: {}", p.pointer, p.message)).collect()
    }

    #[test]
    fn a_rate_is_kept_in_lowest_terms() {
        let rate = Parameters::of(&Settings { limit: 600, period_s: 60, burst: None }).unwrap();
        assert_eq!(rate, Parameters { units: 1, span_us: 100_000, burst: 600 });
        let rate = Parameters::of(&Settings { limit: 7_000_000, period_s: 3, burst: Some(1) }).unwrap();
        assert_eq!(rate, Parameters { units: 7, span_us: 3, burst: 1 });
    }

    #[test]
    fn each_bound_is_named_at_its_place() {
        assert_eq!(problems(r#"{"limit":0,"period_s":31622401,"burst":1099511627777,"burts":3}"#).len(), 4);
        assert_eq!(problems(r#"{"limit":0,"period_s":60}"#), ["/limit: must be at least 1"]);
        assert_eq!(problems(r#"{"limit":5}"#), ["/period_s: is missing"]);
        assert!(problems(r#"{"limit":1,"period_s":86400,"burst":3661}"#)[0].starts_with("/burst: would take"));
    }
}
