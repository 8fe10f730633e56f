//! The decision.

use crate::Parameters;
use crate::state::{OPEN_MAX, Open, State};
use cellar_policy_sdk::{Operation, Outcome, Request};

/// Notes of denials: no waiting changes the one, the next that is over the other.
const ABOVE_LIMIT: u32 = 1;
const TOO_MANY: u32 = 2;

pub(crate) fn decide(parameters: &Parameters, mut state: State, request: &Request) -> Outcome<State> {
    let now_us = request.now_us;
    state.open.retain(|open| ends_us(parameters, *open) > now_us);
    let seen = look(parameters, &state, now_us);
    if request.only_asks() {
        return seen;
    }
    if request.operation == Operation::Settle {
        return settle(parameters, state, request);
    }
    if request.cost > parameters.limit {
        return Outcome { admitted: false, note: ABOVE_LIMIT, ..seen };
    }
    if request.cost > seen.remaining {
        let note = if state.open.len() >= OPEN_MAX { TOO_MANY } else { 0 };
        return Outcome { admitted: false, retry_after_us: wait_us(parameters, &state, request), note, ..seen };
    }
    if request.operation == Operation::Consume {
        // It is held against what is open, and over at once.
        return seen;
    }
    state.open.push(Open { at_us: now_us, amount: request.cost });
    changed(parameters, state, now_us)
}

/// Closes the reservation that took `held` then; which of several that look the same makes no difference. One that
/// is not kept is over already, or was never a reservation.
fn settle(parameters: &Parameters, mut state: State, request: &Request) -> Outcome<State> {
    let same = |open: &Open| (open.at_us, open.amount) == (request.held_at_us, request.held);
    match state.open.iter().position(same) {
        Some(place) => {
            state.open.remove(place);
            changed(parameters, state, request.now_us)
        }
        None => look(parameters, &state, request.now_us),
    }
}

fn ends_us(parameters: &Parameters, open: Open) -> u64 {
    open.at_us.saturating_add(parameters.open_us)
}

fn sum(open: &[Open]) -> u64 {
    // At most 64 amounts of 2^40.
    open.iter().map(|open| open.amount).sum()
}

/// Until the cost passes: so many of the oldest must be over that the others leave room, and a place.
fn wait_us(parameters: &Parameters, state: &State, request: &Request) -> u64 {
    let mut left = sum(&state.open);
    for (over, open) in state.open.iter().enumerate() {
        left -= open.amount;
        let place = state.open.len() - (over + 1) < OPEN_MAX;
        if place && left.saturating_add(request.cost) <= parameters.limit {
            return ends_us(parameters, *open).saturating_sub(request.now_us);
        }
    }
    0
}

fn changed(parameters: &Parameters, state: State, now_us: u64) -> Outcome<State> {
    let seen = look(parameters, &state, now_us);
    Outcome { state: Some(state), ..seen }
}

fn look(parameters: &Parameters, state: &State, now_us: u64) -> Outcome<State> {
    let room = parameters.limit.saturating_sub(sum(&state.open));
    Outcome {
        admitted: true,
        state: None,
        limit: parameters.limit,
        remaining: if state.open.len() < OPEN_MAX { room } else { 0 },
        retry_after_us: 0,
        reset_after_us: state.open.last().map_or(0, |last| ends_us(parameters, *last).saturating_sub(now_us)),
        note: 0,
    }
}
