//! One keyed check over HTTP, as a caller without a library sees it: the body as it came, byte for byte.

use crate::support::T0;
use cellar_model::UserId;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Above the service's own deadline of half a second, so that its answer is heard.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is asked, the same each time it is sent again.
#[derive(Clone, Debug)]
pub(super) struct Keyed {
    pub(super) user: UserId,
    pub(super) tokens: u64,
    pub(super) key: String,
    at_us: u64,
}

impl Keyed {
    /// At a later time than any before it.
    pub(super) fn new(user: &UserId, tokens: u64, key: String) -> Self {
        static ASKED: AtomicU64 = AtomicU64::new(0);
        let at_us = T0 + 100 * ASKED.fetch_add(1, Ordering::Relaxed);
        Self { user: user.clone(), tokens, key, at_us }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Said {
    Admitted(Vec<u8>),
    Denied,
    /// A 503 with its reason, or no answer at all.
    Unknown(String),
}

#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) said: Said,
    /// `Cellar-Degraded`.
    pub(super) degraded: Option<String>,
}

impl Answer {
    /// Whether it is one: yes or no.
    pub(super) fn is_good(&self) -> bool {
        !matches!(self.said, Said::Unknown(_))
    }

    fn unknown(why: impl Into<String>) -> Self {
        Self { said: Said::Unknown(why.into()), degraded: None }
    }
}

#[derive(Clone)]
pub(super) struct Caller {
    http: reqwest::Client,
    urls: Vec<String>,
    service_key: String,
}

impl Caller {
    /// Asks the first of `urls` that takes the connection.
    pub(super) fn new(urls: &[String], service_key: &str) -> Self {
        let http = reqwest::Client::builder().timeout(PATIENCE).tcp_nodelay(true).no_proxy().build().unwrap();
        Self { http, urls: urls.to_vec(), service_key: service_key.to_owned() }
    }

    /// Sends `check` once.
    ///
    /// Every answer that is neither yes, nor no, nor 503 is wrong, whatever has failed.
    pub(super) async fn ask(&self, check: &Keyed) -> Answer {
        let body = serde_json::json!({
            "user_id": check.user, "cost": {"requests": 0, "tokens": check.tokens}, "at_us": check.at_us,
        });
        for url in &self.urls {
            let request = self.http.post(format!("{url}/v1/internal/quota/consume")).bearer_auth(&self.service_key);
            let request = request.header("idempotency-key", format!("\"{}\"", check.key)).body(body.to_string());
            match request.send().await {
                Ok(response) => return heard(response).await,
                Err(error) if error.is_connect() => {}
                Err(error) if error.is_timeout() => return Answer::unknown("no answer in a second"),
                Err(_) => return Answer::unknown("broken connection"),
            }
        }
        Answer::unknown("refused connection")
    }
}

async fn heard(response: reqwest::Response) -> Answer {
    let status = response.status().as_u16();
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let (degraded, retry_after) = (header("cellar-degraded"), header("retry-after"));
    let Ok(body) = response.bytes().await else { return Answer::unknown("broken connection") };
    let said = match status {
        200 => Said::Admitted(body.to_vec()),
        429 => Said::Denied,
        503 => {
            assert!(retry_after.is_some(), "a 503 without Retry-After");
            let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
            Said::Unknown(format!("503 {}", problem["detail"].as_str().unwrap_or("without a reason")))
        }
        other => panic!("{other}: {}", String::from_utf8_lossy(&body)),
    };
    Answer { said, degraded }
}
