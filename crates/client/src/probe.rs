//! Looking at a process from outside: an answer within a moment, or none.

use crate::error::ClientError;
use crate::transport::bytes;
use serde::de::DeserializeOwned;
use std::time::Duration;

const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Of one process a million series would be a defect, and this is a hundred thousand.
const TEXT_BYTES_MAX: usize = 32 << 20;

/// Asks without a credential, and gives up soon. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct Probe {
    http: reqwest::Client,
}

impl Probe {
    /// Waits for no answer longer than `answer_max`.
    pub fn new(answer_max: Duration) -> Result<Self, ClientError> {
        let http = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT.min(answer_max))
            .timeout(answer_max)
            .no_proxy()
            .build()
            .map_err(|cause| ClientError::NoAnswer { url: String::new(), cause })?;
        Ok(Self { http })
    }

    /// The text at `url`, of a 200.
    pub async fn text(&self, url: &str) -> Result<String, ClientError> {
        let sent = self.http.get(url).send().await;
        let response = sent.map_err(|cause| ClientError::NoAnswer { url: url.to_owned(), cause })?;
        let status = response.status();
        if !status.is_success() {
            return Err(ClientError::Odd { url: url.to_owned(), status: status.as_u16() });
        }
        Ok(String::from_utf8_lossy(&bytes(response, TEXT_BYTES_MAX).await?).into_owned())
    }

    /// The document at `url`.
    pub async fn json<T: DeserializeOwned>(&self, url: &str) -> Result<T, ClientError> {
        let text = self.text(url).await?;
        serde_json::from_str(&text).map_err(|_| ClientError::Odd { url: url.to_owned(), status: 200 })
    }

    /// What a Prometheus answers to `query` now: each series' labels and value.
    pub async fn query(&self, prometheus: &str, query: &str) -> Result<Vec<Instant>, ClientError> {
        let query = percent_encoding::utf8_percent_encode(query, percent_encoding::NON_ALPHANUMERIC);
        let url = format!("{}/api/v1/query?query={query}", prometheus.trim_end_matches('/'));
        let answer: QueryAnswer = self.json(&url).await?;
        Ok(answer.data.result)
    }
}

/// A series of an instant query.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Instant {
    pub metric: std::collections::BTreeMap<String, String>,
    value: (f64, String),
}

impl Instant {
    /// NaN, if it is no number.
    pub fn number(&self) -> f64 {
        self.value.1.parse().unwrap_or(f64::NAN)
    }
}

#[derive(serde::Deserialize)]
struct QueryAnswer {
    data: QueryData,
}

#[derive(serde::Deserialize)]
struct QueryData {
    result: Vec<Instant>,
}
