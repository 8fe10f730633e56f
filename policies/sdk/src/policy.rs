//! What an author implements, and the component's four functions on top of it.

use crate::fixed::Fixed;
use crate::outcome::Outcome;
use crate::promise::Promise;
use crate::request::Request;
use crate::settings::{self, Problem};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::json;

/// A policy: a pure function of (parameters, state, request).
///
/// ```
/// use cellar_policy_sdk::{AMOUNT_MAX, Operation, Outcome, Policy, Problem, Request, fixed_struct};
/// use schemars::JsonSchema;
/// use serde::Deserialize;
///
/// /// So many units, and never more.
/// struct Once;
///
/// #[derive(Deserialize, JsonSchema)]
/// #[serde(deny_unknown_fields)]
/// struct Settings {
///     /// Units there are.
///     #[schemars(range(min = 1, max = AMOUNT_MAX))]
///     limit: u64,
/// }
///
/// fixed_struct! { struct Parameters { limit: u64, } }
/// fixed_struct! { struct State { spent: u64, } }
///
/// impl Policy for Once {
///     const NAME: &'static str = "once";
///     const VERSION: &'static str = "1.0.0";
///     const UNIT: &'static str = "requests";
///     const STATE_SCHEMA: u32 = 1;
///     type Settings = Settings;
///     type Parameters = Parameters;
///     type State = State;
///
///     fn compile(settings: Settings) -> Result<Parameters, Vec<Problem>> {
///         Ok(Parameters { limit: settings.limit })
///     }
///
///     fn decide(parameters: &Parameters, state: Option<State>, request: &Request) -> Outcome<State> {
///         let spent = state.map_or(0, |state| state.spent);
///         let remaining = |spent: u64| parameters.limit.saturating_sub(spent);
///         let stands = |spent: u64| Outcome {
///             admitted: true,
///             state: None,
///             limit: parameters.limit,
///             remaining: remaining(spent),
///             retry_after_us: 0,
///             reset_after_us: 0,
///             note: 0,
///         };
///         let spending = |spent: u64| Outcome { state: Some(State { spent }), ..stands(spent) };
///         match request.operation {
///             _ if request.only_asks() => stands(spent),
///             Operation::Settle => spending(spent.saturating_add(request.cost).saturating_sub(request.held)),
///             _ if request.cost <= remaining(spent) => spending(spent + request.cost),
///             _ => Outcome { admitted: false, ..stands(spent) },
///         }
///     }
/// }
///
/// use cellar_policy_sdk::testing::Sim;
/// Sim::<Once>::new(r#"{"limit": 2}"#).consume(2).admitted().remaining(0);
/// ```
///
/// **Invariant:** no clock, no randomness, no memory of the last call. The host keeps one instance
/// for many users and may drop it between any two calls.
pub trait Policy {
    /// The name tiers use it by: `[a-z0-9_-]`.
    const NAME: &'static str;
    /// Three numbers. A tier's `name@1` means the newest with that first number.
    const VERSION: &'static str;
    /// What it is meant to count.
    const UNIT: &'static str;
    /// Raised with every change of `State`'s bytes; `upgrade` then reads the older ones.
    const STATE_SCHEMA: u32;
    /// What the notes of an outcome mean, from 1 on.
    const NOTES: &'static [&'static str] = &[];

    /// What is never exceeded, whatever the history: `cellctl policy certify` holds the policy to it.
    const PROMISES: &'static [Promise] = &[];
    /// Properties that are not meant to hold of it, by the names the certifier gives them.
    const WAIVES: &'static [&'static str] = &[];

    /// What an operator writes. Bounds stand in its schema (`#[schemars(range(..))]`), unknown keys
    /// are refused by `#[serde(deny_unknown_fields)]`; both are reported all at once.
    type Settings: DeserializeOwned + JsonSchema;
    /// The settings made ready to decide by.
    type Parameters: Fixed;
    /// What is kept of a user, with whatever of the settings it needs to be read under others.
    type State: Fixed;

    /// Checks what a schema cannot say, and prepares.
    fn compile(settings: Self::Settings) -> Result<Self::Parameters, Vec<Problem>>;

    /// One decision. A state of none is a user whom the policy has not seen.
    fn decide(parameters: &Self::Parameters, state: Option<Self::State>, request: &Request) -> Outcome<Self::State>;

    /// Reads a state of an older schema. There is none by default.
    fn upgrade(from_schema: u32, _parameters: &Self::Parameters, _state: &[u8]) -> Result<Self::State, String> {
        Err(format!("no version of {} wrote states of schema {from_schema}", Self::NAME))
    }
}

/// Metadata as JSON.
///
/// ```
/// use cellar_policy_sdk::{describe, example::Rule};
///
/// let metadata: serde_json::Value = serde_json::from_str(&describe::<Rule>()).unwrap();
/// assert_eq!(metadata["settings_schema"]["properties"]["limit"]["minimum"], 1);
/// ```
pub fn describe<P: Policy>() -> String {
    json!({
        "name": P::NAME,
        "version": P::VERSION,
        "unit": P::UNIT,
        "state_schema": P::STATE_SCHEMA,
        "settings_schema": settings::schema::<P::Settings>(),
        "notes": P::NOTES,
        "promises": P::PROMISES,
        "waives": P::WAIVES,
    })
    .to_string()
}

/// Settings as JSON in, parameters out; or everything that is wrong.
pub fn configure<P: Policy>(settings_json: &str) -> Result<Vec<u8>, Vec<Problem>> {
    let settings = settings::read::<P::Settings>(settings_json)?;
    P::compile(settings).map(|parameters| parameters.to_bytes())
}

/// One decision, over bytes.
///
/// ```
/// use cellar_policy_sdk::{Operation, Request, configure, decide, example::Rule};
///
/// let parameters = configure::<Rule>(r#"{"limit": 10}"#).unwrap();
/// let outcome = decide::<Rule>(&parameters, &[], &Request::new(Operation::Consume, 0, 3));
/// assert!(outcome.admitted && outcome.remaining == 7 && outcome.state.is_some());
/// ```
///
/// # Panics
/// If parameters or state are none that this version wrote: the host then sees a trap, and nobody
/// is charged on a guess.
pub fn decide<P: Policy>(parameters: &[u8], state: &[u8], request: &Request) -> Outcome<Vec<u8>> {
    let state = match state {
        [] => None,
        bytes => Some(P::State::from_bytes(bytes).expect("a state of this schema")),
    };
    P::decide(&read_parameters::<P>(parameters), state, request).map_state(|state| state.to_bytes())
}

/// A state of `from_schema` in this version's form.
///
/// # Panics
/// If the parameters are none that this version wrote.
pub fn migrate<P: Policy>(from_schema: u32, parameters: &[u8], state: &[u8]) -> Result<Vec<u8>, String> {
    if from_schema == P::STATE_SCHEMA {
        let state = P::State::from_bytes(state);
        return state.map(|state| state.to_bytes()).ok_or_else(|| "the state cannot be read".to_owned());
    }
    P::upgrade(from_schema, &read_parameters::<P>(parameters), state).map(|state| state.to_bytes())
}

fn read_parameters<P: Policy>(bytes: &[u8]) -> P::Parameters {
    P::Parameters::from_bytes(bytes).expect("parameters that configure made")
}
