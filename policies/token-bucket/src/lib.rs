//! So many tokens a period; those that are left at its end roll over into the next, up to a maximum.
//!
//! Said the other way round, which is how it is counted: a bucket holds `limit + rollover_max`, a user owes what they
//! took out of it, and each border between two periods pays back `limit` of that. With `left` tokens at a border,
//! `limit + rollover_max - left` are owed; `limit` less is owed behind it, but not less than nothing; so there are
//! `limit + min(left, rollover_max)`.
//!
//! Kept of a user is what they owed after their last charge, and when that was.

mod bucket;
mod settings;

pub use settings::{FILL_PERIODS_MAX, LIMIT_MAX, Parameters, Settings};

use bucket::Bucket;
use cellar_policy_sdk::{Outcome, Policy, Problem, Promise, Request, Spent, export_policy};

pub struct TokenBucket;

impl Policy for TokenBucket {
    const NAME: &'static str = "token-bucket";
    const VERSION: &'static str = "1.0.0";
    const UNIT: &'static str = "tokens";
    const STATE_SCHEMA: u32 = 1;
    const NOTES: &'static [&'static str] = &["the cost is above limit and rollover_max: no waiting helps"];

    const PROMISES: &'static [Promise] = &[Promise::Periods {
        limit: "/limit",
        every: "/every",
        anchor_day: None,
        from_minute: None,
        utc_offset_minutes: Some("/utc_offset_minutes"),
        rollover_max: Some("/rollover_max"),
    }];

    type Settings = Settings;
    type Parameters = Parameters;
    type State = Spent;

    fn compile(settings: Settings) -> Result<Parameters, Vec<Problem>> {
        Parameters::of(&settings)
    }

    fn decide(parameters: &Parameters, state: Option<Spent>, request: &Request) -> Outcome<Spent> {
        Bucket::of(parameters, state, request.now_us).decide(request)
    }
}

export_policy!(TokenBucket);
