//! So much a calendar month, in UTC.
//!
//! Kept of a user is when the month they last spent in began, and what they spent in it. A new month
//! begins at zero; nothing carries over and nothing is given back into it.

mod month;

pub use month::Month;

use cellar_policy_sdk::{
    AMOUNT_MAX, Operation, Outcome, Policy, Problem, Promise, Request, export_policy, fixed_struct,
};
use schemars::JsonSchema;
use serde::Deserialize;

/// An amount's own maximum: sums of a month fit 64 bits.
pub const LIMIT_MAX: u64 = AMOUNT_MAX;

/// The note of a denial that no waiting changes.
const ABOVE_LIMIT: u32 = 1;

pub struct MonthlyBucket;

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Units a calendar month.
    #[schemars(range(min = 1, max = LIMIT_MAX))]
    pub limit: u64,
}

fixed_struct! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Parameters {
        pub limit: u64,
    }
}

fixed_struct! {
    /// Read under any limit: what was spent stays spent.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct State {
        pub period_start_us: u64,
        pub spent: u64,
    }
}

impl Policy for MonthlyBucket {
    const NAME: &'static str = "monthly-bucket";
    const VERSION: &'static str = "1.0.0";
    const UNIT: &'static str = "tokens";
    const STATE_SCHEMA: u32 = 1;
    const NOTES: &'static [&'static str] = &["the cost is above the limit: no waiting helps"];

    const PROMISES: &'static [Promise] = &[Promise::CalendarMonth { limit: "/limit" }];

    type Settings = Settings;
    type Parameters = Parameters;
    type State = State;

    fn compile(settings: Settings) -> Result<Parameters, Vec<Problem>> {
        Ok(Parameters { limit: settings.limit })
    }

    fn decide(parameters: &Parameters, state: Option<State>, request: &Request) -> Outcome<State> {
        let month = Month::of(request.now_us);
        let spent = match state {
            Some(state) if state.period_start_us == month.start_us => state.spent,
            _ => 0,
        };
        Bucket { limit: parameters.limit, month, spent }.decide(request)
    }
}

/// One user's bucket in the month of the question.
#[derive(Clone, Copy)]
struct Bucket {
    limit: u64,
    month: Month,
    spent: u64,
}

impl Bucket {
    fn decide(self, request: &Request) -> Outcome<State> {
        if request.only_asks() {
            return self.unchanged(request.now_us);
        }
        if request.operation == Operation::Settle {
            return self.settle(request);
        }
        if request.cost > self.limit {
            return Outcome { admitted: false, note: ABOVE_LIMIT, ..self.unchanged(request.now_us) };
        }
        if request.cost > self.remaining() {
            let retry_after_us = self.month.rest_us(request.now_us);
            return Outcome { admitted: false, retry_after_us, ..self.unchanged(request.now_us) };
        }
        self.spending(self.spent + request.cost, request.now_us)
    }

    /// What was used above what was held is charged now, limit or not: it was charged nowhere else.
    /// What was not used comes back only in the month that it was taken in.
    fn settle(self, request: &Request) -> Outcome<State> {
        let spent = if request.cost >= request.held {
            self.spent.saturating_add(request.cost - request.held)
        } else if Month::of(request.held_at_us) == self.month {
            self.spent.saturating_sub(request.held - request.cost)
        } else {
            self.spent
        };
        if spent == self.spent {
            return self.unchanged(request.now_us);
        }
        self.spending(spent, request.now_us)
    }

    fn remaining(self) -> u64 {
        self.limit.saturating_sub(self.spent)
    }

    fn spending(self, spent: u64, now_us: u64) -> Outcome<State> {
        let state = State { period_start_us: self.month.start_us, spent };
        Outcome { state: Some(state), ..Self { spent, ..self }.unchanged(now_us) }
    }

    fn unchanged(self, now_us: u64) -> Outcome<State> {
        Outcome {
            admitted: true,
            state: None,
            limit: self.limit,
            remaining: self.remaining(),
            retry_after_us: 0,
            reset_after_us: self.month.rest_us(now_us),
            note: 0,
        }
    }
}

export_policy!(MonthlyBucket);
