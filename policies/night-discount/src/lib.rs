//! So much a period, where at certain hours an amount counts only for a share of itself.
//!
//! Kept of a user is what they spent, in thousandths of a unit, so that nothing is ever rounded; when last; and the
//! price of each open reservation, for a settle counts at the price of when it was held. Only what is shown as
//! remaining is a whole number, and rounded down.

mod decide;
mod settings;

pub use settings::{LIMIT_MAX, Parameters, Settings};

use cellar_policy_sdk::priced::Priced;
use cellar_policy_sdk::{Outcome, Policy, Problem, Promise, Request, export_policy};

pub struct NightDiscount;

impl Policy for NightDiscount {
    const NAME: &'static str = "night-discount";
    const VERSION: &'static str = "1.0.0";
    const UNIT: &'static str = "tokens";
    const STATE_SCHEMA: u32 = 1;
    const NOTES: &'static [&'static str] = &["the cost is above the limit at any hour: no waiting helps"];

    const PROMISES: &'static [Promise] = &[Promise::Priced {
        limit: "/limit",
        every: "/every",
        price_permille: "/price_permille",
        from_minute: Some("/from_minute"),
        minutes: Some("/minutes"),
        utc_offset_minutes: Some("/utc_offset_minutes"),
    }];
    // Of what is left, less can be taken once the cheap hours are over.
    const WAIVES: &'static [&'static str] = &["monotone-in-time"];

    type Settings = Settings;
    type Parameters = Parameters;
    type State = Priced;

    fn compile(settings: Settings) -> Result<Parameters, Vec<Problem>> {
        Ok(Parameters::of(&settings))
    }

    fn decide(parameters: &Parameters, state: Option<Priced>, request: &Request) -> Outcome<Priced> {
        decide::Account::of(parameters, state, request.now_us).decide(request)
    }
}

export_policy!(NightDiscount);
