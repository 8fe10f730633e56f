//! open-reservations against an oracle that keeps every reservation there ever was, and when it was over.

#![allow(clippy::unwrap_used, reason = "what cannot be unwrapped is the test's failure")]

use cellar_policy_open_reservations::{LIMIT_MAX, OPEN_MAX, OPEN_MAX_S, OpenReservations};
use cellar_policy_sdk::{Operation, Outcome, Request, configure, decide};
use proptest::prelude::*;

const START_US: u64 = 1_700_000_000_000_000;
const SECOND_US: u64 = 1_000_000;

struct User {
    parameters: Vec<u8>,
    state: Vec<u8>,
}

impl User {
    fn new(limit: u64, open_s: u64) -> Self {
        Self { parameters: parameters(limit, open_s), state: Vec::new() }
    }

    fn ask(&self, request: &Request) -> Outcome<Vec<u8>> {
        decide::<OpenReservations>(&self.parameters, &self.state, request)
    }

    fn tell(&mut self, request: &Request) -> Outcome<Vec<u8>> {
        let outcome = self.ask(request);
        if let Some(state) = &outcome.state {
            self.state.clone_from(state);
        }
        outcome
    }

    fn reserve(&mut self, now_us: u64, cost: u64) -> Outcome<Vec<u8>> {
        self.tell(&Request::new(Operation::Reserve, now_us, cost))
    }

    fn remaining(&self, now_us: u64) -> u64 {
        self.ask(&Request::new(Operation::Peek, now_us, 0)).remaining
    }
}

fn parameters(limit: u64, open_s: u64) -> Vec<u8> {
    configure::<OpenReservations>(&format!(r#"{{"limit":{limit},"open_s":{open_s}}}"#)).unwrap()
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Reserve(u64),
    Consume(u64),
    /// Which of the reservations there ever were, and how much of it was used.
    Settle(usize, u64),
}

fn histories() -> impl Strategy<Value = (u64, u64, Vec<(u64, Step)>)> {
    let limit = prop_oneof![1..20_u64, 1..300_u64, 1..=LIMIT_MAX];
    (limit, 1..=OPEN_MAX_S).prop_flat_map(|(limit, open_s)| {
        let pause = prop_oneof![4 => Just(0_u64), 2 => 0..3_u64, 2 => 0..=open_s * SECOND_US / 4, 1 => Just(open_s * SECOND_US)];
        let cost = || prop_oneof![6 => Just(1_u64), 2 => 1..=limit, 1 => Just(limit), 1 => Just(limit + 1)];
        let step = prop_oneof![
            5 => cost().prop_map(Step::Reserve),
            1 => cost().prop_map(Step::Consume),
            2 => (0..200_usize, 0..=2 * limit).prop_map(|(which, used)| Step::Settle(which, used)),
        ];
        (Just(limit), Just(open_s), prop::collection::vec((pause, step), 1..150))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 384, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_more_is_ever_open_than_the_limit((limit, open_s, history) in histories()) {
        let (mut user, mut now_us) = (User::new(limit, open_s), START_US);
        // When, how much, and whether it was settled.
        let mut made: Vec<(u64, u64, bool)> = Vec::new();
        for (pause_us, step) in history {
            now_us += pause_us;
            let open: Vec<u64> = made
                .iter()
                .filter(|(at, _, settled)| !settled && at + open_s * SECOND_US > now_us)
                .map(|(_, amount, _)| *amount)
                .collect();
            let sum: u64 = open.iter().sum();
            prop_assert!(sum <= limit);
            match step {
                Step::Reserve(cost) | Step::Consume(cost) => {
                    let reserves = matches!(step, Step::Reserve(_));
                    let operation = if reserves { Operation::Reserve } else { Operation::Consume };
                    let outcome = user.tell(&Request::new(operation, now_us, cost));
                    prop_assert_eq!(outcome.admitted, sum + cost <= limit && open.len() < OPEN_MAX);
                    prop_assert_eq!(outcome.state.is_some(), outcome.admitted && reserves);
                    if outcome.admitted && reserves {
                        made.push((now_us, cost, false));
                    }
                    if !outcome.admitted && cost <= limit {
                        let then_us = now_us + outcome.retry_after_us;
                        let at = |at_us| user.ask(&Request::new(operation, at_us, cost)).admitted;
                        prop_assert!(at(then_us) && !at(then_us - 1), "a wait of {}", outcome.retry_after_us);
                    }
                }
                Step::Settle(which, used) => {
                    let Some((at_us, amount, settled)) = made.get_mut(which) else { continue };
                    // Settled twice it would close another that looks the same: the service closes each once.
                    if !std::mem::replace(settled, true) {
                        prop_assert!(user.tell(&Request::settle(now_us, used, *amount, *at_us)).admitted);
                    }
                }
            }
        }
    }

    #[test]
    fn another_limit_finds_what_is_open(from in 1..=LIMIT_MAX, to in 1..=LIMIT_MAX, share in 0..=100_u64, open_s in 1..=OPEN_MAX_S) {
        let mut user = User::new(from, OPEN_MAX_S);
        let taken = from / 100 * share;
        user.reserve(START_US, taken);
        user.parameters = parameters(to, open_s);
        prop_assert_eq!(user.remaining(START_US), to.saturating_sub(taken));
    }
}

#[test]
fn what_is_settled_is_open_no_more_whatever_was_used() {
    let mut user = User::new(2, 60);
    user.reserve(START_US, 1);
    user.reserve(START_US + 1, 1);
    assert_eq!(user.reserve(START_US + 2, 1).retry_after_us, 60 * SECOND_US - 2);
    for (used, at_us) in [(1, START_US), (9, START_US + 1)] {
        assert!(user.tell(&Request::settle(START_US + 3, used, 1, at_us)).admitted);
    }
    assert_eq!(user.remaining(START_US + 3), 2);
    // Once more, and of what never was: nothing changes.
    for at_us in [START_US, START_US + 9] {
        assert_eq!(user.ask(&Request::settle(START_US + 3, 0, 1, at_us)).state, None);
    }
}

#[test]
fn no_more_are_kept_than_can_be_open() {
    let mut user = User::new(LIMIT_MAX, 60);
    for n in 0..OPEN_MAX as u64 {
        assert!(user.reserve(START_US + n, 1).admitted);
    }
    let denied = user.reserve(START_US + 100, 1);
    assert_eq!((denied.admitted, denied.remaining, denied.note), (false, 0, 2));
    assert_eq!(denied.retry_after_us, 60 * SECOND_US - 100);
}

#[test]
fn a_cost_above_the_limit_never_passes_and_says_so() {
    let outcome = User::new(10, 60).reserve(START_US, 11);
    assert_eq!((outcome.admitted, outcome.retry_after_us, outcome.note), (false, 0, 1));
}
