//! What a policy says it never exceeds, whatever the history.

use cellar_model::Micros;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A bound over time, in terms of the settings (JSON pointers into them).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Promise {
    /// From any moment to any later one: at most `burst`, and `limit` for every `period_s` between them. Where
    /// the settings say no burst it is `limit`.
    Rate { limit: String, period_s: String, burst: String },
    /// Within a calendar month in UTC, at most `limit`.
    CalendarMonth { limit: String },
}

/// An admission: when, and how much.
pub(crate) type Taken = (u64, u64);

impl Promise {
    /// Whether `taken`, in the order of time, keeps it; or what does not. None: the settings do not say what the
    /// promise is about.
    pub(crate) fn check(&self, settings: &Value, taken: &[Taken]) -> Result<(), String> {
        let number = |pointer: &str| settings.pointer(pointer).and_then(Value::as_u64);
        match self {
            Promise::Rate { limit, period_s, burst } => {
                let (Some(limit), Some(period_s)) = (number(limit), number(period_s)) else {
                    return Err(format!("the promise points at {limit} and {period_s}, which the settings lack"));
                };
                rate(limit, period_s, number(burst).unwrap_or(limit), taken)
            }
            Promise::CalendarMonth { limit } => {
                let limit =
                    number(limit).ok_or_else(|| format!("the promise points at {limit}, which the settings lack"))?;
                months(limit, taken)
            }
        }
    }
}

fn rate(limit: u64, period_s: u64, burst: u64, taken: &[Taken]) -> Result<(), String> {
    let period_us = u128::from(period_s) * 1_000_000;
    for (first, (from_us, _)) in taken.iter().enumerate() {
        let mut sum: u128 = 0;
        for (to_us, cost) in &taken[first..] {
            sum += u128::from(*cost);
            let granted = u128::from(burst) * period_us + u128::from(to_us - from_us) * u128::from(limit);
            if sum * period_us > granted {
                return Err(format!(
                    "between {} and {} it admitted {sum}, which is more than a burst of {burst} and {limit} a {period_s} s",
                    moment(*from_us),
                    moment(*to_us)
                ));
            }
        }
    }
    Ok(())
}

fn months(limit: u64, taken: &[Taken]) -> Result<(), String> {
    let mut sum: (Option<String>, u128) = (None, 0);
    for (at_us, cost) in taken {
        let month = moment(*at_us)[..7].to_owned();
        if sum.0.as_ref() != Some(&month) {
            sum = (Some(month.clone()), 0);
        }
        sum.1 += u128::from(*cost);
        if sum.1 > u128::from(limit) {
            return Err(format!("in {month} it admitted {}, which is more than {limit}", sum.1));
        }
    }
    Ok(())
}

/// A time as people read it.
pub(crate) fn moment(at_us: u64) -> String {
    let at = i64::try_from(at_us.min(Micros::MAX.0)).ok().and_then(|us| jiff::Timestamp::from_microsecond(us).ok());
    at.map_or_else(|| format!("{at_us} us"), |at| format!("{at:.6}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const DAY_US: u64 = 86_400_000_000;
    /// 2023-11-14T22:13:20Z
    const T0: u64 = 1_700_000_000_000_000;

    #[test]
    fn a_rate_is_a_burst_and_what_came_back_since() {
        let promise: Promise = serde_json::from_value(
            json!({ "kind": "rate", "limit": "/limit", "period_s": "/period_s", "burst": "/burst" }),
        )
        .unwrap();
        let settings = json!({ "limit": 2, "period_s": 1, "burst": 3 });
        assert!(promise.check(&settings, &[(T0, 3), (T0 + 500_000, 1)]).is_ok());
        assert!(promise.check(&settings, &[(T0, 3), (T0 + 499_999, 1)]).is_err());
        assert!(promise.check(&json!({ "limit": 2, "period_s": 1 }), &[(T0, 3)]).is_err());
        assert!(promise.check(&json!({}), &[]).is_err());
    }

    #[test]
    fn a_month_is_a_calendar_month() {
        let promise = Promise::CalendarMonth { limit: "/limit".into() };
        let settings = json!({ "limit": 5 });
        let december_us = T0 + 17 * DAY_US;
        assert!(promise.check(&settings, &[(T0, 5), (december_us, 5)]).is_ok());
        assert!(promise.check(&settings, &[(T0, 5), (T0 + DAY_US, 1)]).unwrap_err().contains("2023-11"));
    }
}
