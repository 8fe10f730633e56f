//! Settings as a test writes them.

use crate::policy::{Policy, configure};
use serde_json::Value;

/// What can be said where settings are asked for: JSON as a text, a file by `include_str!`, or a
/// [`json!`](crate::testing::json) value.
pub trait IntoSettings {
    /// The settings as JSON.
    fn into_json(self) -> String;
}

impl IntoSettings for &str {
    fn into_json(self) -> String {
        self.to_owned()
    }
}

impl IntoSettings for String {
    fn into_json(self) -> String {
        self
    }
}

impl IntoSettings for &String {
    fn into_json(self) -> String {
        self.clone()
    }
}

impl IntoSettings for Value {
    fn into_json(self) -> String {
        self.to_string()
    }
}

impl IntoSettings for &Value {
    fn into_json(self) -> String {
        self.to_string()
    }
}

/// The parameters of settings that have to be fit.
#[track_caller]
pub(super) fn parameters<P: Policy>(settings_json: &str) -> Vec<u8> {
    configure::<P>(settings_json).unwrap_or_else(|problems| {
        let problems: Vec<String> = problems.iter().map(|p| format!("\n  {:?}: {}", p.pointer, p.message)).collect();
        panic!("{} refuses the settings {settings_json}:{}", P::NAME, problems.concat())
    })
}
