//! monthly-bucket against an oracle that keeps every charge in a map by the months of a calendar.

#![allow(clippy::unwrap_used, reason = "what cannot be unwrapped is the test's failure")]

#[path = "../../../tests/policies/user.rs"]
mod user;

use cellar_policy_monthly_bucket::{LIMIT_MAX, MonthlyBucket};
use cellar_policy_sdk::{Operation, Request, configure};
use jiff::Timestamp;
use jiff::tz::Offset;
use proptest::prelude::*;
use std::collections::HashMap;
use user::{Rule, User, us};

const DAY_US: u64 = 86_400_000_000;

/// As an operator writes them.
#[derive(Clone, Copy, Debug)]
struct Months {
    limit: u64,
    anchor_day: u8,
    utc_offset_minutes: i64,
}

impl Rule for Months {
    type Policy = MonthlyBucket;

    fn settings(self) -> String {
        let Self { limit, anchor_day, utc_offset_minutes } = self;
        format!(r#"{{"limit":{limit},"anchor_day":{anchor_day},"utc_offset_minutes":{utc_offset_minutes}}}"#)
    }
}

impl Months {
    fn plain(limit: u64) -> Self {
        Self { limit, anchor_day: 1, utc_offset_minutes: 0 }
    }

    /// Which month holds the moment, by the calendar.
    fn month(self, at_us: u64) -> i64 {
        let offset = Offset::from_seconds(i32::try_from(self.utc_offset_minutes * 60).unwrap()).unwrap();
        let date = offset.to_datetime(Timestamp::from_microsecond(at_us as i64).unwrap()).date();
        let begins = i8::try_from(self.anchor_day).unwrap().min(date.days_in_month());
        i64::from(date.year()) * 12 + i64::from(date.month()) - i64::from(date.day() < begins)
    }
}

fn months(limit: impl Strategy<Value = u64>) -> impl Strategy<Value = Months> {
    let anchor_day = prop_oneof![3 => Just(1_u8), 2 => 1..=28_u8, 2 => 29..=31_u8];
    let offset = prop_oneof![Just(0_i64), -720..=840_i64, Just(-720), Just(840)];
    (limit, anchor_day, offset).prop_map(|(limit, anchor_day, utc_offset_minutes)| Months {
        limit,
        anchor_day,
        utc_offset_minutes,
    })
}

fn histories() -> impl Strategy<Value = (Months, Vec<(u64, u64)>)> {
    months(prop_oneof![1..100_u64, 1..=LIMIT_MAX]).prop_flat_map(|months| {
        let limit = months.limit;
        let pause = prop_oneof![Just(0_u64), 0..5_u64, 0..DAY_US, 0..40 * DAY_US, 0..4_000 * DAY_US];
        let cost = prop_oneof![Just(1_u64), 0..=limit, Just(limit), 1..=(limit / 3).max(1)];
        (Just(months), prop::collection::vec((pause, cost), 1..50))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_month_ever_holds_more_than_its_limit((months, history) in histories(), start_us in 0..100 * 366 * DAY_US) {
        let (mut user, mut now_us, mut spent) = (User::new(months), start_us, HashMap::new());
        for (pause_us, cost) in history {
            now_us += pause_us;
            let spent: &mut u64 = spent.entry(months.month(now_us)).or_default();
            let outcome = user.consume(now_us, cost);
            prop_assert_eq!(outcome.admitted, *spent + cost <= months.limit);
            if outcome.admitted {
                *spent += cost;
            } else {
                prop_assert_eq!(&outcome.state, &None);
            }
            prop_assert_eq!(outcome.remaining, months.limit - *spent);
            prop_assert_eq!(outcome.limit, months.limit);
        }
    }

    #[test]
    fn waits_end_with_the_month_to_the_microsecond((months, history) in histories(), start_us in 0..100 * 366 * DAY_US) {
        let (mut user, mut now_us) = (User::new(months), start_us);
        for (pause_us, cost) in history {
            now_us += pause_us;
            let outcome = user.consume(now_us, cost);
            let end_us = now_us + outcome.reset_after_us;
            prop_assert_eq!(months.month(end_us), months.month(now_us) + 1);
            prop_assert_eq!(months.month(end_us - 1), months.month(now_us));
            if !outcome.admitted {
                prop_assert_eq!(outcome.retry_after_us, outcome.reset_after_us);
                let at = |at_us| user.ask(&Request::new(Operation::Consume, at_us, cost)).admitted;
                prop_assert!(at(end_us) && !at(end_us - 1));
            }
        }
    }

    /// A user lives under one set of settings, then under another. At the change nothing is forgotten or invented;
    /// later nothing that was spent in the month at hand is forgotten, and what was spent before is gone by the
    /// first border behind the month that it was spent in. What is said of waiting is true in between.
    #[test]
    fn another_limit_day_or_offset_finds_what_was_spent(
        (from, history) in histories(), to in months(1..=LIMIT_MAX), start_us in 0..100 * 366 * DAY_US,
        pauses in prop::collection::vec(prop_oneof![0..DAY_US, 0..20 * DAY_US, 0..70 * DAY_US], 1..8),
    ) {
        let (mut user, mut now_us, mut charges) = (User::new(from), start_us, Vec::new());
        for (pause_us, cost) in history {
            now_us += pause_us;
            if user.consume(now_us, cost).admitted {
                charges.push((now_us, cost));
            }
        }
        let spent_now = from.limit - user.remaining(now_us);
        let changed_us = now_us;
        user.goes_under(to);
        // A month that was over before the change stays over, under whichever settings.
        let last = charges.last().map_or(0, |(at, _)| from.month(*at));
        charges.retain(|(at, _)| from.month(*at) == last);
        let since = |month: i64| charges.iter().filter(|(at, _)| to.month(*at) == month).map(|(_, cost)| cost).sum::<u64>();
        if charges.last().is_some_and(|(at, _)| *at == now_us) {
            prop_assert_eq!(user.remaining(now_us), to.limit.saturating_sub(spent_now));
        }
        for pause_us in pauses {
            now_us += pause_us;
            let left = user.remaining(now_us);
            prop_assert!(left <= to.limit.saturating_sub(since(to.month(now_us))), "something is forgotten");
            if from.month(now_us) > from.month(changed_us) && to.month(now_us) > to.month(changed_us) + 1 {
                prop_assert_eq!(left, to.limit, "something is invented");
            }
            let outcome = user.ask(&Request::new(Operation::Consume, now_us, left + 1));
            if !outcome.admitted && left < to.limit {
                let at = |at_us| user.ask(&Request::new(Operation::Consume, at_us, left + 1)).admitted;
                let then_us = now_us + outcome.retry_after_us;
                prop_assert!(at(then_us) && !at(then_us - 1), "a wait of {}", outcome.retry_after_us);
            }
        }
    }

    /// What 1.0.0 wrote and read: the start of the calendar month in UTC, and what was spent in it.
    #[test]
    fn under_the_settings_of_1_0_0_its_states_are_kept_byte_for_byte(
        at_us in 0..8_000 * 365 * DAY_US, limit in 1..=LIMIT_MAX, share in 1..=100_u64,
    ) {
        let cost = (limit / 100 * share).max(1);
        let mut user = User::new(Months::plain(limit));
        user.consume(at_us, cost);
        let date = Offset::UTC.to_datetime(Timestamp::from_microsecond(at_us as i64).unwrap()).date();
        let start_us = Offset::UTC.to_timestamp(date.first_of_month().at(0, 0, 0, 0)).unwrap().as_microsecond() as u64;
        prop_assert_eq!(&user.state, &[start_us.to_le_bytes(), cost.to_le_bytes()].concat());
        prop_assert_eq!(user.remaining(at_us), limit - cost);
    }
}

#[test]
fn an_anniversary_on_a_day_that_a_month_lacks_is_its_last() {
    let months = Months { limit: 10, anchor_day: 31, utc_offset_minutes: 0 };
    let mut user = User::new(months);
    for (from, to) in [
        ("2024-01-31T00:00:00", "2024-02-29T00:00:00"),
        ("2024-02-29T00:00:00", "2024-03-31T00:00:00"),
        ("2024-03-31T00:00:00", "2024-04-30T00:00:00"),
        ("2023-02-28T00:00:00", "2023-03-31T00:00:00"),
    ] {
        user.state.clear();
        assert!(user.consume(us(from), 10).admitted, "{from}");
        assert_eq!(user.consume(us(to) - 1, 1).retry_after_us, 1, "{to}");
        assert!(user.consume(us(to), 10).admitted, "{to}");
    }
}

#[test]
fn a_month_begins_at_local_midnight() {
    let mut user = User::new(Months { limit: 10, anchor_day: 1, utc_offset_minutes: 330 });
    assert!(user.consume(us("2024-02-29T18:29:59.999999"), 10).admitted);
    assert_eq!(user.consume(us("2024-02-29T18:29:59.999999"), 1).retry_after_us, 1);
    assert!(user.consume(us("2024-02-29T18:30:00"), 10).admitted);
}

#[test]
fn a_day_and_an_offset_that_do_not_exist_are_refused_at_their_places() {
    let problems = configure::<MonthlyBucket>(r#"{"limit":1,"anchor_day":32,"utc_offset_minutes":-721}"#).unwrap_err();
    let said: Vec<String> = problems.into_iter().map(|p| format!("{} {}", p.pointer, p.message)).collect();
    assert_eq!(said, ["/anchor_day must be at most 31", "/utc_offset_minutes must be at least -720"]);
}

#[test]
fn a_month_ends_with_its_last_microsecond() {
    for (last, first) in [
        ("2024-02-29T23:59:59.999999", "2024-03-01T00:00:00"),
        ("2023-02-28T23:59:59.999999", "2023-03-01T00:00:00"),
        ("2100-02-28T23:59:59.999999", "2100-03-01T00:00:00"),
        ("2023-12-31T23:59:59.999999", "2024-01-01T00:00:00"),
        ("2024-04-30T23:59:59.999999", "2024-05-01T00:00:00"),
    ] {
        let mut user = User::new(Months::plain(10));
        assert!(user.consume(us(last), 10).admitted, "{last}");
        assert_eq!(user.consume(us(last), 1).retry_after_us, 1, "{last}");
        assert!(user.consume(us(first), 10).admitted, "{first}");
    }
}

#[test]
fn a_leap_day_is_still_february() {
    let mut user = User::new(Months::plain(10));
    assert!(user.consume(us("2024-02-01T00:00:00"), 6).admitted);
    assert_eq!(user.consume(us("2024-02-29T12:00:00"), 5).retry_after_us, DAY_US / 2);
}

#[test]
fn years_of_rest_carry_nothing_over() {
    let mut user = User::new(Months::plain(10));
    assert!(user.consume(us("2020-01-15T00:00:00"), 3).admitted);
    let later = us("2031-07-15T00:00:00");
    assert!(user.consume(later, 10).admitted);
    assert!(!user.consume(later, 1).admitted);
}

#[test]
fn a_cost_above_the_limit_never_passes_and_says_so() {
    let outcome = User::new(Months::plain(10)).consume(us("2024-02-01T00:00:00"), 11);
    assert_eq!((outcome.admitted, outcome.retry_after_us, outcome.note), (false, 0, 1));
    assert_eq!((outcome.remaining, outcome.state), (10, None));
}

#[test]
fn asking_changes_nothing_and_does_not_bind() {
    let mut user = User::new(Months::plain(10));
    let now_us = us("2024-02-01T00:00:00");
    user.consume(now_us, 10);
    for request in [Request::new(Operation::Peek, now_us, 5), Request::new(Operation::Consume, now_us, 0)] {
        let outcome = user.ask(&request);
        assert_eq!((outcome.admitted, outcome.remaining, outcome.state), (true, 0, None));
    }
}

#[test]
fn a_settle_adjusts_the_month_that_took_it() {
    let mut user = User::new(Months::plain(10));
    let (taken, later) = (us("2024-02-10T00:00:00"), us("2024-02-20T00:00:00"));
    user.tell(&Request::new(Operation::Reserve, taken, 8));
    assert_eq!(user.tell(&Request::settle(later, 3, 8, taken)).remaining, 7);
    assert_eq!(user.tell(&Request::settle(later, 0, 3, taken)).remaining, 10);
}

#[test]
fn nothing_is_given_back_into_a_new_month_and_what_is_missing_is_charged() {
    let mut user = User::new(Months::plain(10));
    let (taken, next) = (us("2024-02-29T23:00:00"), us("2024-03-01T01:00:00"));
    user.tell(&Request::new(Operation::Reserve, taken, 8));
    user.consume(next, 4);
    let given = user.tell(&Request::settle(next, 0, 8, taken));
    assert_eq!((given.admitted, given.remaining, given.state), (true, 6, None));
    assert_eq!(user.tell(&Request::settle(next, 11, 8, taken)).remaining, 3);
}

#[test]
fn a_settle_above_the_limit_is_charged() {
    let mut user = User::new(Months::plain(10));
    let now_us = us("2024-02-10T00:00:00");
    user.tell(&Request::new(Operation::Reserve, now_us, 8));
    let settled = user.tell(&Request::settle(now_us, 25, 8, now_us));
    assert_eq!((settled.admitted, settled.remaining), (true, 0));
    // Settles as large as the type allows leave a policy that still answers.
    for _ in 0..3 {
        user.tell(&Request::settle(now_us, u64::MAX, 0, now_us));
    }
    assert!(!user.consume(now_us, 1).admitted);
}
