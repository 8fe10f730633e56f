//! One whole account, by user id or e-mail: for who looks after it.

use crate::error::ClientError;
use crate::transport::{Client, refusal};
use cellar_model::TierName;
use cellar_model::wire::{PasswordBody, TierBody, UserDetails};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use std::io::Write;

impl Client {
    /// The account, also one that is blocked.
    pub async fn account(&self, user: &str) -> Result<UserDetails, ClientError> {
        self.ask(Method::GET, &path(user, ""), |request| request).await
    }

    /// Checks are decided by `tier` once this has returned.
    pub async fn set_tier(&self, user: &str, tier: TierName) -> Result<UserDetails, ClientError> {
        let body = TierBody { tier };
        self.ask(Method::PUT, &path(user, "/tier"), |request| request.json(&body)).await
    }

    /// No session, no log-in, no spending from now on; or again.
    pub async fn set_blocked(&self, user: &str, blocked: bool) -> Result<(), ClientError> {
        let method = if blocked { Method::PUT } else { Method::DELETE };
        self.tell(method, &path(user, "/block"), |request| request).await
    }

    /// Another password, and logged out everywhere.
    pub async fn set_password(&self, user: &str, password: String) -> Result<(), ClientError> {
        let body = PasswordBody { password, current_password: None };
        self.tell(Method::PUT, &path(user, "/password"), |request| request.json(&body)).await
    }

    /// The person leaves every store. After an unknown answer, repeat.
    pub async fn erase(&self, user: &str) -> Result<(), ClientError> {
        self.tell(Method::DELETE, &path(user, ""), |request| request).await
    }

    /// Writes everything about the person into `out`, as it comes: one JSON object. Returns its bytes.
    ///
    /// # Errors
    /// When it breaks off or cannot be written: what was written is not the whole.
    pub async fn export(&self, user: &str, out: &mut impl Write) -> Result<u64, ClientError> {
        let mut response = self.send(Method::GET, &path(user, "/export"), |request| request).await?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        let url = response.url().to_string();
        let mut bytes = 0;
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    out.write_all(&chunk).map_err(ClientError::Write)?;
                    bytes += chunk.len() as u64;
                }
                Ok(None) => return Ok(bytes),
                Err(cause) => return Err(ClientError::NoAnswer { url, cause }),
            }
        }
    }
}

/// An e-mail may have characters that mean something in a path.
fn path(user: &str, rest: &str) -> String {
    format!("/v1/internal/users/{}{rest}", utf8_percent_encode(user, NON_ALPHANUMERIC))
}
