//! What a policy says it never exceeds, whatever the history.

mod periods;

use cellar_model::{Micros, RESERVATION_S_MAX};
use periods::{Clock, Every};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// A bound over time, in terms of the settings. A text that begins with `/` is a JSON pointer into them; any other
/// is the value itself. The SDK says what each kind means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Promise {
    /// From any moment to any later one: at most `burst`, and `limit` for every `period_s` between them. Where
    /// the settings say no burst it is `limit`.
    Rate { limit: String, period_s: String, burst: String },
    /// Within a calendar month in UTC, at most `limit`.
    CalendarMonth { limit: String },
    /// Within any number of periods that follow one another: `limit` for each, and `rollover_max` once.
    Periods {
        limit: String,
        every: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        anchor_day: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from_minute: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        utc_offset_minutes: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        rollover_max: Option<String>,
    },
    /// Within a period at most `limit`, counting of each amount `price_permille` thousandths: always, or where there
    /// are hours, for `minutes` from `from_minute` on.
    Priced {
        limit: String,
        every: String,
        price_permille: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from_minute: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        minutes: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        utc_offset_minutes: Option<String>,
    },
    /// At any moment at most `limit` in open reservations, each open for `open_s` seconds (3,600) unless it is settled.
    Open { limit: String, open_s: String },
}

/// An admission: when, and how much.
pub(crate) type Taken = (u64, u64);

/// What counts in full.
const PERMILLE: u64 = 1_000;

impl Promise {
    /// Whether `taken`, in the order of time, keeps it; or what does not. A promise that the settings do not say
    /// enough about is not kept.
    pub(crate) fn check(&self, settings: &Value, taken: &[Taken]) -> Result<(), String> {
        let said = Said(settings);
        match self {
            Promise::Rate { limit, period_s, burst } => {
                let limit = said.number(limit)?;
                rate(limit, said.number(period_s)?, said.number_or(Some(burst), limit)?, taken)
            }
            Promise::CalendarMonth { limit } => months(said.number(limit)?, taken),
            Promise::Periods { limit, every, anchor_day, from_minute, utc_offset_minutes, rollover_max } => {
                let clock = Clock {
                    every: said.every(every)?,
                    anchor_day: said.number_or(anchor_day.as_ref(), 1)?,
                    from_minute: said.number_or(from_minute.as_ref(), 0)?,
                    utc_offset_minutes: said.signed_or_zero(utc_offset_minutes.as_ref())?,
                };
                let limit = said.number(limit)?;
                // Where the settings say none, as much as a period has rolls over.
                let rollover_max = match rollover_max {
                    Some(_) => said.number_or(rollover_max.as_ref(), limit)?,
                    None => 0,
                };
                let sums = by_period(&clock, taken, |_, cost| u128::from(cost));
                runs(limit, rollover_max, &sums)
            }
            Promise::Priced { limit, every, price_permille, from_minute, minutes, utc_offset_minutes } => {
                let utc_offset_minutes = said.signed_or_zero(utc_offset_minutes.as_ref())?;
                let clock = Clock { every: said.every(every)?, anchor_day: 1, from_minute: 0, utc_offset_minutes };
                let hours = match (from_minute, minutes) {
                    (Some(from), Some(minutes)) => Some((said.number(from)?, said.number(minutes)?)),
                    _ => None,
                };
                let price_permille = said.number_or(Some(price_permille), PERMILLE)?;
                let priced = |at_us: u64, cost: u64| {
                    let cheap = hours.is_none_or(|(from, minutes)| clock.within(at_us, from, minutes));
                    u128::from(cost) * u128::from(if cheap { price_permille } else { PERMILLE })
                };
                let limit = u128::from(said.number(limit)?) * u128::from(PERMILLE);
                match by_period(&clock, taken, priced).into_iter().find(|(_, sum)| *sum > limit) {
                    Some((period, sum)) => Err(format!("in {period} it admitted {sum} thousandths, of {limit}")),
                    None => Ok(()),
                }
            }
            Promise::Open { limit, open_s } => {
                let open_s = said.number_or(Some(open_s), u64::from(RESERVATION_S_MAX))?;
                open(said.number(limit)?, open_s, taken)
            }
        }
    }

