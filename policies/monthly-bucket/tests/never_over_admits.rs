//! monthly-bucket against an oracle that keeps every charge in a map by calendar month.

#![allow(clippy::unwrap_used, reason = "what cannot be unwrapped is the test's failure")]

use cellar_policy_monthly_bucket::{LIMIT_MAX, MonthlyBucket};
use cellar_policy_sdk::{Operation, Outcome, Request, configure, decide};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use std::collections::HashMap;

const DAY_US: u64 = 86_400_000_000;

struct User {
    parameters: Vec<u8>,
    state: Vec<u8>,
}

impl User {
    fn new(limit: u64) -> Self {
        Self { parameters: parameters(limit), state: Vec::new() }
    }

    fn ask(&self, request: &Request) -> Outcome<Vec<u8>> {
        decide::<MonthlyBucket>(&self.parameters, &self.state, request)
    }

    fn tell(&mut self, request: &Request) -> Outcome<Vec<u8>> {
        let outcome = self.ask(request);
        if let Some(state) = &outcome.state {
            self.state.clone_from(state);
        }
        outcome
    }

    fn consume(&mut self, now_us: u64, cost: u64) -> Outcome<Vec<u8>> {
        self.tell(&Request::new(Operation::Consume, now_us, cost))
    }
}

fn parameters(limit: u64) -> Vec<u8> {
    configure::<MonthlyBucket>(&format!(r#"{{"limit":{limit}}}"#)).unwrap()
}

fn us(text: &str) -> u64 {
    let civil: DateTime = text.parse().unwrap();
    TimeZone::UTC.to_timestamp(civil).unwrap().as_microsecond() as u64
}

fn calendar_month(at_us: u64) -> (i16, i8) {
    let date = TimeZone::UTC.to_datetime(Timestamp::from_microsecond(at_us as i64).unwrap()).date();
    (date.year(), date.month())
}

fn histories() -> impl Strategy<Value = (u64, Vec<(u64, u64)>)> {
    let limit = prop_oneof![1..100_u64, 1..=LIMIT_MAX];
    limit.prop_flat_map(|limit| {
        let pause = prop_oneof![Just(0_u64), 0..5_u64, 0..DAY_US, 0..40 * DAY_US, 0..4_000 * DAY_US];
        let cost = prop_oneof![Just(1_u64), 0..=limit, Just(limit), 1..=(limit / 3).max(1)];
        (Just(limit), prop::collection::vec((pause, cost), 1..50))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_month_ever_holds_more_than_its_limit((limit, history) in histories(), start_us in 0..100 * 366 * DAY_US) {
        let (mut user, mut now_us, mut spent) = (User::new(limit), start_us, HashMap::new());
        for (pause_us, cost) in history {
            now_us += pause_us;
            let spent: &mut u64 = spent.entry(calendar_month(now_us)).or_default();
            let outcome = user.consume(now_us, cost);
            prop_assert_eq!(outcome.admitted, *spent + cost <= limit);
            if outcome.admitted {
                *spent += cost;
            } else {
                prop_assert_eq!(&outcome.state, &None);
            }
            prop_assert_eq!(outcome.remaining, limit - *spent);
            prop_assert_eq!(outcome.limit, limit);
        }
    }

    #[test]
    fn waits_end_with_the_month_to_the_microsecond((limit, history) in histories(), start_us in 0..100 * 366 * DAY_US) {
        let (mut user, mut now_us) = (User::new(limit), start_us);
        for (pause_us, cost) in history {
            now_us += pause_us;
            let outcome = user.consume(now_us, cost);
            let end_us = now_us + outcome.reset_after_us;
            prop_assert_ne!(calendar_month(end_us), calendar_month(now_us));
            prop_assert_eq!(calendar_month(end_us - 1), calendar_month(now_us));
            if !outcome.admitted {
                prop_assert_eq!(outcome.retry_after_us, outcome.reset_after_us);
                let at = |at_us| user.ask(&Request::new(Operation::Consume, at_us, cost)).admitted;
                prop_assert!(at(end_us) && !at(end_us - 1));
            }
        }
    }

    #[test]
    fn another_limit_finds_what_was_spent(from in 1..=LIMIT_MAX, to in 1..=LIMIT_MAX, share in 0..=100_u64) {
        let mut user = User::new(from);
        let spent = from / 100 * share;
        user.consume(0, spent);
        user.parameters = parameters(to);
        prop_assert_eq!(user.ask(&Request::new(Operation::Peek, 0, 0)).remaining, to.saturating_sub(spent));
    }
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
        let mut user = User::new(10);
        assert!(user.consume(us(last), 10).admitted, "{last}");
        assert_eq!(user.consume(us(last), 1).retry_after_us, 1, "{last}");
        assert!(user.consume(us(first), 10).admitted, "{first}");
    }
}

#[test]
fn a_leap_day_is_still_february() {
    let mut user = User::new(10);
    assert!(user.consume(us("2024-02-01T00:00:00"), 6).admitted);
    assert_eq!(user.consume(us("2024-02-29T12:00:00"), 5).retry_after_us, DAY_US / 2);
}

#[test]
fn years_of_rest_carry_nothing_over() {
    let mut user = User::new(10);
    assert!(user.consume(us("2020-01-15T00:00:00"), 3).admitted);
    let later = us("2031-07-15T00:00:00");
    assert!(user.consume(later, 10).admitted);
    assert!(!user.consume(later, 1).admitted);
}

#[test]
fn a_cost_above_the_limit_never_passes_and_says_so() {
    let outcome = User::new(10).consume(us("2024-02-01T00:00:00"), 11);
    assert_eq!((outcome.admitted, outcome.retry_after_us, outcome.note), (false, 0, 1));
    assert_eq!((outcome.remaining, outcome.state), (10, None));
}

#[test]
fn asking_changes_nothing_and_does_not_bind() {
    let mut user = User::new(10);
    let now_us = us("2024-02-01T00:00:00");
    user.consume(now_us, 10);
    for request in [Request::new(Operation::Peek, now_us, 5), Request::new(Operation::Consume, now_us, 0)] {
        let outcome = user.ask(&request);
        assert_eq!((outcome.admitted, outcome.remaining, outcome.state), (true, 0, None));
    }
}

#[test]
fn a_settle_adjusts_the_month_that_took_it() {
    let mut user = User::new(10);
    let (taken, later) = (us("2024-02-10T00:00:00"), us("2024-02-20T00:00:00"));
    user.tell(&Request::new(Operation::Reserve, taken, 8));
    assert_eq!(user.tell(&Request::settle(later, 3, 8, taken)).remaining, 7);
    assert_eq!(user.tell(&Request::settle(later, 0, 3, taken)).remaining, 10);
}

#[test]
fn nothing_is_given_back_into_a_new_month_and_what_is_missing_is_charged() {
    let mut user = User::new(10);
    let (taken, next) = (us("2024-02-29T23:00:00"), us("2024-03-01T01:00:00"));
    user.tell(&Request::new(Operation::Reserve, taken, 8));
    user.consume(next, 4);
    let given = user.tell(&Request::settle(next, 0, 8, taken));
    assert_eq!((given.admitted, given.remaining, given.state), (true, 6, None));
    assert_eq!(user.tell(&Request::settle(next, 11, 8, taken)).remaining, 3);
}

#[test]
fn a_settle_above_the_limit_is_charged() {
    let mut user = User::new(10);
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
