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
/// **Invariant:** no clock, no randomness, no memory of the last call. The host keeps one instance
/// for many users and may drop it between any two calls.
pub trait Policy {
    /// The name tiers use it by: `[a-z0-9_-]`.
    const NAME: &'static str;
    /// Three numbers. A tier's `name@1` means the newest with that first number.
    const VERSION: &'static str;
    /// What it is meant to count.
    const UNIT: &'static str;
    /// Raised with every change of `State`'s bytes; `migrate` then reads the older ones.
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

    fn decide(parameters: &Self::Parameters, state: Option<Self::State>, request: &Request) -> Outcome<Self::State>;

    /// Reads a state of an older schema. There is none by default.
    fn upgrade(from_schema: u32, _parameters: &Self::Parameters, _state: &[u8]) -> Result<Self::State, String> {
        Err(format!("no version of {} wrote states of schema {from_schema}", Self::NAME))
    }
}

/// Metadata as JSON.
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
