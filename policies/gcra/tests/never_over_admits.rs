//! gcra against an oracle that works the other way round: a bucket of tokens that fills with time,
//! in whole numbers fine enough that nothing is ever rounded.

#![allow(clippy::unwrap_used, reason = "what cannot be unwrapped is the test's failure")]

use cellar_policy_gcra::{Gcra, LIMIT_MAX, PERIOD_MAX_S};
use cellar_policy_sdk::{Operation, Outcome, Request, configure, decide};
use proptest::prelude::*;

/// 2023-11-14: any moment will do.
const START_US: u64 = 1_700_000_000_000_000;
const YEAR_US: u64 = 366 * 86_400 * 1_000_000;

#[derive(Clone, Copy, Debug)]
struct Rate {
    limit: u64,
    period_s: u64,
    burst: u64,
}

/// Tokens in units of 1/(period in µs): each microsecond brings `limit`, one token is `period_us`.
struct TokenBucket {
    rate: Rate,
    level: u128,
    at_us: u64,
}

impl TokenBucket {
    fn full(rate: Rate, at_us: u64) -> Self {
        Self { rate, level: u128::from(rate.burst) * Self::token(rate), at_us }
    }

    fn token(rate: Rate) -> u128 {
        u128::from(rate.period_s) * 1_000_000
    }

    fn take(&mut self, cost: u64, now_us: u64) -> bool {
        let brought = u128::from(now_us - self.at_us) * u128::from(self.rate.limit);
        let full = u128::from(self.rate.burst) * Self::token(self.rate);
        (self.level, self.at_us) = ((self.level + brought).min(full), now_us);
        let price = u128::from(cost) * Self::token(self.rate);
        let enough = price <= self.level;
        if enough {
            self.level -= price;
        }
        enough
    }

    fn whole_tokens(&self) -> u64 {
        (self.level / Self::token(self.rate)) as u64
    }
}

/// One user under one rate, through the component's own byte-level functions.
struct User {
    parameters: Vec<u8>,
    state: Vec<u8>,
}

impl User {
    fn new(rate: Rate) -> Self {
        Self { parameters: parameters(rate), state: Vec::new() }
    }

