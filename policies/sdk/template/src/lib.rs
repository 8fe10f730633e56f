//! So many units a day, in UTC.
//!
//! A policy is a pure function: (parameters, state, request) to an outcome. It sees no clock but the request's, and
//! remembers nothing but the state it returns. `cellctl policy test` runs its tests, `cellctl policy certify` tests
//! the component by histories that nobody wrote.

use cellar_policy_sdk::{AMOUNT_MAX, Operation, Outcome, Policy, Problem, Request, export_policy, fixed_struct};
use schemars::JsonSchema;
use serde::Deserialize;

const DAY_US: u64 = 86_400_000_000;

/// The note of a denial that no waiting changes: the first of `NOTES`.
const ABOVE_LIMIT: u32 = 1;

/// The policy.
pub struct Rule;

/// What an operator writes into a tier. The comments and ranges end up in the policy's own description, where
/// `cellctl policy check` shows them, and settings out of range are refused with their place.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Units a day.
    #[schemars(range(min = 1, max = AMOUNT_MAX))]
    pub limit: u64,
}

fixed_struct! {
    /// The settings made ready, once, when a tier is loaded.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Parameters {
        /// Units a day.
        pub limit: u64,
    }
}

fixed_struct! {
    /// What is kept of a user: sixteen bytes. To change a field is a new `STATE_SCHEMA`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct State {
        /// The day that the user last spent in, counted from the Unix epoch.
        pub day: u64,
        /// Units spent in it.
        pub spent: u64,
    }
}

impl Parameters {
    /// The day of a moment, counted from the Unix epoch.
    fn day(&self, at_us: u64) -> u64 {
        at_us / DAY_US
    }

    fn until_tomorrow_us(&self, now_us: u64) -> u64 {
        DAY_US - now_us % DAY_US
    }
}

impl Policy for Rule {
    /// Tiers use it by this name: `use = "daily-budget@1"`.
    const NAME: &'static str = "daily-budget";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const UNIT: &'static str = "tokens";
    const STATE_SCHEMA: u32 = 1;
    const NOTES: &'static [&'static str] = &["the cost is above the limit: no waiting helps"];

    type Settings = Settings;
    type Parameters = Parameters;
    type State = State;

    /// Checks what the ranges cannot say (one setting against another); here nothing.
    fn compile(settings: Settings) -> Result<Parameters, Vec<Problem>> {
        Ok(Parameters { limit: settings.limit })
    }

    fn decide(parameters: &Parameters, state: Option<State>, request: &Request) -> Outcome<State> {
        let today = parameters.day(request.now_us);
        let until_tomorrow_us = parameters.until_tomorrow_us(request.now_us);
        // A new day begins at nothing.
        let spent = state.filter(|state| state.day == today).map_or(0, |state| state.spent);

        let stands = |spent: u64| Outcome {
            admitted: true,
            state: None,
            limit: parameters.limit,
            remaining: parameters.limit.saturating_sub(spent),
            retry_after_us: 0,
            reset_after_us: until_tomorrow_us,
            note: 0,
        };
        let spending = |spent: u64| Outcome { state: Some(State { day: today, spent }), ..stands(spent) };

        // A peek, or a cost of nothing: an answer, and never a denial.
        if request.only_asks() {
            return stands(spent);
        }
        // A settle is never denied: what was used was used. The difference to what was held is charged, above the
        // limit too, or given back, but only on the day that it was taken from.
        if request.operation == Operation::Settle {
            let same_day = parameters.day(request.held_at_us) == today;
            return match request.held.checked_sub(request.cost) {
                None => spending(spent.saturating_add(request.cost - request.held)),
                Some(unused) if unused > 0 && same_day => spending(spent.saturating_sub(unused)),
                Some(_) => stands(spent),
            };
        }
        if request.cost > parameters.limit {
            return Outcome { admitted: false, note: ABOVE_LIMIT, ..stands(spent) };
        }
        if request.cost > stands(spent).remaining {
            return Outcome { admitted: false, retry_after_us: until_tomorrow_us, ..stands(spent) };
        }
        spending(spent + request.cost)
    }
}

export_policy!(Rule);

#[cfg(test)]
mod tests;
