//! Who asks, by the headers that a router (or this cell's own public door) wrote after checking the
//! credential.

use super::AccountsError;
use axum::extract::FromRequestParts;
use cellar_model::{KeyName, PresentedSession, Problem, ProblemType, SessionId, UserId, header};
use http::HeaderMap;
use http::request::Parts;

/// `Cellar-Caller` of a request that came with a session token.
const BY_SESSION: &str = "session";

/// The credential behind a request.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The session's user, or the one a service key acts for.
    pub(crate) user: Option<UserId>,
    pub(crate) by: CallerKind,
}

#[derive(Clone, Debug)]
pub(crate) enum CallerKind {
    /// A service or operator key. Which one, and what it may do, was judged where it was checked.
    Key,
    Session(PresentedSession),
    /// No credential: log-in by e-mail and password.
    Nobody,
}

impl Caller {
    pub(crate) fn from_headers(headers: &HeaderMap) -> Result<Self, AccountsError> {
        let user =
            text(headers, header::USER)?.map(|id| UserId::new(id).map_err(|_| malformed(header::USER))).transpose()?;
        let by = match text(headers, header::CALLER)? {
            None => CallerKind::Nobody,
            Some(BY_SESSION) => CallerKind::Session(presented(headers)?),
            Some(key) => KeyName::new(key).map(|_| CallerKind::Key).map_err(|_| malformed(header::CALLER))?,
        };
        Ok(Self { user, by })
    }

    pub(crate) fn session(&self) -> Option<&PresentedSession> {
        match &self.by {
            CallerKind::Session(session) => Some(session),
            CallerKind::Key | CallerKind::Nobody => None,
        }
    }

    pub(super) fn is_key(&self) -> bool {
        matches!(self.by, CallerKind::Key)
    }
}

fn presented(headers: &HeaderMap) -> Result<PresentedSession, AccountsError> {
    let wrong = || malformed(header::SESSION);
    let (id, digits) = text(headers, header::SESSION)?.and_then(|value| value.split_once(' ')).ok_or_else(wrong)?;
    let mut hash = [0; 32];
    hex::decode_to_slice(digits, &mut hash).map_err(|_| wrong())?;
    let id = SessionId::new(id).map_err(|_| wrong())?;
    Ok(PresentedSession { id, hash })
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, AccountsError> {
    let value = headers.get(name).map(|value| value.to_str());
    value.transpose().map_err(|_| malformed(name))
}

fn malformed(name: &str) -> AccountsError {
    Problem::new(ProblemType::Malformed).detail(format!("the header {name} cannot be read")).into()
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = AccountsError;
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, AccountsError> {
        Caller::from_headers(&parts.headers)
    }
}