    fn ask(&self, request: &Request) -> Outcome<Vec<u8>> {
        decide::<Gcra>(&self.parameters, &self.state, request)
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

fn parameters(rate: Rate) -> Vec<u8> {
    let Rate { limit, period_s, burst } = rate;
    configure::<Gcra>(&format!(r#"{{"limit":{limit},"period_s":{period_s},"burst":{burst}}}"#)).unwrap()
}

fn rates() -> impl Strategy<Value = Rate> {
    let limit = prop_oneof![1..20_u64, 1_000..5_000_000_u64, 1..=LIMIT_MAX];
    let period_s = prop_oneof![Just(1_u64), Just(60), 1..100_000_u64, 1..=PERIOD_MAX_S];
    let burst = prop_oneof![Just(1_u64), 1..50_u64, 1..=LIMIT_MAX];
    (limit, period_s, burst)
        .prop_map(|(limit, period_s, burst)| Rate { limit, period_s, burst })
        .prop_filter("at most ten years to rest", |rate| {
            u128::from(rate.burst) * u128::from(rate.period_s) / u128::from(rate.limit) <= 3_660 * 86_400
        })
}

/// Pauses from none to years, and some that match the rate nearly.
fn pauses(rate: Rate) -> impl Strategy<Value = u64> {
    let unit_us = (u128::from(rate.period_s) * 1_000_000 / u128::from(rate.limit)) as u64;
    prop_oneof![
        3 => Just(0_u64),
        2 => 0..5_u64,
        4 => (0..=4_u64).prop_map(move |d| (unit_us + d).saturating_sub(2)),
        2 => 0..=unit_us.saturating_mul(3).max(1),
        1 => 0..20 * YEAR_US,
    ]
}

fn costs(rate: Rate) -> impl Strategy<Value = u64> {
    prop_oneof![4 => Just(1_u64), 2 => 0..=3_u64, 2 => 1..=rate.burst, 1 => Just(rate.burst)]
}

fn histories() -> impl Strategy<Value = (Rate, Vec<(u64, u64)>)> {
    rates().prop_flat_map(|rate| (Just(rate), prop::collection::vec((pauses(rate), costs(rate)), 1..60)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_admits_exactly_what_the_token_bucket_does((rate, history) in histories()) {
        let (mut user, mut oracle, mut now_us) = (User::new(rate), TokenBucket::full(rate, START_US), START_US);
        for (pause_us, cost) in history {
            now_us += pause_us;
            let outcome = user.consume(now_us, cost);
            prop_assert_eq!(outcome.admitted, oracle.take(cost, now_us), "cost {} at {}", cost, now_us);
            prop_assert_eq!(outcome.remaining, oracle.whole_tokens());
            prop_assert_eq!(outcome.limit, rate.burst);
            prop_assert!(outcome.admitted || outcome.state.is_none());
        }
    }

    #[test]
    fn no_window_ever_holds_more_than_burst_and_rate((rate, history) in histories()) {
        let (mut user, mut now_us, mut taken) = (User::new(rate), START_US, Vec::new());
        for (pause_us, cost) in history {
            now_us += pause_us;
            if user.consume(now_us, cost).admitted {
                taken.push((now_us, u128::from(cost)));
            }
        }
        for (first, (from_us, _)) in taken.iter().enumerate() {
            let mut sum = 0;
            for (to_us, cost) in &taken[first..] {
                sum += cost;
                let granted = u128::from(rate.burst) * TokenBucket::token(rate)
                    + u128::from(to_us - from_us) * u128::from(rate.limit);
                prop_assert!(sum * TokenBucket::token(rate) <= granted);
            }
        }
    }

    #[test]
    fn retry_after_is_honest_and_tight((rate, history) in histories()) {
        let (mut user, mut now_us) = (User::new(rate), START_US);
        for (pause_us, cost) in history {
            now_us += pause_us;
            let outcome = user.consume(now_us, cost);
            if outcome.admitted {
                prop_assert_eq!(outcome.retry_after_us, 0);
                continue;
            }
            let wait_us = outcome.retry_after_us;
            if cost > rate.burst {
                prop_assert_eq!(wait_us, 0);
                continue;
            }
            prop_assert!(wait_us > 0);
            let at = |at_us| user.ask(&Request::new(Operation::Consume, at_us, cost)).admitted;
            prop_assert!(at(now_us + wait_us), "not admitted when it was promised");
            prop_assert!(!at(now_us + wait_us - 1), "admitted earlier than promised");
        }
    }

    #[test]
    fn reset_after_is_when_all_is_back((rate, history) in histories()) {
        let (mut user, mut now_us) = (User::new(rate), START_US);
        for (pause_us, cost) in history {
            now_us += pause_us;
            let reset_us = user.consume(now_us, cost).reset_after_us;
            let at = |at_us| user.ask(&Request::new(Operation::Peek, at_us, 0));
            prop_assert_eq!(at(now_us + reset_us).remaining, rate.burst);
            prop_assert_eq!(at(now_us + reset_us).reset_after_us, 0);
            prop_assert!(reset_us == 0 || at(now_us + reset_us - 1).remaining < rate.burst);
        }
    }

    /// Had only the settled amount been taken at once, the user would stand at least as well.
    #[test]
    fn a_settle_never_gives_more_than_the_lesser_charge_would_have(
        (rate, history) in histories(), held in 0..=100_u64, share in 0..=100_u64, settle_after in 0..8_usize,
    ) {
        let held = held.min(rate.burst);
        let used = held * share / 100;
        let (mut user, mut lesser, mut now_us) = (User::new(rate), User::new(rate), START_US);
        user.tell(&Request::new(Operation::Reserve, now_us, held));
        lesser.consume(now_us, used);
        for (n, (pause_us, cost)) in history.into_iter().enumerate() {
            now_us += pause_us;
            if n == settle_after {
                let settled = user.tell(&Request::settle(now_us, used, held, START_US));
                prop_assert!(settled.admitted);
            }
            // The lesser one takes what the user was admitted, limit or not.
            if user.consume(now_us, cost).admitted {
                lesser.tell(&Request::settle(now_us, cost, 0, now_us));
            }
            let peek = Request::new(Operation::Peek, now_us, 0);
            prop_assert!(user.ask(&peek).remaining <= lesser.ask(&peek).remaining);
        }
    }

    #[test]
    fn another_rate_neither_forgets_nor_invents_what_is_owed(
        from in rates(), to in rates(), share in 0..=100_u64,
    ) {
        let taken = from.burst / 100 * share;
        let mut user = User::new(from);
        user.consume(START_US, taken);
        user.parameters = parameters(to);
        let outcome = user.ask(&Request::new(Operation::Peek, START_US, 0));
        prop_assert_eq!(outcome.remaining, to.burst.saturating_sub(taken));
    }
}

#[test]
fn a_burst_of_one_admits_one_an_interval() {
    let mut user = User::new(Rate { limit: 3, period_s: 1, burst: 1 });
    // A third of a second is no whole number of microseconds: the wait is rounded up, the debt not.
    let admitted: Vec<u64> = (0..=2_000_000).filter(|us| user.consume(START_US + us, 1).admitted).collect();
    assert_eq!(admitted, [0, 333_334, 666_668, 1_000_002, 1_333_336, 1_666_670]);
}

#[test]
fn rates_above_a_million_a_second_are_exact() {
    let mut user = User::new(Rate { limit: 3_000_000, period_s: 1, burst: 5 });
    let admitted = (0..1_000).map(|us| (0..10).filter(|_| user.consume(START_US + us, 1).admitted).count());
    assert_eq!(admitted.sum::<usize>(), 5 + 3 * 999);
}

#[test]
fn years_of_rest_save_up_no_more_than_a_burst() {
    let mut user = User::new(Rate { limit: 10, period_s: 60, burst: 10 });
    assert!(user.consume(START_US, 10).admitted);
    let later = START_US + 50 * YEAR_US;
    assert!(user.consume(later, 10).admitted);
    assert!(!user.consume(later, 1).admitted);
}

#[test]
fn a_cost_above_the_burst_never_passes_and_says_so() {
    let mut user = User::new(Rate { limit: 600, period_s: 60, burst: 100 });
    let outcome = user.consume(START_US, 101);
    assert_eq!((outcome.admitted, outcome.retry_after_us, outcome.note), (false, 0, 1));
    assert_eq!((outcome.limit, outcome.remaining, outcome.state), (100, 100, None));
}

#[test]
fn asking_changes_nothing_and_does_not_bind() {
    let mut user = User::new(Rate { limit: 10, period_s: 60, burst: 10 });
    user.consume(START_US, 10);
    for request in [Request::new(Operation::Peek, START_US, 5), Request::new(Operation::Reserve, START_US, 0)] {
        let outcome = user.ask(&request);
        assert_eq!((outcome.admitted, outcome.remaining, outcome.state), (true, 0, None));
        assert_eq!((outcome.retry_after_us, outcome.reset_after_us), (0, 60_000_000));
    }
}

#[test]
fn a_settle_above_the_limit_is_charged() {
    let mut user = User::new(Rate { limit: 10, period_s: 60, burst: 10 });
    user.tell(&Request::new(Operation::Reserve, START_US, 10));
    let settled = user.tell(&Request::settle(START_US, 25, 10, START_US));
    assert_eq!((settled.admitted, settled.remaining), (true, 0));
    assert_eq!(settled.reset_after_us, 25 * 6_000_000);
    // Settles as large as the type allows leave a policy that still answers.
    for _ in 0..3 {
        user.tell(&Request::settle(START_US, u64::MAX, 0, START_US));
    }
    assert!(!user.consume(START_US + 50 * YEAR_US, 1).admitted);
}

#[test]
fn a_release_gives_back_what_time_has_not() {
    let mut user = User::new(Rate { limit: 10, period_s: 10, burst: 10 });
    user.tell(&Request::new(Operation::Reserve, START_US, 10));
    // Four have come back by themselves; the release returns the other six.
    assert_eq!(user.ask(&Request::settle(START_US + 4_000_000, 0, 10, START_US)).remaining, 10);
    // Taken again meanwhile, they are owed by the later charge, which a release does not touch.
    user.consume(START_US + 4_000_000, 4);
    assert_eq!(user.ask(&Request::settle(START_US + 4_000_000, 0, 10, START_US)).remaining, 6);
}
