//! The topology as this cell follows it, and the other cells as it reaches them.
//!
//! Cells call each other for two things only: to say where a user lives whom the ring places elsewhere, and to ask
//! what became of a sign-up that stands in the way of another.

use crate::catalog::{POLL, say_once};
use bytes::Bytes;
use cellar_directory::{Documents, OpenDirectory};
use cellar_model::{CellEntry, CellName, Rings, Topology, TopologyError};
use cellar_server::TopologyKeeper;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Serialize;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

/// For an answer of another cell: half of what a sign-up has in all.
const CALL_MAX: Duration = Duration::from_secs(1);
const CONNECT_MAX: Duration = Duration::from_millis(500);
/// Calls to one cell at once. Above it that cell is too slow, and more calls would only wait longer.
const CALLS_MAX: usize = 64;
const IDLE_CONNECTIONS_MAX: usize = 16;
/// Answers are a few words, or a problem document.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Why another cell gave no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    #[error("no topology has come yet")]
    NoTopology,
    #[error("the topology has no cell {0}")]
    NoCell(CellName),
    #[error("cell {0} cannot be reached")]
    Down(CellName),
    #[error("too many calls to cell {0} are under way")]
    Full(CellName),
    #[error("cell {0} did not answer in full")]
    Silent(CellName),
    #[error("cell {cell} answered {status}")]
    Odd { cell: CellName, status: StatusCode },
}

/// How long one request waits for other cells in all: as long as for one call.
pub(crate) struct Patience(Duration);

impl Patience {
    pub(crate) fn new() -> Self {
        Self(CALL_MAX)
    }

    /// Waits for `calls`, which may take as long as is left.
    pub(crate) async fn spend<T, F: Future<Output = T>>(&mut self, calls: impl FnOnce(Duration) -> F) -> T {
        let began = Instant::now();
        let answer = calls(self.0).await;
        self.0 = self.0.saturating_sub(began.elapsed());
        answer
    }
}

/// Clones are the same.
#[derive(Clone)]
pub(crate) struct Peers(Arc<Inner>);

struct Inner {
    known: RwLock<Option<Arc<Known>>>,
    client: Client<HttpConnector, Full<Bytes>>,
}

/// One topology, made ready.
pub(crate) struct Known {
    pub(crate) topology: Topology,
    pub(crate) rings: Rings,
    cells: HashMap<CellName, Arc<Peer>>,
}

struct Peer {
    /// Of the data listeners of its processes.
    endpoints: Vec<String>,
    places: Semaphore,
}

impl Peer {
    fn new(entry: &CellEntry) -> Arc<Self> {
        // Each process has its data and its admin endpoint in turn.
        let endpoints = entry.endpoints.iter().step_by(2).cloned().collect();
        Arc::new(Self { endpoints, places: Semaphore::new(CALLS_MAX) })
    }
}

impl Peers {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_MAX));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .build(connector);
        Self(Arc::new(Inner { known: RwLock::default(), client }))
    }

    pub(crate) fn known(&self) -> Result<Arc<Known>, PeerError> {
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner).clone();
        known.ok_or(PeerError::NoTopology)
    }

    /// Goes on with `topology`, if the one held allows it.
    pub(crate) fn adopt(&self, topology: Topology) -> Result<(), TopologyError> {
        let held = self.known().ok();
        if let Some(held) = &held {
            held.topology.may_become(&topology)?;
            if held.topology == topology {
                return Ok(());
            }
        }
        let peer = |entry: &CellEntry| {
            let held = held.as_ref().and_then(|held| held.cells.get(&entry.name));
            let fresh = Peer::new(entry);
            held.filter(|held| held.endpoints == fresh.endpoints).cloned().unwrap_or(fresh)
        };
        let cells = topology.cells().map(|(_, entry)| (entry.name.clone(), peer(entry))).collect();
        let known = Known { rings: Rings::new(&topology)?, cells, topology };
        tracing::info!(revision = %known.topology.revision, "topology in force");
        *self.0.known.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(known));
        Ok(())
    }

    /// Follows the directory, and keeps the last good topology in `folder`. Returns once it has been looked for.
    pub(crate) async fn follow(&self, directory: OpenDirectory, folder: &Path) {
        let keeper = TopologyKeeper::in_folder(folder);
        if let Err(error) = keeper.read(|topology| self.adopt(topology)) {
            tracing::warn!(%error, "the topology on disk is left aside; the directory is asked");
        }
        let (mut unread, mut unwritten) = (false, false);
        say_once(&mut unread, self.poll(&directory, &keeper).await, UNREAD);
        let peers = self.clone();
        tokio::spawn(async move {
            loop {
                if let Ok(known) = peers.known() {
                    let saved = keeper.save(&known.topology).await.map_err(anyhow::Error::from);
                    say_once(&mut unwritten, saved, "the topology is not on disk; trying again");
                }
                tokio::time::sleep(POLL).await;
                say_once(&mut unread, peers.poll(&directory, &keeper).await, UNREAD);
            }
        });
    }

    async fn poll(&self, directory: &OpenDirectory, keeper: &TopologyKeeper) -> anyhow::Result<()> {
        // A public cell's directory may have none.
        if let Some(topology) = directory.read_topology().await? {
            keeper.take(topology, |topology| self.adopt(topology));
        }
        Ok(())
    }

    /// Asks a cell, any process of it; status and body.
    pub(crate) async fn call(
        &self,
        cell: &CellName,
        method: Method,
        path: &str,
        body: &impl Serialize,
        within: Duration,
    ) -> Result<(StatusCode, Bytes), PeerError> {
        let known = self.known()?;
        let peer = known.cells.get(cell).ok_or_else(|| PeerError::NoCell(cell.clone()))?;
        let _place = peer.places.try_acquire().map_err(|_| PeerError::Full(cell.clone()))?;
        // Plain data with string keys: nothing in it can fail to serialize.
        let body = Bytes::from(serde_json::to_vec(body).unwrap_or_default());
        let answer = timeout(within, async {
            for endpoint in &peer.endpoints {
                let request = Request::builder()
                    .method(method.clone())
                    .uri(format!("{endpoint}{path}"))
                    .header(header::CONTENT_TYPE, "application/json")
                    .body(Full::new(body.clone()))
                    .map_err(|_| PeerError::Down(cell.clone()))?;
                match self.0.client.request(request).await {
                    Ok(response) => {
                        let status = response.status();
                        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
                        let body = body.map_err(|_| PeerError::Silent(cell.clone()))?;
                        return Ok((status, body.to_bytes()));
                    }
                    // Nothing was sent there: another process may be.
                    Err(error) if error.is_connect() => {}
                    Err(_) => return Err(PeerError::Silent(cell.clone())),
                }
            }
            Err(PeerError::Down(cell.clone()))
        });
        answer.await.unwrap_or_else(|_| Err(PeerError::Silent(cell.clone())))
    }
}

const UNREAD: &str = "the topology cannot be read; keeping the last one";
