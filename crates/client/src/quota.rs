//! Quotas: consume, peek.

use crate::error::ClientError;
use crate::transport::{Client, refusal};
use cellar_model::wire::{ConsumeAnswer, ConsumeBody, DeniedBody, QuotaBody};
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
        let response = self
            .send(Method::POST, "/v1/internal/quota/consume", |mut request| {
                if let Some(key) = &check.idempotency_key {
                    request = request.header(header::IDEMPOTENCY_KEY, format!("\"{key}\""));
                }
                request.json(&check.body)
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

    /// What is left of a user's quota.
    pub async fn quota(&self, user: &UserId) -> Result<QuotaBody, ClientError> {
        self.ask(Method::GET, "/v1/user/quota", |request| request.header(header::USER, user.as_str())).await
    }
}
