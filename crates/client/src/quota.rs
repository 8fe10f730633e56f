//! Quotas: consume, reserve, settle, refund, grant, override, peek.

use crate::error::ClientError;
use crate::transport::{Client, refusal};
use cellar_model::wire::{
    AdmitBody, ConsumeAnswer, ConsumeBody, DeniedBody, GrantBody, OverrideBody, QuotaBody, RefundBody, ReserveBody,
    SettleBody, UsageBody,
};
use cellar_model::{UserId, header};
use reqwest::{Method, StatusCode};

/// One check as it is sent.
#[derive(Clone, Debug, Default)]
pub struct Consume {
    pub body: ConsumeBody,
    pub idempotency_key: Option<String>,
}

/// An answer to a check; unknown is an error.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    Allowed(ConsumeAnswer),
    Denied(Box<DeniedBody>),
}

impl Decision {
    pub fn is_allowed(&self) -> bool {
        matches!(self, Decision::Allowed(_))
    }
}

impl Client {
    /// Decides one check. A 503 comes as an error that `is_unknown`.
    pub async fn consume(&self, check: &Consume) -> Result<Decision, ClientError> {
        let key = check.idempotency_key.as_deref();
        self.decide(Method::POST, "/v1/internal/quota/consume", &check.body, key).await
    }

    /// Who is this, and may they spend this now: the session and a check, in one call. A session that is not in
    /// force comes as a 401.
    pub async fn admit(&self, body: &AdmitBody, key: Option<&str>) -> Result<Decision, ClientError> {
        self.decide(Method::POST, "/v1/internal/admit", body, key).await
    }

    pub async fn reserve(&self, body: &ReserveBody, key: Option<&str>) -> Result<Decision, ClientError> {
        self.decide(Method::POST, "/v1/internal/quota/reserve", body, key).await
    }

    /// Says what a reservation really used. Its charge is its key: to repeat is harmless.
    pub async fn settle(&self, body: &SettleBody) -> Result<Decision, ClientError> {
        self.decide(Method::POST, "/v1/internal/quota/settle", body, None).await
    }

    /// Gives a charge back. It is its own key, too.
    pub async fn refund(&self, body: &RefundBody) -> Result<Decision, ClientError> {
        self.decide(Method::POST, "/v1/internal/quota/refund", body, None).await
    }

    pub async fn grant(&self, body: &GrantBody, key: Option<&str>) -> Result<Decision, ClientError> {
        self.decide(Method::POST, "/v1/internal/quota/grant", body, key).await
    }

    /// Gives a user other settings of a slot until a date.
    pub async fn override_slot(
        &self,
        user: &UserId,
        body: &OverrideBody,
        key: Option<&str>,
    ) -> Result<Decision, ClientError> {
        let path = format!("/v1/internal/users/{}/override", user.as_str());
        self.decide(Method::PUT, &path, body, key).await
    }

    async fn decide(
        &self,
        method: Method,
        path: &str,
        body: &impl serde::Serialize,
        key: Option<&str>,
    ) -> Result<Decision, ClientError> {
        let response = self
            .send(method, path, |mut request| {
                if let Some(key) = key {
                    request = request.header(header::IDEMPOTENCY_KEY, format!("\"{key}\""));
                }
                request.json(body)
            })
            .await?;
        let (url, status) = (response.url().to_string(), response.status());
        let odd = |_| ClientError::Odd { url, status: status.as_u16() };
        match status {
            StatusCode::OK => response.json().await.map(Decision::Allowed).map_err(odd),
            StatusCode::TOO_MANY_REQUESTS => {
                response.json().await.map(|body| Decision::Denied(Box::new(body))).map_err(odd)
            }
            _ => Err(refusal(response).await),
        }
    }

    /// What a user was charged, by day: from `from` (`2023-11-14`) up to and without `to`; the last month, if
    /// neither is said.
    pub async fn usage(&self, user: &UserId, from: Option<&str>, to: Option<&str>) -> Result<UsageBody, ClientError> {
        let said = [("from", from), ("to", to)].into_iter().filter_map(|(name, day)| Some(format!("{name}={}", day?)));
        let path = format!("/v1/user/usage?{}", said.collect::<Vec<_>>().join("&"));
        self.ask(Method::GET, &path, |request| request.header(header::USER, user.as_str())).await
    }

    /// What is left of a user's quota.
    pub async fn quota(&self, user: &UserId) -> Result<QuotaBody, ClientError> {
        self.ask(Method::GET, "/v1/user/quota", |request| request.header(header::USER, user.as_str())).await
    }
}
