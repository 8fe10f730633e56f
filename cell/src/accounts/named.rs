//! Whom a path of a service key's names.

use super::caller::Caller;
use super::{Accounts, AccountsError, claims};
use axum::extract::{FromRequestParts, Path};
use cellar_directory::Email;
use cellar_model::{Problem, ProblemType, UserId};
use http::request::Parts;

/// A user by id, or by an e-mail, which a router has looked up: it has to be the user's own all the same, for a
/// claim may outlive the address.
pub(super) struct Named {
    user: UserId,
    email: Option<Email>,
}

impl Accounts {
    /// The user, who may be erased or at home elsewhere if named by id.
    pub(super) async fn named(&self, named: Named) -> Result<UserId, AccountsError> {
        let Some(email) = &named.email else { return Ok(named.user) };
        let held = self.details(&named.user).await?.email;
        let held = held.as_deref().map(claims::stored).transpose()?;
        if held.is_some_and(|held| held.is_same_as(email)) {
            Ok(named.user)
        } else {
            Err(ProblemType::UnknownUser.into())
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = AccountsError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, AccountsError> {
        let caller = Caller::from_headers(&parts.headers)?;
        if !caller.is_key() {
            return Err(ProblemType::Forbidden.into());
        }
        let Path(id) = Path::<String>::from_request_parts(parts, state).await.map_err(|_| ProblemType::Malformed)?;
        // Written by whoever looked the e-mail up; of an id it says the same again.
        let user = caller.user.ok_or(ProblemType::UnknownUser)?;
        if id.contains('@') {
            let email = Email::parse(&id).map_err(|_| ProblemType::UnknownUser)?;
            return Ok(Self { user, email: Some(email) });
        }
        if id != user.as_str() {
            let detail = "the path and the header Cellar-User name two users";
            return Err(Problem::new(ProblemType::Invalid).detail(detail).into());
        }
        Ok(Self { user, email: None })
    }
}
