//! No more than so much reserved at once: a cap on what a user has under way.
//!
//! A reserve takes from it, and its settle gives all of that back, whatever was used. Kept of a user are the open
//! reservations, each until it is settled or `open_s` has passed: nobody says when one expires that stays charged.

mod decide;
mod state;

pub use state::{OPEN_MAX, Open, State};

use cellar_policy_sdk::{AMOUNT_MAX, Outcome, Policy, Problem, Promise, Request, export_policy, fixed_struct};
use schemars::JsonSchema;
use serde::Deserialize;

/// An amount's own maximum.
pub const LIMIT_MAX: u64 = AMOUNT_MAX;
/// The longest that the service lets a reservation be open.
pub const OPEN_MAX_S: u64 = 3_600;

pub struct OpenReservations;

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Units that may be reserved at once.
    #[schemars(range(min = 1, max = LIMIT_MAX))]
    pub limit: u64,
    /// Seconds after which a reservation no longer counts that nobody has settled: as long as they are ever asked
    /// for. 3600, the longest there is, if absent.
    #[serde(default = "open_max_s")]
    #[schemars(range(min = 1, max = OPEN_MAX_S))]
    pub open_s: u64,
}

fn open_max_s() -> u64 {
    OPEN_MAX_S
}

fixed_struct! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Parameters {
        pub limit: u64,
        pub open_us: u64,
    }
}

impl Policy for OpenReservations {
    const NAME: &'static str = "open-reservations";
    const VERSION: &'static str = "1.0.0";
    const UNIT: &'static str = "requests";
    const STATE_SCHEMA: u32 = 1;
    const NOTES: &'static [&'static str] =
        &["the cost is above the limit: no waiting helps", "as many reservations are open as a user can have"];

    const PROMISES: &'static [Promise] = &[Promise::Open { limit: "/limit", open_s: "/open_s" }];
    // It counts what is under way, not what was used: settled, a reservation is gone, and had the settled amount
    // been reserved at once, that would still be open.
    const WAIVES: &'static [&'static str] = &["settle-conserves"];

    type Settings = Settings;
    type Parameters = Parameters;
    type State = State;

    fn compile(settings: Settings) -> Result<Parameters, Vec<Problem>> {
        Ok(Parameters { limit: settings.limit, open_us: settings.open_s * 1_000_000 })
    }

    fn decide(parameters: &Parameters, state: Option<State>, request: &Request) -> Outcome<State> {
        decide::decide(parameters, state.unwrap_or_default(), request)
    }
}

export_policy!(OpenReservations);
