//! The topology, as operators read and write it.

use crate::admin::Admin;
use crate::error::ClientError;
use crate::transport::refusal;
use cellar_model::{Topology, TopologyCount};
use reqwest::Method;
use std::time::Duration;

/// A count looks at every user's home: a hundred million take some ten minutes.
const COUNT_TIMEOUT: Duration = Duration::from_secs(3_600);
/// The longest line of a count: a thousand cells that each lose users to many others.
const LINE_BYTES_MAX: usize = 8 * 1024 * 1024;

impl Admin {
    pub async fn topology(&self) -> Result<Topology, ClientError> {
        self.0.ask(Method::GET, "/admin/v1/topology", |request| request).await
    }

    /// Whether `new` may be put in force.
    pub async fn judge_topology(&self, new: &Topology) -> Result<(), ClientError> {
        let path = "/admin/v1/topology?dry_run=true";
        self.0.tell(Method::PUT, path, |request| request.json(new).timeout(COUNT_TIMEOUT)).await
    }

    pub async fn put_topology(&self, new: &Topology) -> Result<(), ClientError> {
        self.0.tell(Method::PUT, "/admin/v1/topology", |request| request.json(new).timeout(COUNT_TIMEOUT)).await
    }

    /// Counts whom `new` would move. `progress` sees each line on the way.
    pub async fn count_topology(
        &self,
        new: &Topology,
        mut progress: impl FnMut(&TopologyCount),
    ) -> Result<TopologyCount, ClientError> {
        let path = "/admin/v1/topology/count";
        let with = |request: reqwest::RequestBuilder| request.json(new).timeout(COUNT_TIMEOUT);
        let mut response = self.0.send(Method::POST, path, with).await?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        let (url, status) = (response.url().to_string(), response.status().as_u16());
        let odd = || ClientError::Odd { url: url.clone(), status };
        let mut rest = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|_| odd())? {
            rest.extend_from_slice(&chunk);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                let count: TopologyCount = serde_json::from_slice(&line).map_err(|_| odd())?;
                progress(&count);
                if count.whole {
                    return Ok(count);
                }
            }
            if rest.len() > LINE_BYTES_MAX {
                return Err(odd());
            }
        }
        Err(odd())
    }
}
