//! What a policy answered, and what a test says of it.

use super::moment::{duration_us, shown, span};
use crate::outcome::Outcome;
use crate::request::{Operation, Request};
use std::fmt::Write as _;
use std::time::Duration;

/// One question and its answer, as a failed assertion shows it.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) request: Request,
    pub(super) outcome: Outcome<Vec<u8>>,
}

/// What a reservation took, and when: what a settle of it has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// In the policy's unit.
    pub amount: u64,
    /// Microseconds since the Unix epoch.
    pub at_us: u64,
}

/// An answer, with assertions that can be chained. One that fails shows the calls that came before it.
///
/// ```
/// use cellar_policy_sdk::example::Rule;
/// use cellar_policy_sdk::testing::Sim;
///
/// let mut user = Sim::<Rule>::new(r#"{"limit": 10}"#);
/// user.consume(3).admitted().remaining(7).limit(10);
/// user.consume(11).denied().note(1).retry_after_s(0);
/// assert_eq!(user.peek().outcome.remaining, 7);
/// ```
#[derive(Clone, Debug)]
pub struct Answer {
    /// The whole outcome, its state in bytes.
    pub outcome: Outcome<Vec<u8>>,
    pub(super) calls: Vec<Call>,
    pub(super) settings: String,
    pub(super) notes: &'static [&'static str],
}

impl Answer {
    /// It was admitted.
    #[track_caller]
    pub fn admitted(self) -> Self {
        self.expect(self.outcome.admitted, || "it was to be admitted".to_owned());
        self
    }

    /// It was denied.
    #[track_caller]
    pub fn denied(self) -> Self {
        self.expect(!self.outcome.admitted, || "it was to be denied".to_owned());
        self
    }

    /// So much can be taken now, after the call.
    #[track_caller]
    pub fn remaining(self, amount: u64) -> Self {
        self.expect(self.outcome.remaining == amount, || format!("{amount} were to be left"));
        self
    }

    /// So much is the most that one call can ever be admitted.
    #[track_caller]
    pub fn limit(self, amount: u64) -> Self {
        self.expect(self.outcome.limit == amount, || format!("its limit was to be {amount}"));
        self
    }

    /// This cost would pass after so long, to the microsecond; zero says that no waiting helps.
    #[track_caller]
    pub fn retry_after(self, wait: Duration) -> Self {
        let us = duration_us(wait);
        self.expect(self.outcome.retry_after_us == us, || format!("it was to say: retry after {}", span(us)));
        self
    }

    /// The same, in seconds.
    #[track_caller]
    pub fn retry_after_s(self, wait_s: u64) -> Self {
        self.retry_after(Duration::from_secs(wait_s))
    }

    /// Everything can be taken again after so long, to the microsecond.
    #[track_caller]
    pub fn reset_after(self, wait: Duration) -> Self {
        let us = duration_us(wait);
        self.expect(self.outcome.reset_after_us == us, || format!("all was to be back in {}", span(us)));
        self
    }

    /// Its remark: a number that [`Policy::NOTES`](crate::Policy::NOTES) counts from 1, zero for none.
    #[track_caller]
    pub fn note(self, note: u32) -> Self {
        self.expect(self.outcome.note == note, || format!("its note was to be {note}"));
        self
    }

    /// The state stayed as it was.
    #[track_caller]
    pub fn unchanged(self) -> Self {
        self.expect(self.outcome.state.is_none(), || "it was to change nothing".to_owned());
        self
    }

    /// What the reservation took, to settle it by.
    ///
    /// # Panics
    /// If it was no reservation, or one that was denied.
    #[track_caller]
    pub fn held(self) -> Held {
        let answer = self.admitted();
        let request = &answer.calls.last().expect("an answer to something").request;
        assert!(request.operation == Operation::Reserve, "only a reservation holds something");
        Held { amount: request.cost, at_us: request.now_us }
    }

    #[track_caller]
    fn expect(&self, holds: bool, expected: impl FnOnce() -> String) {
        assert!(holds, "{}", told(&self.settings, &self.calls, self.notes, &expected()));
    }
}

/// What was asked and answered, and what is wrong with it.
pub(super) fn told(settings: &str, calls: &[Call], notes: &[&str], but: &str) -> String {
    let mut text = format!("\n  settings {}\n", settings.trim());
    for Call { request, outcome } in calls {
        let verdict = if outcome.admitted { "admitted" } else { "denied" };
        let _ = write!(text, "  {}: {verdict}, {} of {} left", asked(request), outcome.remaining, outcome.limit);
        if outcome.retry_after_us > 0 {
            let _ = write!(text, ", retry after {}", span(outcome.retry_after_us));
        }
        let _ = write!(text, ", all back in {}", span(outcome.reset_after_us));
        let note = (outcome.note as usize).checked_sub(1).and_then(|note| notes.get(note));
        if let Some(note) = note {
            let _ = write!(text, " ({note})");
        }
        text.push('\n');
    }
    let _ = write!(text, "  but {but}");
    text
}

pub(super) fn asked(request: &Request) -> String {
    let (at, cost) = (shown(request.now_us), request.cost);
    let mut text = match request.operation {
        Operation::Consume => format!("{at}  consume {cost}"),
        Operation::Reserve => format!("{at}  reserve {cost}"),
        Operation::Settle => {
            format!("{at}  settle {cost} of {} held since {}", request.held, shown(request.held_at_us))
        }
        Operation::Peek => format!("{at}  peek"),
    };
    for attribute in &request.attributes {
        let _ = write!(text, " {}={}", attribute.name, attribute.value);
    }
    text
}
