//! token-bucket against an oracle that lives through every period: tokens in two purses, one for those that the
//! period brought and one for those that rolled over into it.

#![allow(clippy::unwrap_used, reason = "what cannot be unwrapped is the test's failure")]

#[path = "../../../tests/policies/user.rs"]
mod user;

use cellar_policy_sdk::{AMOUNT_MAX, Operation, Request, configure};
use cellar_policy_token_bucket::{FILL_PERIODS_MAX, TokenBucket};
use jiff::Timestamp;
use jiff::civil::{DateTime, date};
use jiff::tz::Offset;
use proptest::prelude::*;
use user::{Rule, User, us};

const DAY_US: u64 = 86_400_000_000;
/// Periods that the oracle lives through one by one, at most.
const PERIODS_MAX: i64 = 20_000;

#[derive(Clone, Copy, Debug)]
struct Tokens {
    limit: u64,
    every: &'static str,
    rollover_max: u64,
    utc_offset_minutes: i64,
}

impl Rule for Tokens {
    type Policy = TokenBucket;

    fn settings(self) -> String {
        let Self { limit, every, rollover_max, utc_offset_minutes } = self;
        format!(
            r#"{{"limit":{limit},"every":"{every}","rollover_max":{rollover_max},"utc_offset_minutes":{utc_offset_minutes}}}"#
        )
    }
}

impl Tokens {
    fn local(self, at_us: u64) -> DateTime {
        let offset = Offset::from_seconds(i32::try_from(self.utc_offset_minutes * 60).unwrap()).unwrap();
        offset.to_datetime(Timestamp::from_microsecond(at_us as i64).unwrap())
    }

    /// The number of a period, by the calendar.
    fn period(self, at_us: u64) -> i64 {
        let local = self.local(at_us);
        let day = i64::from(date(1970, 1, 1).until((jiff::Unit::Day, local.date())).unwrap().get_days());
        match self.every {
            "hour" => day * 24 + i64::from(local.hour()),
            "day" => day,
            "week" => (day + 3).div_euclid(7),
            _ => i64::from(local.year()) * 12 + i64::from(local.month()),
        }
    }
}

struct Purses {
    tokens: Tokens,
    period: i64,
    brought: u64,
    rolled: u64,
}

impl Purses {
    fn new(tokens: Tokens, at_us: u64) -> Self {
        Self { tokens, period: tokens.period(at_us), brought: tokens.limit, rolled: tokens.rollover_max }
    }

    fn go_to(&mut self, at_us: u64) {
        let period = self.tokens.period(at_us);
        for _ in 0..(period - self.period).min(PERIODS_MAX) {
            self.rolled = (self.brought + self.rolled).min(self.tokens.rollover_max);
            self.brought = self.tokens.limit;
        }
        self.period = period;
    }

    fn left(&self) -> u64 {
        self.brought + self.rolled
    }

    /// The older ones first.
    fn take(&mut self, cost: u64) -> bool {
        let enough = cost <= self.left();
        if enough {
            let old = cost.min(self.rolled);
            self.rolled -= old;
            self.brought -= cost - old;
        }
        enough
    }
}

fn tokens() -> impl Strategy<Value = Tokens> {
    let limit = prop_oneof![1..50_u64, 1..=AMOUNT_MAX];
    let every = proptest::sample::select(vec!["hour", "day", "week", "month"]);
    let offset = prop_oneof![Just(0_i64), -720..=840_i64];
    (limit, every, 0..=FILL_PERIODS_MAX * 1_000, offset).prop_map(|(limit, every, share, utc_offset_minutes)| {
        let rollover_max = u128::from(limit) * u128::from(share) / 1_000;
        let rollover_max = u64::try_from(rollover_max).unwrap().min(AMOUNT_MAX);
        Tokens { limit, every, rollover_max, utc_offset_minutes }
    })
}

fn histories() -> impl Strategy<Value = (Tokens, Vec<(u64, u64)>)> {
    tokens().prop_flat_map(|tokens| {
        let all = tokens.limit + tokens.rollover_max;
        let pause = prop_oneof![Just(0_u64), 0..5_u64, 0..DAY_US / 12, 0..3 * DAY_US, 0..70 * DAY_US];
        let cost = prop_oneof![Just(1_u64), 0..=tokens.limit, Just(tokens.limit), 1..=all, Just(all), Just(all + 1)];
        (Just(tokens), prop::collection::vec((pause, cost), 1..40))
    })
}

