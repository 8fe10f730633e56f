//! So much a month: a calendar month, or one that begins on a day of its own, at a fixed distance from UTC.
//!
//! Kept of a user is what they spent in a month, and a moment in it. A new month begins at zero; nothing carries
//! over and nothing is given back into it.

mod bucket;
mod settings;
mod state;

pub use settings::{LIMIT_MAX, Parameters, Settings};
pub use state::State;

use bucket::Bucket;
use cellar_policy_sdk::{Outcome, Policy, Problem, Promise, Request, export_policy};

pub struct MonthlyBucket;

impl Policy for MonthlyBucket {
    const NAME: &'static str = "monthly-bucket";
    const VERSION: &'static str = "1.1.0";
    const UNIT: &'static str = "tokens";
    const STATE_SCHEMA: u32 = 1;
    const NOTES: &'static [&'static str] = &["the cost is above the limit: no waiting helps"];

    const PROMISES: &'static [Promise] = &[Promise::Periods {
        limit: "/limit",
        every: "month",
        anchor_day: Some("/anchor_day"),
        from_minute: None,
        utc_offset_minutes: Some("/utc_offset_minutes"),
        rollover_max: None,
    }];

    type Settings = Settings;
    type Parameters = Parameters;
    type State = State;

    fn compile(settings: Settings) -> Result<Parameters, Vec<Problem>> {
        Ok(Parameters::of(&settings))
    }

    fn decide(parameters: &Parameters, state: Option<State>, request: &Request) -> Outcome<State> {
        Bucket::of(parameters, state, request.now_us).decide(request)
    }
}

export_policy!(MonthlyBucket);
