//! The decision.

use crate::settings::Parameters;
use cellar_policy_sdk::calendar::Period;
use cellar_policy_sdk::priced::{Priced, Unremembered, worth};
use cellar_policy_sdk::{Operation, Outcome, Request, TIME_MAX_US};

/// The note of a denial that no waiting changes.
const ABOVE_LIMIT: u32 = 1;

/// One user's account in the period of the question.
pub(crate) struct Account<'p> {
    parameters: &'p Parameters,
    period: Period,
    now_us: u64,
    price: u32,
    state: Priced,
}

impl<'p> Account<'p> {
    pub(crate) fn of(parameters: &'p Parameters, state: Option<Priced>, now_us: u64) -> Self {
        let period = parameters.periods.period(now_us);
        let price = parameters.price(now_us);
        Self { parameters, period, now_us, price, state: Priced::within(state, period) }
    }

    pub(crate) fn decide(self, request: &Request) -> Outcome<Priced> {
        if request.only_asks() {
            return self.unchanged();
        }
        if request.operation == Operation::Settle {
            return self.settle(request);
        }
        if request.cost > self.limit() {
            return Outcome { admitted: false, note: ABOVE_LIMIT, ..self.unchanged() };
        }
        if worth(request.cost, self.price) > self.left() {
            let retry_after_us = self.wait_us(request.cost);
            return Outcome { admitted: false, retry_after_us, ..self.unchanged() };
        }
        Self { state: self.state.charged(request, self.price), ..self }.changed()
    }

    fn settle(self, request: &Request) -> Outcome<Priced> {
        // The hour of a moment is known, though not what it cost then: settings may have changed since.
        let otherwise = Unremembered {
            gives_back: self.parameters.night_price,
            charges: self.parameters.price(request.held_at_us),
        };
        let before = (self.state.spent, self.state.holds.len());
        let state = self.state.settled(request, self.period, otherwise);
        let same = (state.spent, state.holds.len()) == before;
        let settled = Self { state, ..self };
        if same { settled.unchanged() } else { settled.changed() }
    }

    /// The most that one call can ever be admitted: all of it, when it is cheapest.
    fn limit(&self) -> u64 {
        self.parameters.limit / u64::from(self.parameters.night_price)
    }

    fn left(&self) -> u64 {
        self.parameters.limit.saturating_sub(self.state.spent)
    }

    /// Until `cost` passes, which is denied now and at most the limit. Three moments come into question, in the
    /// order of time: the next cheap hours, if what is left is enough then; the period's end, at whatever is the
    /// price then; the first cheap hours behind it, at which the whole limit is enough for anything.
    fn wait_us(&self, cost: u64) -> u64 {
        let Self { parameters, period, now_us, .. } = self;
        let night_us = parameters.next_night_us(*now_us);
        let then_us = if night_us < period.end_us && worth(cost, parameters.night_price) <= self.left() {
            night_us
        } else if worth(cost, parameters.price(period.end_us)) <= parameters.limit {
            period.end_us
        } else {
            parameters.next_night_us(period.end_us)
        };
        then_us.saturating_sub(*now_us).min(TIME_MAX_US)
    }

    fn changed(self) -> Outcome<Priced> {
        let seen = self.unchanged();
        Outcome { state: Some(self.state), ..seen }
    }

    fn unchanged(&self) -> Outcome<Priced> {
        Outcome {
            admitted: true,
            state: None,
            limit: self.limit(),
            remaining: self.left() / u64::from(self.price),
            retry_after_us: 0,
            reset_after_us: self.period.rest_us(self.now_us),
            note: 0,
        }
    }
}
