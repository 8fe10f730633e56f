//! Which log lines one process writes.

use crate::admin::Admin;
use crate::error::ClientError;
use crate::transport::{bytes, refusal};
use reqwest::Method;

/// The longest filter that a process has.
const FILTER_BYTES_MAX: usize = 4_096;

impl Admin {
    /// The filter of the process that is asked.
    pub async fn log_level(&self) -> Result<String, ClientError> {
        let response = self.0.send(Method::GET, "/log-level", |request| request).await?;
        let text = bytes(response, FILTER_BYTES_MAX).await?;
        Ok(String::from_utf8_lossy(&text).trim().to_owned())
    }

    /// Has it write other lines, until it ends.
    pub async fn set_log_level(&self, filter: &str) -> Result<(), ClientError> {
        let response = self.0.send(Method::PUT, "/log-level", |request| request.body(filter.to_owned())).await?;
        if response.status().is_success() { Ok(()) } else { Err(refusal(response).await) }
    }
}
