//! A user as the tests of the period policies ask for him, natively: what an oracle is held against.
//!
//! Taken into each of those tests by its path. An author's tests use `cellar_policy_sdk::testing::Sim`.

#![allow(dead_code, reason = "not every policy's tests use all of it")]

use cellar_policy_sdk::{Operation, Outcome, Policy, Request, configure, decide};
use jiff::civil::DateTime;
use jiff::tz::Offset;
use std::marker::PhantomData;

/// Settings as a test draws them.
pub(crate) trait Rule: Copy {
    type Policy: Policy;

    fn settings(self) -> String;
}

pub(crate) struct User<R: Rule> {
    rule: PhantomData<R>,
    parameters: Vec<u8>,
    pub(crate) state: Vec<u8>,
}

impl<R: Rule> User<R> {
    pub(crate) fn new(rule: R) -> Self {
        Self { rule: PhantomData, parameters: parameters(rule), state: Vec::new() }
    }

    /// Changes his settings; what he has spent stays.
    pub(crate) fn goes_under(&mut self, rule: R) {
        self.parameters = parameters(rule);
    }

    pub(crate) fn ask(&self, request: &Request) -> Outcome<Vec<u8>> {
        decide::<R::Policy>(&self.parameters, &self.state, request)
    }

    /// Asks, and keeps the state.
    pub(crate) fn tell(&mut self, request: &Request) -> Outcome<Vec<u8>> {
        let outcome = self.ask(request);
        if let Some(state) = &outcome.state {
            self.state.clone_from(state);
        }
        outcome
    }

    pub(crate) fn consume(&mut self, now_us: u64, cost: u64) -> Outcome<Vec<u8>> {
        self.tell(&Request::new(Operation::Consume, now_us, cost))
    }

    pub(crate) fn remaining(&self, now_us: u64) -> u64 {
        self.ask(&Request::new(Operation::Peek, now_us, 0)).remaining
    }
}

fn parameters<R: Rule>(rule: R) -> Vec<u8> {
    let settings = rule.settings();
    configure::<R::Policy>(&settings).unwrap_or_else(|problems| panic!("{settings}: {problems:?}"))
}

/// `2024-02-29T12:00:00` in UTC.
pub(crate) fn us(text: &str) -> u64 {
    let civil: DateTime = text.parse().unwrap();
    Offset::UTC.to_timestamp(civil).unwrap().as_microsecond() as u64
}
