//! The decision.

use crate::settings::Parameters;
use crate::state::State;
use cellar_policy_sdk::calendar::Period;
use cellar_policy_sdk::{Operation, Outcome, Request, TIME_MAX_US};

/// The note of a denial that no waiting changes.
const ABOVE_LIMIT: u32 = 1;

/// One user's bucket in the month of the question.
#[derive(Clone, Copy)]
pub(crate) struct Bucket<'p> {
    parameters: &'p Parameters,
    month: Period,
    spent: u64,
    /// When all of it no longer counts: the month's end, or after a change of months a later one's.
    clears_us: u64,
}

impl<'p> Bucket<'p> {
    pub(crate) fn of(parameters: &'p Parameters, state: Option<State>, now_us: u64) -> Self {
        let month = parameters.months.period(now_us);
        let counts = |state: State| Some((state.spent, state.counts_until(parameters, month)?));
        let (spent, clears_us) = state.and_then(counts).unwrap_or((0, month.end_us));
        Self { parameters, month, spent, clears_us }
    }

    pub(crate) fn decide(self, request: &Request) -> Outcome<State> {
        if request.only_asks() {
            return self.unchanged(request.now_us);
        }
        if request.operation == Operation::Settle {
            return self.settle(request);
        }
        if request.cost > self.parameters.limit {
            return Outcome { admitted: false, note: ABOVE_LIMIT, ..self.unchanged(request.now_us) };
        }
        if request.cost > self.remaining() {
            let retry_after_us = self.rest_us(request.now_us);
            return Outcome { admitted: false, retry_after_us, ..self.unchanged(request.now_us) };
        }
        self.spending(self.spent + request.cost, request.now_us)
    }

    /// What was used above what was held is charged now, limit or not: it was charged nowhere else.
    /// What was not used comes back only in the month that it was taken in.
    fn settle(self, request: &Request) -> Outcome<State> {
        let spent = if request.cost >= request.held {
            self.spent.saturating_add(request.cost - request.held)
        } else if request.held_at_us >= self.month.start_us {
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
        self.parameters.limit.saturating_sub(self.spent)
    }

    fn rest_us(self, now_us: u64) -> u64 {
        self.clears_us.saturating_sub(now_us).min(TIME_MAX_US)
    }

    /// What is written is a state of the month at hand, and ends with it.
    fn spending(self, spent: u64, now_us: u64) -> Outcome<State> {
        let state = State::of(self.parameters, self.month, now_us, spent);
        Outcome { state: Some(state), ..Self { spent, clears_us: self.month.end_us, ..self }.unchanged(now_us) }
    }

    fn unchanged(self, now_us: u64) -> Outcome<State> {
        Outcome {
            admitted: true,
            state: None,
            limit: self.parameters.limit,
            remaining: self.remaining(),
            retry_after_us: 0,
            reset_after_us: self.rest_us(now_us),
            note: 0,
        }
    }
}
