//! night-discount against an oracle that keeps every charge with its price, by the hours and periods of a calendar.

#![allow(clippy::unwrap_used, reason = "what cannot be unwrapped is the test's failure")]

#[path = "../../../tests/policies/user.rs"]
mod user;

use cellar_policy_night_discount::NightDiscount;
use cellar_policy_sdk::{AMOUNT_MAX, Operation, Request, configure};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use proptest::prelude::*;
use std::collections::HashMap;
use user::{Rule, User, us};

const MINUTE_US: u64 = 60_000_000;
const DAY_US: u64 = 86_400_000_000;

#[derive(Clone, Copy, Debug)]
struct Night {
    limit: u64,
    every: &'static str,
    price_permille: u64,
    from_minute: u64,
    minutes: u64,
    utc_offset_minutes: i64,
}

impl Rule for Night {
    type Policy = NightDiscount;

    fn settings(self) -> String {
        let Self { limit, every, price_permille, from_minute, minutes, utc_offset_minutes } = self;
        format!(
            r#"{{"limit":{limit},"every":"{every}","price_permille":{price_permille},"from_minute":{from_minute},"minutes":{minutes},"utc_offset_minutes":{utc_offset_minutes}}}"#
        )
    }
}

impl Night {
    fn local(self, at_us: u64) -> DateTime {
        let offset = Offset::from_seconds(i32::try_from(self.utc_offset_minutes * 60).unwrap()).unwrap();
        offset.to_datetime(Timestamp::from_microsecond(at_us as i64).unwrap())
    }

    /// What names the period, by the calendar.
    fn period(self, at_us: u64) -> String {
        let local = self.local(at_us);
        match self.every {
            "hour" => format!("{} {}", local.date(), local.hour()),
            "day" => local.date().to_string(),
            "week" => {
                let week = local.date().iso_week_date();
                format!("{} week {}", week.year(), week.week())
            }
            _ => format!("{}-{}", local.year(), local.month()),
        }
    }

    /// Thousandths that count, minute by minute of the day.
    fn price(self, at_us: u64) -> u64 {
        let local = self.local(at_us);
        let minute = u64::try_from(i64::from(local.hour()) * 60 + i64::from(local.minute())).unwrap();
        let cheap = (self.from_minute..self.from_minute + self.minutes).any(|cheap| cheap % 1_440 == minute);
        if cheap { self.price_permille } else { 1_000 }
    }
}

fn nights() -> impl Strategy<Value = Night> {
    let limit = prop_oneof![1..50_u64, 1..=AMOUNT_MAX];
    let every = proptest::sample::select(vec!["hour", "day", "week", "month"]);
    let price = prop_oneof![Just(500_u64), Just(333), 1..=1_000_u64];
    let offset = prop_oneof![Just(0_i64), -720..=840_i64];
    (limit, every, price, 0..1_440_u64, 1..=1_440_u64, offset).prop_map(
        |(limit, every, price_permille, from_minute, minutes, utc_offset_minutes)| Night {
            limit,
            every,
            price_permille,
            from_minute,
            minutes,
            utc_offset_minutes,
        },
    )
}

fn histories() -> impl Strategy<Value = (Night, Vec<(u64, u64)>)> {
    nights().prop_flat_map(|night| {
        let most = night.limit * 1_000 / night.price_permille;
        let pause = prop_oneof![Just(0_u64), 0..5_u64, 0..60 * MINUTE_US, 0..DAY_US, 0..40 * DAY_US];
        let cost = prop_oneof![Just(1_u64), 1..=night.limit, Just(night.limit), 1..=most, Just(most), Just(most + 1)];
        (Just(night), prop::collection::vec((pause, cost), 1..40))
    })
}