    /// Members of the settings that say what an amount is worth: under others, what was spent is another amount.
    pub(crate) fn prices(&self) -> Vec<&str> {
        let Promise::Priced { price_permille, from_minute, minutes, utc_offset_minutes, .. } = self else {
            return Vec::new();
        };
        let told = [Some(price_permille), from_minute.as_ref(), minutes.as_ref(), utc_offset_minutes.as_ref()];
        told.into_iter().flatten().filter_map(|pointer| pointer.strip_prefix('/')).collect()
    }

    /// For who reads a report.
    pub(crate) fn sentence(&self) -> &'static str {
        match self {
            Promise::Rate { .. } => "a burst, and its limit in every period",
            Promise::CalendarMonth { .. } => "its limit in every calendar month",
            Promise::Periods { rollover_max: None, .. } => "its limit in every period of its calendar",
            Promise::Periods { .. } => "its limit in every period, and once what may roll over",
            Promise::Priced { .. } => "its limit in every period, in priced amounts",
            Promise::Open { .. } => "its limit in reservations that are open at once",
        }
    }
}

/// What the settings say where a promise points.
struct Said<'s>(&'s Value);

impl<'s> Said<'s> {
    fn at(&self, text: &str) -> Option<&'s Value> {
        self.0.pointer(text).filter(|value| !value.is_null())
    }

    fn number(&self, text: &str) -> Result<u64, String> {
        let found = self.at(text).and_then(Value::as_u64);
        found.ok_or_else(|| format!("the promise points at {text}, where the settings have no number"))
    }

    fn number_or(&self, text: Option<&String>, otherwise: u64) -> Result<u64, String> {
        match text {
            Some(text) if self.at(text).is_some() => self.number(text),
            _ => Ok(otherwise),
        }
    }

    fn signed_or_zero(&self, text: Option<&String>) -> Result<i64, String> {
        let Some((text, found)) = text.and_then(|text| Some((text, self.at(text)?))) else { return Ok(0) };
        found.as_i64().ok_or_else(|| format!("the promise points at {text}, where the settings have no number"))
    }

    /// A month is what a policy counts by whose settings may name a period and do not.
    fn every(&self, text: &str) -> Result<Every, String> {
        let named = match text.starts_with('/') {
            false => text,
            true => self.at(text).and_then(Value::as_str).unwrap_or("month"),
        };
        Every::named(named).ok_or_else(|| format!("the promise is about every {named}, which is no period"))
    }
}

/// Sums by period, each with the number that it has among its kind.
fn by_period(clock: &Clock, taken: &[Taken], worth: impl Fn(u64, u64) -> u128) -> Vec<(periods::Numbered, u128)> {
    let mut sums: BTreeMap<periods::Numbered, u128> = BTreeMap::new();
    for (at_us, cost) in taken {
        *sums.entry(clock.period(*at_us)).or_default() += worth(*at_us, *cost);
    }
    sums.into_iter().collect()
}

