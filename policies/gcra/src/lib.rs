//! A rate with a burst, by the generic cell rate algorithm, exact in whole numbers.
//!
//! `limit` units in `period_s` seconds is the rate; `burst` is what a rested user may take at one
//! instant. Kept of a user is one moment, `tat` ("theoretical arrival time"): when all they took
//! will have been paid back at the rate. How far it lies ahead is what they owe.
//!
//! Nothing is rounded in the user's favour, at any rate: what is owed is counted in parts of a
//! microsecond so fine that one unit is a whole number of them.

mod decide;
mod settings;
mod state;

pub use settings::{LIMIT_MAX, PERIOD_MAX_S, Parameters, REST_MAX_S, Settings};
pub use state::State;

use cellar_policy_sdk::{Outcome, Policy, Problem, Promise, Request, export_policy};

pub struct Gcra;

impl Policy for Gcra {
    const NAME: &'static str = "gcra";
    const VERSION: &'static str = "1.0.0";
    const UNIT: &'static str = "requests";
    const STATE_SCHEMA: u32 = 1;
    const NOTES: &'static [&'static str] = &["the cost is above the burst: no waiting helps"];

    const PROMISES: &'static [Promise] = &[Promise::Rate { limit: "/limit", period_s: "/period_s", burst: "/burst" }];

    type Settings = Settings;
    type Parameters = Parameters;
    type State = State;

    fn compile(settings: Settings) -> Result<Parameters, Vec<Problem>> {
        Parameters::of(&settings)
    }

    fn decide(parameters: &Parameters, state: Option<State>, request: &Request) -> Outcome<State> {
        decide::decide(parameters, state, request)
    }
}

export_policy!(Gcra);
