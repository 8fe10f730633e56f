//! Sessions: log-in, the list, the end of one or all.

use crate::error::ClientError;
use crate::transport::Client;
use cellar_model::wire::{LogInBody, LoggedIn, SessionList};
use reqwest::Method;

impl Client {
    pub async fn log_in(&self, body: &LogInBody) -> Result<LoggedIn, ClientError> {
        self.ask(Method::POST, "/v1/sessions", |request| request.json(body)).await
    }

    /// Of the user whose session token is the credential.
    pub async fn sessions(&self) -> Result<SessionList, ClientError> {
        self.ask(Method::GET, "/v1/sessions", |request| request).await
    }

    pub async fn revoke_session(&self, id: &str) -> Result<(), ClientError> {
        self.tell(Method::DELETE, &format!("/v1/sessions/{id}"), |request| request).await
    }

    /// Logs out everywhere; `keep_current`: everywhere else.
    pub async fn revoke_all_sessions(&self, keep_current: bool) -> Result<(), ClientError> {
        let path = if keep_current { "/v1/sessions?keep=current" } else { "/v1/sessions" };
        self.tell(Method::DELETE, path, |request| request).await
    }
}
