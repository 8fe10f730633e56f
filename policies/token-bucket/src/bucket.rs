//! The decision.

use crate::settings::Parameters;
use cellar_policy_sdk::{Operation, Outcome, Request, Spent, TIME_MAX_US};

/// The note of a denial that no waiting changes.
const ABOVE_CAPACITY: u32 = 1;

/// One user's bucket at the moment of the question.
#[derive(Clone, Copy)]
pub(crate) struct Bucket<'p> {
    parameters: &'p Parameters,
    now_us: u64,
    /// The number of its period.
    index: u64,
    owed: u64,
}

impl<'p> Bucket<'p> {
    pub(crate) fn of(parameters: &'p Parameters, state: Option<Spent>, now_us: u64) -> Self {
        let index = parameters.periods.index(now_us);
        let nothing = Self { parameters, now_us, index, owed: 0 };
        let owed = state.map_or(0, |state| state.spent.saturating_sub(nothing.paid_back(state.charged_us)));
        Self { owed, ..nothing }
    }

    pub(crate) fn decide(self, request: &Request) -> Outcome<Spent> {
        if request.only_asks() {
            return self.unchanged();
        }
        if request.operation == Operation::Settle {
            return self.settle(request);
        }
        if request.cost > self.parameters.capacity() {
            return Outcome { admitted: false, note: ABOVE_CAPACITY, ..self.unchanged() };
        }
        if request.cost > self.remaining() {
            let retry_after_us = self.wait_us(self.parameters.capacity() - request.cost);
            return Outcome { admitted: false, retry_after_us, ..self.unchanged() };
        }
        self.owing(self.owed + request.cost)
    }

    /// Charges what was used above what was held, limit or not, or gives back what was held and not used, as far as
    /// it is still owed.
    ///
    /// Had the lesser amount been taken at once, the borders since might have paid back nothing, for nothing was
    /// owed. So of what was held, they have paid back the first part; only the rest returns.
    fn settle(self, request: &Request) -> Outcome<Spent> {
        let after = if request.cost >= request.held {
            self.owed.saturating_add(request.cost - request.held)
        } else {
            let still_held = request.held.saturating_sub(self.paid_back(request.held_at_us));
            self.owed.saturating_sub(still_held.min(request.held - request.cost))
        };
        if after == self.owed { self.unchanged() } else { self.owing(after) }
    }

    /// What the borders since then have brought.
    fn paid_back(self, since_us: u64) -> u64 {
        let borders = self.index.saturating_sub(self.parameters.periods.index(since_us));
        borders.saturating_mul(self.parameters.limit)
    }

    fn remaining(self) -> u64 {
        self.parameters.capacity().saturating_sub(self.owed)
    }

    /// Until no more than that is owed: `ceil((owed - then) / limit)` borders.
    fn wait_us(self, then: u64) -> u64 {
        let borders = self.owed.saturating_sub(then).div_ceil(self.parameters.limit);
        if borders == 0 {
            return 0;
        }
        let then_us = self.parameters.periods.border_us(self.index.saturating_add(borders));
        then_us.saturating_sub(self.now_us).min(TIME_MAX_US)
    }

    fn owing(self, owed: u64) -> Outcome<Spent> {
        let state = Spent { charged_us: self.now_us, spent: owed };
        Outcome { state: Some(state), ..Self { owed, ..self }.unchanged() }
    }

    fn unchanged(self) -> Outcome<Spent> {
        Outcome {
            admitted: true,
            state: None,
            limit: self.parameters.capacity(),
            remaining: self.remaining(),
            retry_after_us: 0,
            reset_after_us: self.wait_us(0),
            note: 0,
        }
    }
}
