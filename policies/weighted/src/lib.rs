//! So much a period, where an amount counts by the weight of the model that a call names.
//!
//! Kept of a user is what they spent, in thousandths of a unit, so that nothing is ever rounded; when last; and the
//! weight of each open reservation, for a settle need not name its model. Only what is shown as remaining is a whole
//! number, in the units of the model that was named, and rounded down.

mod decide;
mod settings;
mod weights;

pub use settings::{LIMIT_MAX, Parameters, Settings, WEIGHT_MAX_PERMILLE};
pub use weights::{MODELS_MAX, NAME_MAX_BYTES, Weights};

use cellar_policy_sdk::priced::Priced;
use cellar_policy_sdk::{Outcome, Policy, Problem, Promise, Request, export_policy};

pub struct Weighted;

impl Policy for Weighted {
    const NAME: &'static str = "weighted";
    const VERSION: &'static str = "1.0.0";
    const UNIT: &'static str = "tokens";
    const STATE_SCHEMA: u32 = 1;
    const NOTES: &'static [&'static str] = &[
        "the cost is above what the limit is in this model: no waiting helps",
        "the model has no weight, and unknown ones are refused",
    ];

    const PROMISES: &'static [Promise] = &[Promise::Priced {
        limit: "/limit",
        every: "/every",
        price_permille: "/default_weight_permille",
        from_minute: None,
        minutes: None,
        utc_offset_minutes: Some("/utc_offset_minutes"),
    }];

    type Settings = Settings;
    type Parameters = Parameters;
    type State = Priced;

    fn compile(settings: Settings) -> Result<Parameters, Vec<Problem>> {
        Parameters::of(&settings)
    }

    fn decide(parameters: &Parameters, state: Option<Priced>, request: &Request) -> Outcome<Priced> {
        decide::decide(parameters, state, request)
    }
}

export_policy!(Weighted);
