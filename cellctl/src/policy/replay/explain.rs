//! Why a request was answered as it was.

use super::{Answered, OperationName};
use cellar_model::Micros;
use std::fmt::Write as _;

/// What is said of one request.
pub(super) fn text(answered: &Answered, notes: &[String], fuel: u64) -> String {
    let Answered { line, now_us, before, outcome } = answered;
    let asked = match line.operation {
        OperationName::Consume => format!("consume {}", line.cost.get()),
        OperationName::Reserve => format!("reserve {}", line.cost.get()),
        OperationName::Settle => format!("settle {} of {} held", line.cost.get(), line.held.get()),
        OperationName::Peek => "peek".to_owned(),
    };
    let verdict = if outcome.admitted { "admitted" } else { "denied" };
    let mut text = format!(
        "{}  {}  {asked}: {verdict}, {} of {} left\n",
        Micros(*now_us).to_rfc3339(),
        line.user,
        outcome.remaining,
        outcome.limit
    );
    // Writing to a string does not fail.
    if *now_us > line.at_us {
        let _ = writeln!(text, "    time    it came late: a user's time never runs backwards");
    }
    if !line.attributes.is_empty() {
        let said: Vec<String> = line.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let _ = writeln!(text, "    said    {}", said.join(" "));
    }
    if outcome.note > 0 {
        let note = notes.get(outcome.note as usize - 1);
        let note = note.map_or("which its description does not name", String::as_str);
        let _ = writeln!(text, "    note    {}: {note}", outcome.note);
    }
    if !outcome.admitted {
        let passes = match outcome.retry_after_us {
            0 => "never: no waiting helps".to_owned(),
            wait_us => format!("at {}, in {}", moment(*now_us, wait_us), span(wait_us)),
        };
        let _ = writeln!(text, "    passes  {passes}");
    }
    if outcome.reset_after_us > 0 {
        let (back, wait) = (moment(*now_us, outcome.reset_after_us), span(outcome.reset_after_us));
        let _ = writeln!(text, "    back    all at {back}, in {wait}");
    }
    let after = outcome.state.as_deref();
    let state = match after {
        None => format!("{}, as it was", bytes(before)),
        Some(after) => format!("{} to {}", bytes(before), bytes(after)),
    };
    let _ = writeln!(text, "    state   {state}\n    fuel    {fuel}");
    text
}

/// A wait that leads beyond the calendar ends with it.
fn moment(now_us: u64, wait_us: u64) -> String {
    Micros(now_us.saturating_add(wait_us).min(Micros::MAX.0)).to_rfc3339()
}

fn span(us: u64) -> String {
    match (us / 1_000_000, us % 1_000_000) {
        (whole, 0) => format!("{whole} s"),
        (whole, part) => format!("{whole}.{part:06} s"),
    }
}

fn bytes(state: &[u8]) -> String {
    if state.is_empty() { "none".to_owned() } else { hex::encode(state) }
}
