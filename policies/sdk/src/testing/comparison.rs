//! What the native code answers, written down for who asks the component the same.

use super::draw::{Draw, Scale};
use super::settings::IntoSettings;
use super::sim::{START_US, Sim};
use crate::outcome::Outcome;
use crate::policy::Policy;
use crate::request::{Operation, Request};
use serde_json::{Value, json};
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// The variable that names the folder to write to: `cellctl policy test` sets it.
pub const COMPARISON_FOLDER: &str = "CELLAR_POLICY_COMPARISON";

const HISTORIES: u64 = 100;
const CALLS: u64 = 30;

/// Writes histories with their native outcomes, a line of JSON a call, into a file of its own in the folder that
/// [`COMPARISON_FOLDER`] names; without the variable, nothing. [`property_tests!`](crate::property_tests) calls it.
///
/// # Panics
/// If the policy refuses the settings, or the file cannot be written.
#[track_caller]
pub fn write_comparison<P: Policy>(settings: impl IntoSettings) {
    static FILES: AtomicU32 = AtomicU32::new(0);
    let settings = settings.into_json();
    let Some(folder) = std::env::var_os(COMPARISON_FOLDER) else { return };
    let name = format!("{}-{}.jsonl", std::process::id(), FILES.fetch_add(1, Ordering::Relaxed));
    let lines = lines::<P>(&settings).unwrap_or_else(|broken| panic!("{broken}"));
    let path = Path::new(&folder).join(name);
    let written = std::fs::File::create(&path).and_then(|mut file| file.write_all(lines.as_bytes()));
    written.unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

fn lines<P: Policy>(settings: &str) -> Result<String, String> {
    let mut lines = String::new();
    let scale = Scale::of(&Sim::<P>::new(settings))?;
    for seed in 0..HISTORIES {
        let (mut draw, mut user, mut now_us) = (Draw::new(seed), Sim::<P>::new(settings), START_US);
        for _ in 0..CALLS {
            now_us += draw.pause_us(scale);
            let request = draw.request(now_us, scale);
            let state = hex(user.state_bytes());
            let outcome = user.try_tell(request.clone())?;
            let line = json!({
                "settings": settings, "parameters": hex(user.parameters()), "state": state,
                "request": asked(&request), "outcome": answered(&outcome),
            });
            lines.push_str(&line.to_string());
            lines.push('\n');
        }
    }
    Ok(lines)
}

fn asked(request: &Request) -> Value {
    let operation = match request.operation {
        Operation::Consume => "consume",
        Operation::Reserve => "reserve",
        Operation::Settle => "settle",
        Operation::Peek => "peek",
    };
    json!({
        "operation": operation, "now_us": request.now_us, "cost": request.cost,
        "held": request.held, "held_at_us": request.held_at_us,
    })
}

fn answered(outcome: &Outcome<Vec<u8>>) -> Value {
    json!({
        "admitted": outcome.admitted, "state": outcome.state.as_deref().map(hex), "limit": outcome.limit,
        "remaining": outcome.remaining, "retry_after_us": outcome.retry_after_us,
        "reset_after_us": outcome.reset_after_us, "note": outcome.note,
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::Rule;

    #[test]
    fn every_call_of_every_history_is_a_line_and_the_same_each_time() {
        let lines_of = || lines::<Rule>(r#"{"limit": 10}"#).unwrap();
        let text = lines_of();
        assert_eq!(text.lines().count() as u64, HISTORIES * CALLS);
        assert_eq!(text, lines_of());
        let operations = ["consume", "reserve", "settle", "peek"];
        assert!(operations.iter().all(|operation| text.contains(&format!("\"operation\":\"{operation}\""))));
    }
}
