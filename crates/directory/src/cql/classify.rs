//! Whether an error came with the store's word that nothing was written.
//!
//! The driver repeats no conditional write, so the error it reports is that of the one attempt, or of
//! an attempt that found no connection to leave by.

use crate::DirectoryError;
use scylla::errors::{DbError, ExecutionError, PrepareError, RequestAttemptError};
use scylla::statement::Consistency;

/// What was asked of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Ask {
    /// May be stale.
    Read,
    /// Sees every conditional write before it.
    SerialRead,
    /// Decides a row.
    Conditional,
    /// Of a row that nothing decides.
    Write,
}

pub(super) fn classify(ask: Ask, error: ExecutionError) -> DirectoryError {
    match error {
        // Nothing left: no statement, or no connection to any node.
        ExecutionError::BadQuery(_) => DirectoryError::Rejected(error.into()),
        ExecutionError::EmptyPlan | ExecutionError::ConnectionPoolError(_) => DirectoryError::Unreachable(error.into()),
        ExecutionError::PrepareError(error) => unprepared(error),
        ExecutionError::LastAttemptError(attempt) => attempted(ask, attempt),
        // Time-outs above all.
        error => DirectoryError::NoAnswer(error.into()),
    }
}

/// To prepare a statement writes nothing.
pub(super) fn unprepared(error: PrepareError) -> DirectoryError {
    let PrepareError::AllAttemptsFailed { first_attempt: RequestAttemptError::DbError(answer, _) } = &error else {
        return DirectoryError::Unreachable(error.into());
    };
    if is_refusal(answer) { DirectoryError::Rejected(error.into()) } else { DirectoryError::Unreachable(error.into()) }
}

fn attempted(ask: Ask, error: RequestAttemptError) -> DirectoryError {
    match &error {
        RequestAttemptError::SerializationError(_) | RequestAttemptError::CqlRequestSerialization(_) => {
            DirectoryError::Rejected(error.into())
        }
        RequestAttemptError::UnableToAllocStreamId => DirectoryError::Unreachable(error.into()),
        RequestAttemptError::DbError(answer, _) if is_refusal(answer) => DirectoryError::Rejected(error.into()),
        RequestAttemptError::DbError(answer, _) if wrote_nothing(ask, answer) => {
            DirectoryError::Unreachable(error.into())
        }
        // Broken connections, answers that cannot be read, and time-outs and failures of replicas: of a
        // conditional write some may have accepted it, and the next serial read will then finish it.
        _ => DirectoryError::NoAnswer(error.into()),
    }
}

/// The store will not do this, now or later.
fn is_refusal(answer: &DbError) -> bool {
    matches!(
        answer,
        DbError::SyntaxError
            | DbError::Invalid
            | DbError::AlreadyExists { .. }
            | DbError::FunctionFailure { .. }
            | DbError::AuthenticationError
            | DbError::Unauthorized
            | DbError::ConfigError
    )
}

fn wrote_nothing(ask: Ask, answer: &DbError) -> bool {
    match answer {
        DbError::Unprepared { .. } | DbError::IsBootstrapping => true,
        // Too few replicas to propose anything to. At the regular level it is the commit that found too
        // few: by then the row is decided, and whoever comes next finishes it.
        DbError::Unavailable { consistency, .. } => {
            ask != Ask::Conditional || matches!(consistency, Consistency::Serial | Consistency::LocalSerial)
        }
        // Overloaded is said before a request is looked at, and also when too many hints are due, which
        // is after the row was decided: the protocol does not tell the two apart.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use scylla::errors::WriteType;

    fn kind_of(ask: Ask, answer: DbError) -> &'static str {
        let attempt = RequestAttemptError::DbError(answer, String::new());
        match classify(ask, ExecutionError::LastAttemptError(attempt)) {
            DirectoryError::Unreachable(_) => "certain",
            DirectoryError::NoAnswer(_) => "unknown",
            DirectoryError::Rejected(_) => "refused",
            other => panic!("{other:?}"),
        }
    }

    fn unavailable(consistency: Consistency) -> DbError {
        DbError::Unavailable { consistency, required: 2, alive: 1 }
    }

    fn timeout(write_type: WriteType) -> DbError {
        DbError::WriteTimeout { consistency: Consistency::Serial, received: 1, required: 2, write_type }
    }

    #[test]
    fn only_what_the_store_vouches_for_is_certain() {
        for (answer, kind) in [
            (unavailable(Consistency::Serial), "certain"),
            (unavailable(Consistency::LocalSerial), "certain"),
            (unavailable(Consistency::LocalQuorum), "unknown"),
            (timeout(WriteType::Cas), "unknown"),
            (timeout(WriteType::Simple), "unknown"),
            (DbError::Overloaded, "unknown"),
            (DbError::ServerError, "unknown"),
            (DbError::Other(0x1700), "unknown"),
            (DbError::IsBootstrapping, "certain"),
            (DbError::Unprepared { statement_id: Default::default() }, "certain"),
            (DbError::Invalid, "refused"),
            (DbError::Unauthorized, "refused"),
        ] {
            assert_eq!(kind_of(Ask::Conditional, answer.clone()), kind, "{answer:?}");
        }
        assert_eq!(kind_of(Ask::Read, unavailable(Consistency::LocalQuorum)), "certain");
    }

    #[test]
    fn a_request_that_was_not_answered_in_time_is_unknown() {
        let error = classify(Ask::Conditional, ExecutionError::RequestTimeout(std::time::Duration::from_secs(2)));
        assert!(matches!(error, DirectoryError::NoAnswer(_)));
        let error = classify(Ask::Conditional, ExecutionError::EmptyPlan);
        assert!(matches!(error, DirectoryError::Unreachable(_)));
    }
}