fn starts() -> std::ops::Range<u64> {
    40 * DAY_US..100 * 366 * DAY_US
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 384, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_period_ever_holds_more_than_its_limit_in_priced_amounts((night, history) in histories(), start_us in starts()) {
        let (mut user, mut now_us, mut spent) = (User::new(night), start_us, HashMap::new());
        let limit = u128::from(night.limit) * 1_000;
        for (pause_us, cost) in history {
            now_us += pause_us;
            let spent: &mut u128 = spent.entry(night.period(now_us)).or_default();
            let (price, outcome) = (u128::from(night.price(now_us)), user.consume(now_us, cost));
            prop_assert_eq!(outcome.admitted, *spent + u128::from(cost) * price <= limit);
            if outcome.admitted {
                *spent += u128::from(cost) * price;
            } else {
                prop_assert_eq!(&outcome.state, &None);
            }
            prop_assert_eq!(u128::from(outcome.remaining), (limit - *spent) / price);
            prop_assert_eq!(outcome.limit, night.limit * 1_000 / night.price_permille);
        }
    }

    /// Between now and the promised moment, every border of hours and periods is tried.
    #[test]
    fn a_wait_ends_at_the_first_moment_that_admits((night, history) in histories(), start_us in starts()) {
        let (mut user, mut now_us) = (User::new(night), start_us);
        for (pause_us, cost) in history {
            now_us += pause_us;
            let outcome = user.consume(now_us, cost);
            if outcome.admitted || cost > outcome.limit {
                prop_assert_eq!(outcome.retry_after_us, 0);
                continue;
            }
            let then_us = now_us + outcome.retry_after_us;
            let at = |at_us| user.ask(&Request::new(Operation::Consume, at_us, cost)).admitted;
            prop_assert!(at(then_us), "not admitted when it was promised");
            prop_assert!(!at(then_us - 1), "admitted earlier than promised");
            let quarters = (now_us / (15 * MINUTE_US) + 1..).map(|quarter| quarter * 15 * MINUTE_US);
            for earlier_us in quarters.take_while(|at| *at < then_us).take(500) {
                prop_assert!(!at(earlier_us), "admitted at {}", earlier_us);
            }
        }
    }

    /// A settle at another hour, or under other prices, stands no better than the lesser amount taken at once.
    #[test]
    fn a_settle_counts_at_the_price_of_when_it_was_held(
        night in nights(), other in nights(), start_us in starts(), held in 1..=1_000_u64, used in 0..=1_000_u64,
        pause_us in prop_oneof![0..60 * MINUTE_US, 0..2 * 60 * MINUTE_US], changes: bool,
    ) {
        let held = (u128::from(User::new(night).remaining(start_us)) * u128::from(held) / 1_000) as u64;
        let used = (u128::from(held) * u128::from(used) / 1_000) as u64;
        prop_assume!(held > 0);
        let (mut user, mut lesser) = (User::new(night), User::new(night));
        user.tell(&Request::new(Operation::Reserve, start_us, held));
        lesser.consume(start_us, used);
        let now_us = start_us + pause_us;
        if changes {
            let to = Night { every: night.every, utc_offset_minutes: night.utc_offset_minutes, ..other };
            user.goes_under(to);
            lesser.goes_under(to);
        }
        let settled = user.tell(&Request::settle(now_us, used, held, start_us));
        prop_assert!(settled.admitted);
        if night.period(now_us) == night.period(start_us) {
            prop_assert_eq!(settled.remaining, lesser.remaining(now_us));
        } else {
            prop_assert!(settled.remaining <= lesser.remaining(now_us));
        }
        // Said twice, it gives nothing more than the cheapest price would.
        let again = user.ask(&Request::settle(now_us, held, held, start_us));
        prop_assert_eq!(again.remaining, settled.remaining);
    }
}

const HALF: Night =
    Night { limit: 100, every: "day", price_permille: 500, from_minute: 22 * 60, minutes: 480, utc_offset_minutes: 0 };

#[test]
fn at_the_cheap_hours_twice_as_much_passes() {
    let mut user = User::new(HALF);
    let (day, night) = (us("2024-03-01T21:59:59.999999"), us("2024-03-01T22:00:00"));
    assert!(user.consume(day, 60).admitted);
    assert_eq!((user.remaining(day), user.remaining(night)), (40, 80));
    let denied = user.consume(day, 80);
    assert_eq!((denied.admitted, denied.retry_after_us), (false, 1));
    assert!(user.consume(night, 79).admitted);
    // Half a unit is left: nothing at the full price.
    assert_eq!(user.remaining(night), 1);
    assert_eq!(user.remaining(us("2024-03-02T00:00:00")), 200);
}

#[test]
fn more_than_a_day_price_ever_admits_waits_for_the_night() {
    let mut user = User::new(HALF);
    let morning = us("2024-03-01T12:00:00");
    let denied = user.consume(morning, 150);
    assert_eq!((denied.admitted, denied.retry_after_us, denied.note), (false, 600 * MINUTE_US, 0));
    let never = user.consume(morning, 201);
    assert_eq!((never.admitted, never.retry_after_us, never.note, never.limit), (false, 0, 1, 200));
}

#[test]
fn a_settle_above_the_limit_is_charged() {
    let mut user = User::new(HALF);
    let now_us = us("2024-03-01T12:00:00");
    user.tell(&Request::new(Operation::Reserve, now_us, 100));
    let settled = user.tell(&Request::settle(now_us, 250, 100, now_us));
    assert_eq!((settled.admitted, settled.remaining), (true, 0));
    for _ in 0..3 {
        user.tell(&Request::settle(now_us, u64::MAX, 0, now_us));
    }
    assert!(!user.consume(now_us, 1).admitted);
}

#[test]
fn a_price_of_nothing_and_hours_that_do_not_exist_are_refused() {
    let problems = configure::<NightDiscount>(r#"{"limit":1,"price_permille":0,"from_minute":1440,"minutes":0}"#);
    let said: Vec<String> = problems.unwrap_err().into_iter().map(|p| p.pointer).collect();
    assert_eq!(said, ["/from_minute", "/minutes", "/price_permille"]);
}
