//! The cells as a router reaches them: what each of them costs stays with its own users.

mod breaker;
mod gather;
mod lane;

use crate::metrics::RouterMetrics;
use axum::body::Body;
use breaker::Breaker;
use cellar_model::{CellEntry, CellName, Check, TryAgain, Verdict};
use gather::Gather;
use http::uri::{Authority, Uri};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use prometheus_client::metrics::counter::Counter;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

/// Requests forwarded to one cell at once, until their answer's headers are there. Above it a cell is
/// too slow for what it is asked, and more requests would only wait longer.
const FORWARDS_MAX: usize = 1_024;
/// Requests that wait at once for users of one cell to arrive where they are being moved.
const FROZEN_MAX: usize = 1_024;
const IDLE_CONNECTIONS_MAX: usize = 256;
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// No answer after this long is the cell's failure. Before it, the caller was impatient.
const SLOW: Duration = Duration::from_secs(1);

/// Why a cell gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It cannot be reached: certainly nothing was sent.
    Down,
    /// It was asked, and what it did is unknown.
    Silent,
    /// Too many wait for it already: certainly nothing was sent.
    Full,
}

impl Fault {
    pub(crate) fn reason(self) -> TryAgain {
        match self {
            Fault::Down => TryAgain::CellDown,
            Fault::Silent => TryAgain::Unknown,
            Fault::Full => TryAgain::Overloaded,
        }
    }
}

/// One cell: its pools, its limits, its breaker.
pub(crate) struct Cell {
    pub(crate) entry: CellEntry,
    data: Option<Authority>,
    admin: Option<Authority>,
    gather: Option<Gather>,
    client: Client<HttpConnector, Body>,
    breaker: Arc<Breaker>,
    places: Semaphore,
    frozen: Semaphore,
    failures: Counter,
}

impl Cell {
    pub(crate) fn new(entry: &CellEntry, metrics: &RouterMetrics) -> Arc<Self> {
        let breaker = Arc::new(Breaker::new());
        let data = authority(entry, 0);
        let gather = data.clone().map(|data| Gather::start(data, breaker.clone(), metrics.gathered.clone()));
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_MAX));
        Arc::new(Self {
            data,
            admin: authority(entry, 1),
            gather,
            client: Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
                .build(connector),
            breaker,
            places: Semaphore::new(FORWARDS_MAX),
            frozen: Semaphore::new(FROZEN_MAX),
            failures: metrics.failures_of(&entry.name),
            entry: entry.clone(),
        })
    }

    pub(crate) fn name(&self) -> &CellName {
        &self.entry.name
    }

    /// Has checks decided: of each its verdict, in order, or why there is none.
    pub(crate) async fn decide(&self, checks: &[&Check], until: Instant) -> Vec<Result<Verdict, Fault>> {
        let Some(gather) = self.gather.as_ref().filter(|_| self.breaker.allows()) else {
            return vec![Err(Fault::Down); checks.len()];
        };
        let said = gather.ask(checks, until).await;
        if said.iter().any(Result::is_err) {
            self.failures.inc();
        }
        said
    }

    /// Checks that wait for a lane.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.gather.as_ref().map_or(0, Gather::waiting)
    }

    /// Sends a request to the cell's data listener; its URI is a path.
    pub(crate) async fn forward(&self, request: Request<Body>, until: Instant) -> Result<Response<Incoming>, Fault> {
        if !self.breaker.allows() {
            return Err(Fault::Down);
        }
        let _place = self.places.try_acquire().map_err(|_| Fault::Full)?;
        let began = Instant::now();
        let answer = self.send(self.data.as_ref(), request, until).await;
        match answer {
            Ok(_) => self.breaker.answered(),
            Err(fault) => {
                self.failures.inc();
                if fault == Fault::Down || began.elapsed() >= SLOW {
                    self.breaker.failed();
                }
            }
        }
        answer
    }

    /// Sends a request to the cell's admin listener. Operators are few and want to see what is: no
    /// breaker here.
    pub(crate) async fn ask_admin(&self, request: Request<Body>, until: Instant) -> Result<Response<Incoming>, Fault> {
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

    /// A place among those who wait for a user under way; none when too many do.
    pub(crate) fn wait_frozen(&self) -> Option<SemaphorePermit<'_>> {
        self.frozen.try_acquire().ok()
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
