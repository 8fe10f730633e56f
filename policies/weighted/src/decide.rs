//! The decision.

use crate::settings::Parameters;
use cellar_policy_sdk::calendar::Period;
use cellar_policy_sdk::priced::{Priced, Unremembered};
use cellar_policy_sdk::{Operation, Outcome, Request};

/// Notes of denials that no waiting changes.
const ABOVE_LIMIT: u32 = 1;
const UNKNOWN_MODEL: u32 = 2;

pub(crate) fn decide(parameters: &Parameters, state: Option<Priced>, request: &Request) -> Outcome<Priced> {
    let period = parameters.periods.period(request.now_us);
    let state = Priced::within(state, period);
    let weight = parameters.weights.weight(request);
    if request.operation == Operation::Settle {
        return settle(parameters, period, state, weight.unwrap_or(parameters.most), request);
    }
    let Some(weight) = weight else {
        // Nothing of it can ever be had, however little is asked.
        let nothing = Outcome { limit: 0, remaining: 0, ..look(parameters, period, &state, parameters.most, request) };
        return Outcome { admitted: request.only_asks(), note: UNKNOWN_MODEL, ..nothing };
    };
    let seen = look(parameters, period, &state, weight, request);
    if request.only_asks() {
        return seen;
    }
    if request.cost > seen.limit {
        return Outcome { admitted: false, note: ABOVE_LIMIT, ..seen };
    }
    if request.cost > seen.remaining {
        return Outcome { admitted: false, retry_after_us: seen.reset_after_us, ..seen };
    }
    changed(parameters, period, state.charged(request, weight), weight, request)
}

/// Counts at the weight of when it was held. What nobody remembers is charged at the weight of the model that the
/// settle names, and given back at the least there is.
fn settle(parameters: &Parameters, period: Period, state: Priced, weight: u32, request: &Request) -> Outcome<Priced> {
    let before = (state.spent, state.holds.len());
    let state = state.settled(request, period, Unremembered { gives_back: parameters.least, charges: weight });
    if (state.spent, state.holds.len()) == before {
        return look(parameters, period, &state, weight, request);
    }
    changed(parameters, period, state, weight, request)
}

fn changed(parameters: &Parameters, period: Period, state: Priced, weight: u32, request: &Request) -> Outcome<Priced> {
    let seen = look(parameters, period, &state, weight, request);
    Outcome { state: Some(state), ..seen }
}

/// What is there, in units of that weight.
fn look(parameters: &Parameters, period: Period, state: &Priced, weight: u32, request: &Request) -> Outcome<Priced> {
    let left = parameters.limit.saturating_sub(state.spent);
    Outcome {
        admitted: true,
        state: None,
        limit: parameters.limit / u64::from(weight),
        remaining: left / u64::from(weight),
        retry_after_us: 0,
        reset_after_us: period.rest_us(request.now_us),
        note: 0,
    }
}
