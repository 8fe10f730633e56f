//! `GET /v1/user/usage`: what a user has been charged, by day.

use crate::accounts::{AccountsError, Caller};
use crate::decide::DecideState;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use cellar_model::wire::{UsageBody, UsageDay};
use cellar_model::{Problem, ProblemType, SettingProblem};
use cellar_server::QueryOf;
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan, tz};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Of one question: a leap year.
const DAYS_MAX: i64 = 366;
/// Up to today, if nothing else is asked.
const DAYS_DEFAULT: i64 = 31;

#[derive(Deserialize)]
pub(crate) struct Between {
    from: Option<String>,
    to: Option<String>,
}

/// What the user was charged, by day
#[utoipa::path(get, path = "/v1/user/usage")]
pub(crate) async fn usage(
    State(state): State<DecideState>,
    QueryOf(between): QueryOf<Between>,
    caller: Caller,
) -> Result<Response, AccountsError> {
    let user = state.accounts.authorize(&caller).await?;
    let today = Timestamp::from_microsecond(state.quota.now().0 as i64).unwrap_or(Timestamp::UNIX_EPOCH);
    let (from, to) = days(&between, tz::Offset::UTC.to_datetime(today).date())?;
    let rows = state.quota.ledger().usage(&user, number(from)..number(to)).await;
    let rows = rows.map_err(|error| {
        tracing::warn!(error = &error as &dyn std::error::Error, "the ledger cannot be read");
        Problem::new(ProblemType::TryAgain)
    })?;
    let mut totals = BTreeMap::new();
    let mut by_day: BTreeMap<i64, BTreeMap<_, i64>> = BTreeMap::new();
    for (day, unit, amount) in rows {
        *totals.entry(unit.clone()).or_default() += amount;
        by_day.entry(day).or_default().insert(unit, amount);
    }
    let days = by_day.into_iter().map(|(day, charges)| UsageDay { day: date(day).to_string(), charges }).collect();
    let body = UsageBody { user_id: user, from: from.to_string(), to: to.to_string(), totals, days };
    Ok(axum::Json(body).into_response())
}

fn days(between: &Between, today: Date) -> Result<(Date, Date), Problem> {
    let invalid = |pointer: &str, message: &str| {
        Problem::new(ProblemType::Invalid).errors(vec![SettingProblem::new(pointer, message)])
    };
    let read = |name: &str, text: &Option<String>| {
        let day = text.as_deref().map(str::parse::<Date>).transpose();
        day.map_err(|_| invalid(name, "a day is written as 2023-11-14"))
    };
    let to = read("to", &between.to)?.unwrap_or_else(|| today.saturating_add(1.day()));
    let from = read("from", &between.from)?.unwrap_or_else(|| to.saturating_sub(DAYS_DEFAULT.days()));
    if !(1..=DAYS_MAX).contains(&(number(to) - number(from))) {
        return Err(invalid("to", "is 1 to 366 days after from"));
    }
    Ok((from, to))
}

/// Days since the epoch.
fn number(day: Date) -> i64 {
    (day - date(0)).get_days().into()
}

fn date(number: i64) -> Date {
    jiff::civil::date(1970, 1, 1).saturating_add(number.days())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(from: &str, to: &str) -> Result<(String, String), Problem> {
        let text = |day: &str| (!day.is_empty()).then(|| day.to_owned());
        let between = Between { from: text(from), to: text(to) };
        days(&between, jiff::civil::date(2024, 2, 28)).map(|(from, to)| (from.to_string(), to.to_string()))
    }

    #[test]
    fn a_question_without_days_is_about_the_last_month_up_to_today() {
        assert_eq!(asked("", "").unwrap(), ("2024-01-29".into(), "2024-02-29".into()));
        assert_eq!(asked("2024-02-01", "").unwrap(), ("2024-02-01".into(), "2024-02-29".into()));
    }

    #[test]
    fn what_is_no_day_or_too_many_of_them_is_refused() {
        assert!(asked("2023-03-01", "2024-03-01").is_ok(), "366 days");
        for (from, to) in [("2023-02-28", "2024-03-01"), ("2024-01-02", "2024-01-02"), ("x", ""), ("", "2024-02-30")] {
            assert!(asked(from, to).is_err(), "{from} {to}");
        }
    }

    #[test]
    fn days_are_numbered_from_the_epoch() {
        assert_eq!(number(jiff::civil::date(2023, 11, 14)), 1_700_000_000 / 86_400);
        assert_eq!(date(number(jiff::civil::date(2024, 2, 29))), jiff::civil::date(2024, 2, 29));
    }
}