/// Every run of periods that begins and ends with one in which something was taken.
fn runs(limit: u64, rollover_max: u64, sums: &[(periods::Numbered, u128)]) -> Result<(), String> {
    for (first, (from, _)) in sums.iter().enumerate() {
        let mut sum: u128 = 0;
        for (to, taken) in &sums[first..] {
            sum += taken;
            let periods = u128::from(to.number.abs_diff(from.number)) + 1;
            if sum > periods * u128::from(limit) + u128::from(rollover_max) {
                return Err(format!(
                    "from {from} to {to} it admitted {sum}, which is more than {limit} in each of {periods} and {rollover_max} once"
                ));
            }
        }
    }
    Ok(())
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

fn open(limit: u64, open_s: u64, taken: &[Taken]) -> Result<(), String> {
    let open_us = u128::from(open_s) * 1_000_000;
    for (n, (now_us, _)) in taken.iter().enumerate() {
        let still = |at_us: u64| u128::from(at_us) + open_us > u128::from(*now_us);
        let sum: u128 = taken[..=n].iter().filter(|(at, _)| still(*at)).map(|(_, cost)| u128::from(*cost)).sum();
        if sum > u128::from(limit) {
            return Err(format!("at {} it had {sum} open, which is more than {limit}", moment(*now_us)));
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

    fn promise(json: Value) -> Promise {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_rate_is_a_burst_and_what_came_back_since() {
        let promise = promise(json!({ "kind": "rate", "limit": "/limit", "period_s": "/period_s", "burst": "/burst" }));
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

    #[test]
    fn a_month_may_begin_on_any_day_at_any_offset() {
        let promise = promise(json!({
            "kind": "periods", "limit": "/limit", "every": "month", "anchor_day": "/day", "utc_offset_minutes": "/ahead"
        }));
        // Local time is 00:13:20 on the 15th.
        let ahead = json!({ "limit": 5, "day": 15, "ahead": 120 });
        assert!(promise.check(&ahead, &[(T0 - 900_000_000, 5), (T0, 5)]).is_ok());
        assert!(promise.check(&ahead, &[(T0, 5), (T0 + 29 * DAY_US, 1)]).unwrap_err().contains("2023-11"));
        assert!(promise.check(&json!({ "limit": 5 }), &[(T0, 5), (T0 + 17 * DAY_US, 5)]).is_ok());
        assert!(promise.check(&json!({ "limit": 5, "ahead": "x" }), &[]).unwrap_err().contains("/ahead"));
    }

    #[test]
    fn what_rolls_over_is_had_once() {
        let promise = promise(
            json!({ "kind": "periods", "limit": "/limit", "every": "/every", "rollover_max": "/rollover_max" }),
        );
        let settings = json!({ "limit": 5, "every": "day", "rollover_max": 3 });
        assert!(promise.check(&settings, &[(T0, 8), (T0 + DAY_US, 5)]).is_ok());
        assert!(promise.check(&settings, &[(T0, 8), (T0 + DAY_US, 6)]).is_err());
        assert!(promise.check(&settings, &[(T0, 8), (T0 + 2 * DAY_US, 8)]).is_ok());
        assert!(promise.check(&settings, &[(T0 + 2 * DAY_US, 9)]).is_err());
        assert!(promise.check(&json!({ "limit": 5, "every": "eon" }), &[]).unwrap_err().contains("eon"));
    }

    #[test]
    fn at_certain_hours_an_amount_counts_for_less() {
        let promise = promise(json!({
            "kind": "priced", "limit": "/limit", "every": "day", "price_permille": "/share", "from_minute": "/from",
            "minutes": "/for", "utc_offset_minutes": "/ahead"
        }));
        assert_eq!(promise.prices(), ["share", "from", "for", "ahead"]);
        let settings = json!({ "limit": 5, "share": 500, "from": 22 * 60, "for": 240 });
        assert!(promise.check(&settings, &[(T0, 10)]).is_ok());
        assert!(promise.check(&settings, &[(T0 - DAY_US / 2, 1), (T0, 9)]).unwrap_err().contains("5500"));
    }

    #[test]
    fn open_is_what_has_not_run_out() {
        let promise = promise(json!({ "kind": "open", "limit": "/limit", "open_s": "/open_s" }));
        let settings = json!({ "limit": 5, "open_s": 1 });
        assert!(promise.check(&settings, &[(T0, 5), (T0 + 1_000_000, 5)]).is_ok());
        assert!(promise.check(&settings, &[(T0, 5), (T0 + 999_999, 1)]).is_err());
        // As long as a reservation can be, where the settings do not say.
        assert!(promise.check(&json!({ "limit": 5 }), &[(T0, 5), (T0 + 3_599_999_999, 1)]).is_err());
    }

    #[test]
    fn a_kind_that_is_not_known_is_named() {
        let unknown = serde_json::from_value::<Promise>(json!({ "kind": "karma", "limit": "/limit" })).unwrap_err();
        assert!(unknown.to_string().contains("unknown variant `karma`"), "{unknown}");
    }
}
