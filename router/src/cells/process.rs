//! One process of a cell: its pools, its limits, its breaker.

use super::breaker::Breaker;
use super::gather::Gather;
use super::health::{Health, Looking};
use super::{CONNECT_MAX, FORWARDS_MAX, Fault, IDLE_CONNECTIONS_MAX, SLOW, Said};
use crate::metrics::RouterMetrics;
use axum::body::Body;
use cellar_model::{CellEntry, Check};
use http::uri::{Authority, Uri};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

pub(super) struct Process {
    /// Of its data listener, as the topology has it.
    pub(super) endpoint: String,
    data: Option<Authority>,
    admin: Option<Authority>,
    gather: Option<Gather>,
    /// Of checks with a session: their cell may have to read it first, and nobody else waits for that.
    admits: Option<Gather>,
    client: Client<HttpConnector, Body>,
    breaker: Arc<Breaker>,
    looking: Looking,
    places: Semaphore,
}

impl Process {
    /// The `n`th of the cell: each has its data and its admin endpoint in turn.
    pub(super) fn new(entry: &CellEntry, n: usize, metrics: &RouterMetrics) -> Self {
        let breaker = Arc::new(Breaker::new());
        let data = authority(entry, 2 * n);
        let gather = || data.clone().map(|data| Gather::start(data, breaker.clone(), metrics.gathered.clone()));
        let (gather, admits) = (gather(), gather());
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_MAX));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(connector);
        let admin = authority(entry, 2 * n + 1);
        Self {
            endpoint: entry.endpoints.get(2 * n).cloned().unwrap_or_default(),
            data,
            looking: Looking::at(admin.clone(), client.clone(), breaker.clone()),
            admin,
            gather,
            admits,
            client,
            breaker,
            places: Semaphore::new(FORWARDS_MAX),
        }
    }

    /// What it says of itself.
    pub(super) fn health(&self) -> Health {
        self.looking.health()
    }

    /// Why it cannot be asked, or cannot serve, if that is so.
    pub(super) fn why_away(&self) -> Option<String> {
        let fails = || self.breaker.is_open().then(|| "does not answer requests".to_owned());
        self.health().why_not().or_else(fails)
    }

    /// Has checks decided: of each its verdict, in order, or why there is none.
    pub(super) async fn decide(&self, checks: &[&Check], until: Instant) -> Vec<Said> {
        let session = checks.iter().any(|check| check.session.is_some());
        let gather = if session { &self.admits } else { &self.gather };
        let Some(gather) = gather.as_ref().filter(|_| self.breaker.allows()) else {
            return vec![Err(Fault::Down); checks.len()];
        };
        gather.ask(checks, until).await
    }

    /// Checks that wait for a lane.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.gather.as_ref().map_or(0, Gather::waiting)
    }

    /// Sends a request to the data listener; its URI is a path.
    pub(super) async fn forward(&self, request: Request<Body>, until: Instant) -> Result<Response<Incoming>, Fault> {
        if !self.breaker.allows() {
            return Err(Fault::Down);
        }
        let _place = self.places.try_acquire().map_err(|_| Fault::Full)?;
        let began = Instant::now();
        let answer = self.send(self.data.as_ref(), request, until).await;
        match answer {
            Ok(_) => self.breaker.answered(),
            Err(fault) if fault == Fault::Down || began.elapsed() >= SLOW => self.breaker.failed(),
            Err(_) => {}
        }
        answer
    }

    /// Sends a request to the admin listener. Operators are few and want to see what is: no breaker here.
    pub(super) async fn ask_admin(&self, request: Request<Body>, until: Instant) -> Result<Response<Incoming>, Fault> {
        self.send(self.admin.as_ref(), request, until).await
    }

    async fn send(
        &self,
        to: Option<&Authority>,
        mut request: Request<Body>,
        until: Instant,
    ) -> Result<Response<Incoming>, Fault> {
        let to = to.ok_or(Fault::Down)?;
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let uri = Uri::builder().scheme("http").authority(to.clone()).path_and_query(path).build();
        *request.uri_mut() = uri.map_err(|_| Fault::Down)?;
        match timeout_at(until, self.client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if error.is_connect() => Err(Fault::Down),
            Ok(Err(_)) | Err(_) => Err(Fault::Silent),
        }
    }
}

/// Where the entry's endpoint `n` is. What is no `http://host:port` cannot be reached.
fn authority(entry: &CellEntry, n: usize) -> Option<Authority> {
    let endpoint = entry.endpoints.get(n)?;
    let uri: Option<Uri> = endpoint.parse().ok();
    let authority = uri.filter(|uri| uri.scheme_str() == Some("http")).and_then(|uri| uri.authority().cloned());
    if authority.is_none() {
        tracing::error!(cell = %entry.name, endpoint, "an endpoint is not http://host:port");
    }
    authority.filter(|authority| authority.port().is_some())
}
