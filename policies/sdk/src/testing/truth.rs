//! What the host holds every outcome to, natively: a policy that breaks it is told so by its first test, and not by
//! the host's faults.

use crate::outcome::Outcome;
use crate::request::{Operation, Request, TIME_MAX_US};
use std::fmt;

/// Bytes of a state: it travels with every commit.
const STATE_BYTES_MAX: usize = 4 << 10;

/// Why an outcome cannot be true. The host answers it by the tier's `on_fault`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lie(pub &'static str);

impl fmt::Display for Lie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// Whether an outcome can be the answer to `request`, by the host's own rules.
///
/// ```
/// use cellar_policy_sdk::testing::truth;
/// use cellar_policy_sdk::{Operation, Outcome, Request};
///
/// let request = Request::new(Operation::Consume, 0, 1);
/// let honest = Outcome {
///     admitted: true, state: None, limit: 10, remaining: 9, retry_after_us: 0, reset_after_us: 0, note: 0,
/// };
/// assert!(truth(&honest, &request).is_ok());
/// let lie = Outcome { remaining: 11, ..honest };
/// assert_eq!(truth(&lie, &request).unwrap_err().to_string(), "more remains than the limit");
/// ```
///
/// # Errors
/// The lie.
pub fn truth(outcome: &Outcome<Vec<u8>>, request: &Request) -> Result<(), Lie> {
    let takes = matches!(request.operation, Operation::Consume | Operation::Reserve);
    let lies = [
        (outcome.remaining > outcome.limit, "more remains than the limit"),
        (outcome.retry_after_us > TIME_MAX_US || outcome.reset_after_us > TIME_MAX_US, "a wait beyond the calendar"),
        (outcome.admitted && takes && request.cost > outcome.limit, "admitted above its limit"),
        (outcome.admitted && outcome.retry_after_us > 0, "admitted, and yet a wait"),
    ];
    let of_state = outcome.state.as_ref().map_or([(false, ""); 4], |state| {
        [
            (!outcome.admitted, "a denial that changes the state"),
            (request.only_asks(), "a question that changes the state"),
            (state.is_empty(), "a state of no bytes"),
            (state.len() > STATE_BYTES_MAX, "a state that is too large"),
        ]
    });
    match lies.into_iter().chain(of_state).find(|(lies, _)| *lies) {
        Some((_, what)) => Err(Lie(what)),
        None => Ok(()),
    }
}
