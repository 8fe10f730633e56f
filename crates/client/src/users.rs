//! Users: sign-up, profile, preferences.

use crate::admin::Admin;
use crate::error::ClientError;
use crate::transport::Client;
use cellar_model::wire::{BringUsers, Brought, BroughtUser, BroughtUsers, Profile, SignUpBody, SignedUp};
use cellar_model::{CellName, UserId, header};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::time::Duration;

/// Above what a router waits for a cell.
const BRING_TIMEOUT: Duration = Duration::from_secs(60);

/// A page of an export.
#[derive(Deserialize)]
pub struct UsersPage {
    pub users: Vec<BroughtUser>,
    /// Blocked, or without an e-mail.
    pub left_out: u64,
    pub next: Option<UserId>,
}

impl Admin {
    /// A page of whom a cell has, as an import takes them; `cell` as in [`Admin::audit`].
    pub async fn users_page(
        &self,
        cell: Option<&CellName>,
        after: Option<&UserId>,
        password_hashes: bool,
    ) -> Result<UsersPage, ClientError> {
        let after = after.map_or_else(String::new, |after| format!("&after={}", after.as_str()));
        let base = cell.map_or_else(|| "/admin/v1".to_owned(), |cell| format!("/admin/v1/cells/{cell}"));
        let path = format!("{base}/users?password_hashes={password_hashes}{after}");
        self.0.ask(Method::GET, &path, |request| request.timeout(BRING_TIMEOUT)).await
    }

    /// Brings users from elsewhere, at most `BROUGHT_MAX`. To repeat it changes nothing.
    pub async fn bring(&self, users: &BringUsers) -> Result<Vec<Brought>, ClientError> {
        let brought: BroughtUsers = self
            .0
            .ask(Method::POST, "/admin/v1/users/import", |request| request.json(users).timeout(BRING_TIMEOUT))
            .await?;
        Ok(brought.results)
    }
}

impl Client {
    /// Signs up a user. With a key, a repeat gets the same user.
    pub async fn sign_up(&self, body: &SignUpBody, idempotency_key: Option<&str>) -> Result<SignedUp, ClientError> {
        self.ask(Method::POST, "/v1/users", |mut request| {
            if let Some(key) = idempotency_key {
                request = request.header(header::IDEMPOTENCY_KEY, format!("\"{key}\""));
            }
            request.json(body)
        })
        .await
    }

    pub async fn profile(&self, user: &UserId) -> Result<Profile, ClientError> {
        self.ask(Method::GET, "/v1/user/profile", |request| request.header(header::USER, user.as_str())).await
    }

    /// Changes name or e-mail: a JSON merge patch.
    pub async fn patch_profile(
        &self,
        user: &UserId,
        patch: &Value,
        idempotency_key: Option<&str>,
    ) -> Result<Profile, ClientError> {
        self.ask(Method::PATCH, "/v1/user/profile", |mut request| {
            if let Some(key) = idempotency_key {
                request = request.header(header::IDEMPOTENCY_KEY, format!("\"{key}\""));
            }
            request.header(header::USER, user.as_str()).json(patch)
        })
        .await
    }

    pub async fn preferences(&self, user: &UserId) -> Result<Map<String, Value>, ClientError> {
        self.ask(Method::GET, "/v1/user/preferences", |request| request.header(header::USER, user.as_str())).await
    }

    /// Applies a JSON merge patch.
    pub async fn patch_preferences(
        &self,
        user: &UserId,
        patch: &Map<String, Value>,
    ) -> Result<Map<String, Value>, ClientError> {
        self.ask(Method::POST, "/v1/user/preferences", |request| {
            request.header(header::USER, user.as_str()).json(patch)
        })
        .await
    }
}
