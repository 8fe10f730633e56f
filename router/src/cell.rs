//! A cell as a router knows it: where it is, how it is doing, and the connections to it.

use crate::breaker::Breaker;
use crate::gather::Gatherer;
use crate::metrics::CallMetrics;
use axum::body::Body;
use cellar_model::{CellEntry, CellName, CellState};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Forwarded requests a cell may have under way from one router.
const FORWARDS_MAX: usize = 512;
/// Requests that wait for users of one cell who are being moved.
const FROZEN_WAITS_MAX: usize = 256;
/// Idle connections kept to a cell: what a burst leaves behind.
const IDLE_MAX: usize = 64;
const IDLE_FOR: Duration = Duration::from_secs(30);
const CONNECT_MAX: Duration = Duration::from_millis(500);

pub(crate) type HttpClient = Client<HttpConnector, Body>;

pub(crate) struct Cell {
    pub(crate) name: CellName,
    pub(crate) state: CellState,
    endpoints: Vec<String>,
    pub(crate) gatherer: Arc<Gatherer>,
    pub(crate) breaker: Arc<Breaker>,
    /// For everything but checks.
    pub(crate) http: HttpClient,
    pub(crate) forwards: Arc<Semaphore>,
    pub(crate) frozen_waits: Arc<Semaphore>,
}

impl Cell {
    pub(crate) fn new(entry: &CellEntry, metrics: &CallMetrics) -> Self {
        let breaker = Arc::new(Breaker::default());
        let address = entry.endpoints.first().map_or("", |url| authority(url));
        metrics.know(&entry.name);
        Self {
            name: entry.name.clone(),
            state: entry.state,
            endpoints: entry.endpoints.clone(),
            gatherer: Arc::new(Gatherer::start(&entry.name, address, breaker.clone(), metrics.clone())),
            breaker,
            http: http_client(),
            forwards: Arc::new(Semaphore::new(FORWARDS_MAX)),
            frozen_waits: Arc::new(Semaphore::new(FROZEN_WAITS_MAX)),
        }
    }

    /// The same cell in a newer topology. Its connections stay unless it lives elsewhere now.
    pub(crate) fn renew(&self, entry: &CellEntry, metrics: &CallMetrics) -> Self {
        if self.endpoints != entry.endpoints {
            return Self::new(entry, metrics);
        }
        Self {
            name: self.name.clone(),
            state: entry.state,
            endpoints: self.endpoints.clone(),
            gatherer: self.gatherer.clone(),
            breaker: self.breaker.clone(),
            http: self.http.clone(),
            forwards: self.forwards.clone(),
            frozen_waits: self.frozen_waits.clone(),
        }
    }

    /// Where users' requests go.
    pub(crate) fn address(&self) -> &str {
        self.endpoints.first().map_or("", |url| authority(url))
    }

    /// Where operators' requests go, if the topology says.
    pub(crate) fn admin_address(&self) -> Option<&str> {
        self.endpoints.get(1).map(|url| authority(url))
    }
}

fn http_client() -> HttpClient {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_MAX));
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_FOR)
        .pool_max_idle_per_host(IDLE_MAX)
        .build(connector)
}

/// `host:port` of `http://host:port`.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_what_stands_between_scheme_and_path() {
        assert_eq!(authority("http://127.0.0.1:8100"), "127.0.0.1:8100");
        assert_eq!(authority("http://cell.example:8100/"), "cell.example:8100");
    }
}
