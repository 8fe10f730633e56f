//! Why a request about an account was not answered as asked.

use axum::response::{IntoResponse, Response};
use cellar_directory::DirectoryError;
use cellar_model::{CellName, Epoch, Problem, ProblemType, SettingProblem, header, wire};
use cellar_server::{HttpProblem, Shed};
use http::HeaderValue;

#[derive(Debug, thiserror::Error)]
pub(crate) enum AccountsError {
    /// The caller's to mend, or simply so.
    #[error("{}", .0.kind.title())]
    Problem(Problem),
    /// This cell is not the user's home, and may know which is.
    #[error("the user's home is elsewhere")]
    Misdirected(Option<(CellName, Epoch)>),
    #[error("the directory could not be asked")]
    Directory(#[from] DirectoryError),
    #[error("the cell's Postgres could not be asked")]
    Postgres(#[from] sqlx::Error),
    /// It was not asked.
    #[error("the cell's Postgres is away")]
    PostgresAway,
    /// It was asked, and was found away before it answered.
    #[error("the cell's Postgres has not answered")]
    PostgresSilent,
    #[error("the quota Redis did not take, or tell, what waits for Postgres")]
    Journal(#[source] cellar_quota::StoreError),
    #[error("another cell was needed")]
    Peer(#[from] crate::peers::PeerError),
    #[error("the quota's books could not be asked")]
    Quota(#[from] cellar_quota::QuotaError),
    /// More passwords wait to be hashed than will be in time.
    #[error("too many passwords are waiting")]
    Busy,
    #[error("a stored {0} cannot be read")]
    Corrupt(&'static str),
    /// Of a load that several waited for.
    #[error(transparent)]
    Shared(std::sync::Arc<AccountsError>),
}

impl From<Problem> for AccountsError {
    fn from(problem: Problem) -> Self {
        AccountsError::Problem(problem)
    }
}

impl From<ProblemType> for AccountsError {
    fn from(kind: ProblemType) -> Self {
        AccountsError::Problem(Problem::new(kind))
    }
}

impl AccountsError {
    /// 422 with one member to blame.
    pub(super) fn invalid(pointer: &str, message: &str) -> Self {
        let errors = vec![SettingProblem::new(pointer, message)];
        Problem::new(ProblemType::Invalid).errors(errors).into()
    }

    pub(crate) fn itself(&self) -> &AccountsError {
        match self {
            AccountsError::Shared(error) => error.itself(),
            error => error,
        }
    }

    /// Whether Postgres cannot be reached, as far as this request saw.
    pub(super) fn is_postgres_away(&self) -> bool {
        match self.itself() {
            AccountsError::PostgresAway | AccountsError::PostgresSilent => true,
            AccountsError::Postgres(error) => match error {
                sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => true,
                // It is going down, or coming up.
                sqlx::Error::Database(answer) => {
                    answer.code().is_some_and(|code| matches!(&*code, "57P01" | "57P02" | "57P03"))
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether what was asked for was certainly not done: refused, or not even sent.
    pub(super) fn has_written_nothing(&self) -> bool {
        matches!(self.itself(), AccountsError::PostgresAway | AccountsError::Problem(_) | AccountsError::Misdirected(_))
    }

    /// What the caller is told. The error's own text stays inside.
    pub(crate) fn problem(&self) -> Problem {
        // Without a time of its own it gets a jittered one.
        let again = || Problem::new(ProblemType::TryAgain);
        match self {
            AccountsError::Problem(problem) => problem.clone(),
            AccountsError::Misdirected(_) => Problem::new(ProblemType::Misdirected),
            AccountsError::Shared(error) => error.problem(),
            AccountsError::Busy
            | AccountsError::Peer(_)
            | AccountsError::Quota(_)
            | AccountsError::PostgresAway
            | AccountsError::PostgresSilent
            | AccountsError::Journal(_) => again(),
            AccountsError::Corrupt(_) => Problem::new(ProblemType::Internal),
            AccountsError::Directory(error) => match error.kind() {
                cellar_directory::ErrorKind::TryAgain { after } => again().retry_after_s(after.as_secs().max(1)),
                _ => Problem::new(ProblemType::Internal),
            },
            AccountsError::Postgres(error) => match error {
                sqlx::Error::Database(answer) if !transient(answer.code().as_deref()) => {
                    Problem::new(ProblemType::Internal)
                }
                sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => Problem::new(ProblemType::Internal),
                _ => again(),
            },
        }
    }
}

/// Whether the server's refusal is of the moment: starting, stopping, short of something, timed out.
fn transient(code: Option<&str>) -> bool {
    let class = |prefix: &str| code.is_some_and(|code| code.starts_with(prefix));
    class("08") || class("40") || class("53") || class("55") || class("57") || class("25006")
}

impl IntoResponse for AccountsError {
    fn into_response(self) -> Response {
        let problem = self.problem();
        match problem.kind {
            ProblemType::Internal => {
                tracing::error!(error = &self as &dyn std::error::Error, "account request failed");
            }
            ProblemType::TryAgain => {
                tracing::debug!(error = &self as &dyn std::error::Error, "account request put off");
            }
            _ => {}
        }
        let mut response = HttpProblem(problem).into_response();
        if let AccountsError::Misdirected(Some((home, epoch))) = self.itself()
            && let Ok(value) = HeaderValue::from_str(&wire::home_header(home, *epoch))
        {
            response.headers_mut().insert(header::HOME, value);
        }
        if matches!(self.itself(), AccountsError::Busy) {
            response.extensions_mut().insert(Shed::Passwords);
        }
        response
    }
}
