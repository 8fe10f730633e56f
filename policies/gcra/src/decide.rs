//! The decision.

use crate::settings::Parameters;
use crate::state::{State, divide};
use cellar_policy_sdk::{Operation, Outcome, Request, TIME_MAX_US};

/// The note of a denial that no waiting changes.
const ABOVE_BURST: u32 = 1;

pub(crate) fn decide(parameters: &Parameters, state: Option<State>, request: &Request) -> Outcome<State> {
    // Never below zero: who rested longer than a burst takes to come back has not saved up more.
    let owed = state.map_or(0, |state| state.owed(parameters, request.now_us));
    if request.only_asks() {
        return admitted(parameters, None, owed);
    }
    if request.operation == Operation::Settle {
        return settle(parameters, owed, request);
    }
    if request.cost > parameters.burst {
        return Outcome { admitted: false, note: ABOVE_BURST, ..admitted(parameters, None, owed) };
    }
    let after = owed.saturating_add(parameters.price(request.cost));
    let too_much = after.saturating_sub(parameters.capacity());
    if too_much > 0 {
        let retry_after_us = wait_us(parameters, too_much);
        return Outcome { admitted: false, retry_after_us, ..admitted(parameters, None, owed) };
    }
    admitted(parameters, Some(State::owing(parameters, request.now_us, after)), after)
}

/// Charges what was used above what was held, limit or not, or gives back what was held and not
/// used, as far as it is still owed.
///
/// Had the lesser amount been taken at once, the user might since have rested at the rate instead
/// of paying back. So of what was held, time has paid back the first part; only the rest returns.
fn settle(parameters: &Parameters, owed: u128, request: &Request) -> Outcome<State> {
    let after = if request.cost >= request.held {
        owed.saturating_add(parameters.price(request.cost - request.held))
    } else {
        let elapsed_us = request.now_us.saturating_sub(request.held_at_us);
        let paid_back = u128::from(elapsed_us) * u128::from(parameters.units);
        let still_held = parameters.price(request.held).saturating_sub(paid_back);
        owed.saturating_sub(still_held.min(parameters.price(request.held - request.cost)))
    };
    let state = (after != owed).then(|| State::owing(parameters, request.now_us, after));
    admitted(parameters, state, after)
}

fn admitted(parameters: &Parameters, state: Option<State>, owed: u128) -> Outcome<State> {
    let free = parameters.capacity().saturating_sub(owed);
    // At most `burst`, since `free` is at most its price.
    let remaining = divide(free, parameters.span_us).0 as u64;
    Outcome {
        admitted: true,
        state,
        limit: parameters.burst,
        remaining,
        retry_after_us: 0,
        reset_after_us: wait_us(parameters, owed),
        note: 0,
    }
}

/// Until `parts` are paid back: the first whole microsecond at which they are.
fn wait_us(parameters: &Parameters, parts: u128) -> u64 {
    let (whole_us, part) = divide(parts, parameters.units);
    let wait_us = whole_us + u128::from(part > 0);
    wait_us.min(u128::from(TIME_MAX_US)) as u64
}
