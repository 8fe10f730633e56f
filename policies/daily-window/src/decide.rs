//! The decision.

use crate::settings::Parameters;
use cellar_policy_sdk::calendar::Period;
use cellar_policy_sdk::{Operation, Outcome, Request, Spent};

/// Notes of denials: no waiting changes the one, the next day the other.
const ABOVE_LIMIT: u32 = 1;
const CLOSED: u32 = 2;

/// One user's day, that of the question.
#[derive(Clone, Copy)]
pub(crate) struct Day {
    limit: u64,
    period: Period,
    open: bool,
    spent: u64,
    now_us: u64,
}

impl Day {
    pub(crate) fn of(parameters: &Parameters, state: Option<Spent>, now_us: u64) -> Self {
        let period = parameters.days.period(now_us);
        // A day's closed hours are its last. Counted from its end, which is exact before 1970 is, too.
        let open = period.end_us.saturating_sub(now_us) > parameters.closed_us;
        Self { limit: parameters.limit, period, open, spent: Spent::within(state, period), now_us }
    }

    pub(crate) fn decide(self, request: &Request) -> Outcome<Spent> {
        if request.only_asks() {
            return self.unchanged();
        }
        if request.operation == Operation::Settle {
            return self.settle(request);
        }
        if request.cost > self.limit {
            return Outcome { admitted: false, note: ABOVE_LIMIT, ..self.unchanged() };
        }
        if request.cost > self.remaining() {
            let note = if self.open { 0 } else { CLOSED };
            let retry_after_us = self.period.rest_us(self.now_us);
            return Outcome { admitted: false, retry_after_us, note, ..self.unchanged() };
        }
        self.spending(self.spent + request.cost)
    }

    /// What was used above what was held is charged now, limit or not, open or not: it was charged nowhere else.
    /// What was not used comes back only in the day that it was taken in.
    fn settle(self, request: &Request) -> Outcome<Spent> {
        let spent = if request.cost >= request.held {
            self.spent.saturating_add(request.cost - request.held)
        } else if request.held_at_us >= self.period.start_us {
            self.spent.saturating_sub(request.held - request.cost)
        } else {
            self.spent
        };
        if spent == self.spent { self.unchanged() } else { self.spending(spent) }
    }

    fn remaining(self) -> u64 {
        if self.open { self.limit.saturating_sub(self.spent) } else { 0 }
    }

    fn spending(self, spent: u64) -> Outcome<Spent> {
        let state = Spent { charged_us: self.now_us, spent };
        Outcome { state: Some(state), ..Self { spent, ..self }.unchanged() }
    }

    fn unchanged(self) -> Outcome<Spent> {
        Outcome {
            admitted: true,
            state: None,
            limit: self.limit,
            remaining: self.remaining(),
            retry_after_us: 0,
            reset_after_us: self.period.rest_us(self.now_us),
            note: 0,
        }
    }
}
