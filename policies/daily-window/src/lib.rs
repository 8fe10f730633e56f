//! So much a day, at any hour or only from one hour to another, at a fixed distance from UTC.
//!
//! A day begins where its window opens, which may be in the evening: a window that reaches over midnight is one
//! window. Kept of a user is what they spent in a day, and when last. Nothing carries over.

mod decide;
mod settings;

pub use settings::{DAY_MINUTES, LIMIT_MAX, Parameters, Settings};

use cellar_policy_sdk::{Outcome, Policy, Problem, Promise, Request, Spent, export_policy};

pub struct DailyWindow;

impl Policy for DailyWindow {
    const NAME: &'static str = "daily-window";
    const VERSION: &'static str = "1.0.0";
    const UNIT: &'static str = "requests";
    const STATE_SCHEMA: u32 = 1;
    const NOTES: &'static [&'static str] =
        &["the cost is above the limit: no waiting helps", "the window is closed until the next day's opens"];

    const PROMISES: &'static [Promise] = &[Promise::Periods {
        limit: "/limit",
        every: "day",
        anchor_day: None,
        from_minute: Some("/opens_at_minute"),
        utc_offset_minutes: Some("/utc_offset_minutes"),
        rollover_max: None,
    }];
    // A window closes: who waits for that has less left.
    const WAIVES: &'static [&'static str] = &["monotone-in-time"];

    type Settings = Settings;
    type Parameters = Parameters;
    type State = Spent;

    fn compile(settings: Settings) -> Result<Parameters, Vec<Problem>> {
        Ok(Parameters::of(&settings))
    }

    fn decide(parameters: &Parameters, state: Option<Spent>, request: &Request) -> Outcome<Spent> {
        decide::Day::of(parameters, state, request.now_us).decide(request)
    }
}

export_policy!(DailyWindow);
