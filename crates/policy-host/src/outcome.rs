//! What must hold of every outcome, whoever wrote the policy.

use crate::call::{Operation, Outcome, Request};
use crate::fault::Fault;
use cellar_model::Micros;

/// The longest wait an outcome may name: the whole calendar that times are written in.
pub const WAIT_MAX_US: u64 = Micros::MAX.0;

/// Passes an outcome on only if it can be true.
///
/// # Errors
/// `Fault::BadOutcome`, with the lie.
pub fn check(outcome: Outcome, request: &Request<'_>, state_max_bytes: usize) -> Result<Outcome, Fault> {
    let wrong = |what| Err(Fault::BadOutcome { what });
    if outcome.remaining > outcome.limit {
        return wrong("more remains than the limit");
    }
    if outcome.retry_after_us > WAIT_MAX_US || outcome.reset_after_us > WAIT_MAX_US {
        return wrong("a wait beyond the calendar");
    }
    let takes = matches!(request.operation, Operation::Consume | Operation::Reserve);
    if outcome.admitted && takes && request.cost > outcome.limit {
        return wrong("admitted above its limit");
    }
    if outcome.admitted && outcome.retry_after_us > 0 {
        return wrong("admitted, and yet a wait");
    }
    let Some(state) = &outcome.state else {
        return Ok(outcome);
    };
    if !outcome.admitted {
        return wrong("a denial that changes the state");
    }
    if request.operation == Operation::Peek || (takes && request.cost == 0) {
        return wrong("a question that changes the state");
    }
    if state.is_empty() {
        return wrong("a state of no bytes");
    }
    if state.len() > state_max_bytes {
        return wrong("a state that is too large");
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSUME: Request<'static> =
        Request { operation: Operation::Consume, now_us: 1, cost: 1, held: 0, held_at_us: 0, attributes: &[] };

    fn admitted() -> Outcome {
        Outcome {
            admitted: true,
            state: Some(vec![1]),
            limit: 10,
            remaining: 9,
            retry_after_us: 0,
            reset_after_us: 5,
            note: 0,
        }
    }

    #[test]
    fn an_honest_outcome_passes() {
        assert_eq!(check(admitted(), &CONSUME, 8), Ok(admitted()));
    }

    #[test]
    fn each_lie_is_named() {
        let lies = [
            ("more remains", Outcome { remaining: 11, ..admitted() }),
            ("beyond the calendar", Outcome { reset_after_us: u64::MAX, ..admitted() }),
            ("yet a wait", Outcome { retry_after_us: 1, ..admitted() }),
            ("denial", Outcome { admitted: false, ..admitted() }),
            ("above its limit", Outcome { limit: 0, remaining: 0, ..admitted() }),
            ("no bytes", Outcome { state: Some(vec![]), ..admitted() }),
            ("too large", Outcome { state: Some(vec![0; 9]), ..admitted() }),
        ];
        for (expected, lie) in lies {
            match check(lie, &CONSUME, 8) {
                Err(Fault::BadOutcome { what }) => assert!(what.contains(expected), "{what}"),
                other => panic!("{expected}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_question_changes_nothing() {
        let peek = Request { operation: Operation::Peek, ..CONSUME };
        let nothing = Request { cost: 0, ..CONSUME };
        assert!(check(admitted(), &peek, 8).is_err());
        assert!(check(admitted(), &nothing, 8).is_err());
        assert!(check(Outcome { state: None, ..admitted() }, &peek, 8).is_ok());
    }
}