fn starts() -> std::ops::Range<u64> {
    0..100 * 366 * DAY_US
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_admits_exactly_what_the_two_purses_do((tokens, history) in histories(), start_us in starts()) {
        let (mut user, mut oracle, mut now_us) = (User::new(tokens), Purses::new(tokens, start_us), start_us);
        for (pause_us, cost) in history {
            now_us += pause_us;
            oracle.go_to(now_us);
            let outcome = user.consume(now_us, cost);
            prop_assert_eq!(outcome.admitted, oracle.take(cost), "cost {} at {}", cost, now_us);
            prop_assert_eq!(outcome.remaining, oracle.left());
            prop_assert_eq!(outcome.limit, tokens.limit + tokens.rollover_max);
            prop_assert!(outcome.admitted || outcome.state.is_none());
        }
    }

    #[test]
    fn waits_end_to_the_microsecond((tokens, history) in histories(), start_us in starts()) {
        let (mut user, mut now_us) = (User::new(tokens), start_us);
        let all = tokens.limit + tokens.rollover_max;
        for (pause_us, cost) in history {
            now_us += pause_us;
            let outcome = user.consume(now_us, cost);
            let (wait_us, reset_us) = (outcome.retry_after_us, outcome.reset_after_us);
            prop_assert_eq!(wait_us > 0, !outcome.admitted && cost <= all);
            if wait_us > 0 {
                let at = |at_us| user.ask(&Request::new(Operation::Consume, at_us, cost)).admitted;
                prop_assert!(at(now_us + wait_us) && !at(now_us + wait_us - 1));
            }
            prop_assert_eq!(user.remaining(now_us + reset_us), all);
            prop_assert!(reset_us == 0 || user.remaining(now_us + reset_us - 1) < all);
        }
    }

    /// Had only the settled amount been taken at once, the user would stand at least as well.
    #[test]
    fn a_settle_never_gives_more_than_the_lesser_charge_would_have(
        (tokens, history) in histories(), start_us in starts(), held in 1..=1_000_u64, used in 0..=1_000_u64,
        settle_after in 0..8_usize,
    ) {
        let held = (u128::from(tokens.limit + tokens.rollover_max) * u128::from(held) / 1_000) as u64;
        let used = (u128::from(held) * u128::from(used) / 1_000) as u64;
        let (mut user, mut lesser, mut now_us) = (User::new(tokens), User::new(tokens), start_us);
        user.tell(&Request::new(Operation::Reserve, now_us, held));
        lesser.consume(now_us, used);
        for (n, (pause_us, cost)) in history.into_iter().enumerate() {
            now_us += pause_us;
            if n == settle_after {
                prop_assert!(user.tell(&Request::settle(now_us, used, held, start_us)).admitted);
            }
            // The lesser one takes what the user was admitted, limit or not.
            if user.consume(now_us, cost).admitted {
                lesser.tell(&Request::settle(now_us, cost, 0, now_us));
            }
            prop_assert!(user.remaining(now_us) <= lesser.remaining(now_us));
        }
    }

    #[test]
    fn other_settings_find_what_was_taken(from in tokens(), to in tokens(), share in 0..=100_u64, now_us in starts()) {
        let taken = (from.limit + from.rollover_max) / 100 * share;
        let mut user = User::new(from);
        user.consume(now_us, taken);
        user.goes_under(to);
        prop_assert_eq!(user.remaining(now_us), (to.limit + to.rollover_max).saturating_sub(taken));
    }
}

const MONTHLY: Tokens = Tokens { limit: 100, every: "month", rollover_max: 50, utc_offset_minutes: 0 };

#[test]
fn what_is_left_rolls_over_as_far_as_it_may() {
    let mut user = User::new(MONTHLY);
    user.consume(us("2024-01-10T00:00:00"), 120);
    // 30 are left in January: all of them are had in February, beside its 100.
    assert_eq!(user.remaining(us("2024-01-31T23:59:59.999999")), 30);
    assert_eq!(user.remaining(us("2024-02-01T00:00:00")), 130);
    assert_eq!(user.remaining(us("2024-03-01T00:00:00")), 150);
    user.consume(us("2024-02-10T00:00:00"), 10);
    // 120 are left in February: 50 of them stay.
    assert_eq!(user.remaining(us("2024-03-01T00:00:00")), 150);
}

#[test]
fn a_cost_above_all_there_can_be_never_passes_and_says_so() {
    let outcome = User::new(MONTHLY).consume(us("2024-02-01T00:00:00"), 151);
    assert_eq!((outcome.admitted, outcome.retry_after_us, outcome.note), (false, 0, 1));
    assert_eq!((outcome.limit, outcome.remaining, outcome.state), (150, 150, None));
}

#[test]
fn without_a_rollover_it_is_a_bucket_of_the_period() {
    let mut user = User::new(Tokens { rollover_max: 0, every: "week", ..MONTHLY });
    // A Sunday.
    assert!(user.consume(us("2024-02-04T23:59:59.999999"), 100).admitted);
    assert_eq!(user.consume(us("2024-02-04T23:59:59.999999"), 1).retry_after_us, 1);
    assert!(user.consume(us("2024-02-05T00:00:00"), 100).admitted);
    assert!(!user.consume(us("2024-02-05T00:00:00"), 1).admitted);
}

#[test]
fn a_settle_above_the_limit_is_charged_and_paid_back_like_anything_else() {
    let mut user = User::new(MONTHLY);
    let now_us = us("2024-02-10T00:00:00");
    user.tell(&Request::new(Operation::Reserve, now_us, 150));
    let settled = user.tell(&Request::settle(now_us, 250, 150, now_us));
    assert_eq!((settled.admitted, settled.remaining), (true, 0));
    assert_eq!(user.remaining(us("2024-03-01T00:00:00")), 0);
    assert_eq!(user.remaining(us("2024-04-01T00:00:00")), 100);
    // Settles as large as the type allows leave a policy that still answers.
    for _ in 0..3 {
        user.tell(&Request::settle(now_us, u64::MAX, 0, now_us));
    }
    assert!(!user.consume(now_us, 1).admitted);
}

#[test]
fn a_rollover_that_would_never_be_gathered_is_refused() {
    let problems = configure::<TokenBucket>(r#"{"limit":1,"rollover_max":121}"#).unwrap_err();
    assert_eq!(problems[0].pointer, "/rollover_max");
    let problems = configure::<TokenBucket>(r#"{"limit":1,"every":"eon"}"#).unwrap_err();
    assert!(problems[0].pointer == "/every" && problems[0].message.contains("must be one of"), "{problems:?}");
}
