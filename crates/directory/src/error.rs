//! Why the directory could not answer.

use cellar_model::{Problem, ProblemType};
use std::time::Duration;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// What went wrong, in words any store can be described with. No variant but `NoAnswer` may have
/// written anything.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    #[error("the directory cannot be reached")]
    Unreachable(#[source] Cause),
    #[error("the directory did not answer")]
    NoAnswer(#[source] Cause),
    /// It answered that it will not do this.
    #[error("the directory refused a statement")]
    Rejected(#[source] Cause),
    /// A row of it reads as nothing we would have written.
    #[error("the directory holds a {what} that cannot be read")]
    Corrupt {
        what: &'static str,
        #[source]
        cause: Cause,
    },
    #[error("a {what} of {bytes} bytes is above the limit of {bytes_max}")]
    TooLarge { what: &'static str, bytes: usize, bytes_max: usize },
    /// The row changed under every attempt, or every attempt stayed unanswered.
    #[error("the directory's {what} could not be decided in {attempts} attempts")]
    Undecided { what: &'static str, attempts: u32 },
    /// The store takes a conditional write for an ordinary one: to go on would give a user two homes.
    #[error("conditional writes do not work on this directory: {0}")]
    Unconditional(&'static str),
    #[error("the directory's schema could not be migrated")]
    Migration(#[source] Cause),
    #[error("not the URL of a directory")]
    BadUrl,
}

/// What a caller can do about it; metric labels and statuses follow from this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    CallerMistake,
    TryAgain { after: Duration },
    OurFault,
}

/// A directory that is away is asked again after this long.
const AWAY_RETRY: Duration = Duration::from_secs(2);

impl DirectoryError {
    pub fn kind(&self) -> ErrorKind {
        match self {
            DirectoryError::Unreachable(_) | DirectoryError::NoAnswer(_) | DirectoryError::Undecided { .. } => {
                ErrorKind::TryAgain { after: AWAY_RETRY }
            }
            DirectoryError::TooLarge { .. } => ErrorKind::CallerMistake,
            DirectoryError::Rejected(_)
            | DirectoryError::Corrupt { .. }
            | DirectoryError::Unconditional(_)
            | DirectoryError::Migration(_)
            | DirectoryError::BadUrl => ErrorKind::OurFault,
        }
    }

    /// What to tell an operator who asked. What is meant for us alone stays inside.
    pub fn problem(&self) -> Problem {
        match self.kind() {
            ErrorKind::CallerMistake => Problem::new(ProblemType::TooLarge).detail(self.to_string()),
            ErrorKind::TryAgain { after } => Problem::new(ProblemType::TryAgain)
                .detail("the directory does not answer")
                .retry_after_s(after.as_secs()),
            ErrorKind::OurFault => Problem::new(ProblemType::Internal),
        }
    }

    pub(crate) fn corrupt(what: &'static str, cause: impl Into<Cause>) -> Self {
        DirectoryError::Corrupt { what, cause: cause.into() }
    }
}
