//! Topology and catalog as this router follows them: read whole every two seconds, changed or not.
//!
//! The last good ones are on disk, so that a router starts without the directory.

use crate::disk;
use crate::route::Routing;
use anyhow::Context;
use cellar_directory::catalog::{self, Catalog};
use cellar_directory::{Documents, PostgresDirectory};
use cellar_model::{Revision, Topology};
use cellar_server::Keys;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) const POLL: Duration = Duration::from_secs(2);
/// How often what was learned about users is written down.
const SAVE: Duration = Duration::from_secs(10);
/// How often the directory's age is told to the metrics.
const TELL: Duration = Duration::from_secs(1);

pub(crate) struct Follower {
    directory: PostgresDirectory,
    routing: Arc<Routing>,
    keys: Keys,
    folder: PathBuf,
    held: Mutex<Held>,
}

struct Held {
    catalog: Option<Catalog>,
    /// When both were last read.
    read_at: Instant,
    /// The last topology that was not taken, so that it is said once.
    refused: Option<Revision>,
    failing: bool,
}

impl Follower {
    pub(crate) fn new(directory: PostgresDirectory, routing: Arc<Routing>, keys: Keys, folder: PathBuf) -> Arc<Self> {
        let held = Held { catalog: None, read_at: Instant::now(), refused: None, failing: false };
        Arc::new(Self { directory, routing, keys, folder, held: Mutex::new(held) })
    }

    /// From disk, then from the directory: what is on disk binds what may follow it. With neither the
    /// router serves nobody yet, and says so.
    pub(crate) async fn start(self: &Arc<Self>, stop: CancellationToken) {
        if let Err(error) = self.read_disk() {
            tracing::warn!(error = format!("{error:#}"), "what is on disk is left aside");
        }
        self.poll().await;
        let (follower, stopped) = (self.clone(), stop.clone());
        tokio::spawn(async move {
            while sleep_unless(&stopped, POLL).await {
                follower.poll().await;
            }
        });
        let (follower, stopped) = (self.clone(), stop.clone());
        tokio::spawn(async move {
            while sleep_unless(&stopped, TELL).await {
                let age = follower.held().read_at.elapsed();
                follower.routing.metrics.directory_age_s.set(age.as_secs_f64());
            }
        });
        let routing = self.routing.clone();
        tokio::spawn(async move {
            while sleep_unless(&stop, SAVE).await {
                let routing = routing.clone();
                // The file may have a million lines: not on a thread that serves.
                let _ = tokio::task::spawn_blocking(move || routing.save()).await;
            }
        });
    }

    /// Why this router cannot serve yet.
    pub(crate) fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.routing.map().is_none() {
            reasons.push("no topology: neither the directory nor the disk had one".to_owned());
        }
        if self.held().catalog.is_none() {
            reasons.push("no catalog: neither the directory nor the disk had one".to_owned());
        }
        reasons
    }

    async fn poll(&self) {
        let read = self.read().await;
        let mut held = self.held();
        match read {
            Ok(()) => {
                held.read_at = Instant::now();
                held.failing = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut held.failing, true) {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "the directory cannot be followed; keeping what is held"
                    );
                }
            }
        }
    }

    async fn read(&self) -> anyhow::Result<()> {
        let topology = self.directory.read_topology().await?.context("the directory has no topology yet")?;
        self.take_topology(topology)?;
        let catalog = catalog::read(&self.directory).await?;
        if self.held().catalog.as_ref() == Some(&catalog) {
            return Ok(());
        }
        let bytes = serde_json::to_vec(&catalog)?;
        self.take_catalog(catalog);
        disk::write_atomically(&self.folder.join("catalog.json"), &bytes)
    }

    /// One that may not follow the held one is refused, loudly, and the held one kept: that is no
    /// reason not to read the catalog.
    fn take_topology(&self, topology: Topology) -> anyhow::Result<()> {
        let before = self.routing.map();
        if before.as_ref().is_some_and(|before| before.topology == topology) {
            return Ok(());
        }
        let (revision, bytes) = (topology.revision, serde_json::to_vec(&topology)?);
        if let Err(error) = self.routing.adopt(topology) {
            if self.held().refused.replace(revision) != Some(revision) {
                tracing::error!(%revision, %error, "a topology is refused; routing by the one held");
            }
            return Ok(());
        }
        tracing::info!(%revision, "topology in force");
        disk::write_atomically(&self.folder.join("topology.json"), &bytes)
    }

    fn take_catalog(&self, catalog: Catalog) {
        self.keys.replace(&catalog.keys);
        tracing::info!(revision = %catalog.revision, keys = catalog.keys.len(), "catalog in force");
        self.held().catalog = Some(catalog);
    }

    fn read_disk(&self) -> anyhow::Result<()> {
        if let Some(bytes) = disk::read(&self.folder.join("topology.json"))? {
            self.routing.adopt(serde_json::from_slice(&bytes).context("topology.json")?)?;
        }
        if let Some(bytes) = disk::read(&self.folder.join("catalog.json"))? {
            self.take_catalog(serde_json::from_slice(&bytes).context("catalog.json")?);
        }
        Ok(())
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Nothing that holds it can panic half way.
        self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// False once it is time to stop.
async fn sleep_unless(stop: &CancellationToken, pause: Duration) -> bool {
    tokio::select! {
        () = stop.cancelled() => false,
        () = tokio::time::sleep(pause) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::stub;
    use cellar_model::{MacKeys, Secret};

    /// Nobody listens there.
    const AWAY: &str = "postgres://nobody@127.0.0.1:1/none";

    fn follower(folder: &std::path::Path) -> Arc<Follower> {
        let directory = PostgresDirectory::lazy(&Secret::new(AWAY.into()), 1).unwrap();
        let keys = Keys::new(MacKeys::from_text(&"ab".repeat(32)).unwrap());
        let routing = stub::routing(folder, Arc::new(stub::Rows::default()));
        Follower::new(directory, routing, keys, folder.to_owned())
    }

    #[tokio::test]
    async fn a_router_starts_from_disk_when_the_directory_is_away() {
        let folder = tempfile::tempdir().unwrap();
        let follower = follower(folder.path());
        assert_eq!(follower.reasons().len(), 2);
        follower.take_topology(stub::topology(&[("eu-1", "http://127.0.0.1:1".into())])).unwrap();
        let catalog = serde_json::to_vec(&Catalog::default()).unwrap();
        std::fs::write(folder.path().join("catalog.json"), catalog).unwrap();

        let again = self::follower(folder.path());
        again.start(CancellationToken::new()).await;
        assert!(again.reasons().is_empty(), "{:?}", again.reasons());
    }

    #[tokio::test]
    async fn a_topology_that_goes_back_is_refused_and_the_held_one_kept() {
        let folder = tempfile::tempdir().unwrap();
        let follower = follower(folder.path());
        let mut held = stub::topology(&[("eu-1", "http://127.0.0.1:1".into())]);
        held.revision = Revision(5);
        follower.take_topology(held.clone()).unwrap();
        let mut older = held.clone();
        older.revision = Revision(4);
        follower.take_topology(older).unwrap();
        assert_eq!(follower.routing.map().unwrap().topology, held);
    }
}
