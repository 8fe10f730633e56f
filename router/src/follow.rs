//! Topology and catalog as the router follows them: read whole every two seconds, changed or not. The
//! last good ones are on disk, so that a router starts without the directory.

use crate::app::{App, Shared};
use crate::disk;
use crate::world::World;
use anyhow::Context;
use cellar_directory::{Catalog, Documents, catalog};
use cellar_model::Topology;
use std::path::PathBuf;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const POLL: Duration = Duration::from_secs(2);
/// Longer than the directory's own waits: only a router whose disk or clock stands still gets there.
const POLL_MAX: Duration = Duration::from_secs(10);
/// What was learned of users goes to disk this often.
const FLUSH: Duration = Duration::from_secs(1);

/// From disk, then from the directory; afterwards in the background until `stop`.
pub(crate) async fn start(app: &Shared, stop: CancellationToken) -> JoinHandle<()> {
    app.from_disk();
    let mut follower = Follower { app: app.clone(), failing: false, read: Instant::now() };
    follower.poll().await;
    if !app.unready().is_empty() {
        tracing::warn!(reasons = ?app.unready(), "not ready");
    }
    tokio::spawn(async move {
        let flushing = tokio::spawn(flush(follower.app.clone(), stop.clone()));
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(POLL) => follower.poll().await,
            }
        }
        let _ = flushing.await;
    })
}

struct Follower {
    app: Shared,
    failing: bool,
    read: Instant,
}

impl Follower {
    async fn poll(&mut self) {
        let polled = tokio::time::timeout(POLL_MAX, self.app.follow()).await;
        match polled.context("the directory did not answer").and_then(|polled| polled) {
            Ok(()) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!("topology and catalog are read again");
                }
                self.read = Instant::now();
            }
            Err(error) => {
                self.app.metrics.directory_failures.inc();
                // Once an outage, not once a poll.
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(error = %format!("{error:#}"), "cannot follow the directory; keeping what is held");
                }
            }
        }
        self.app.metrics.directory_age.set(self.read.elapsed().as_secs_f64());
        let (in_use, max) = self.app.directory.pool_use();
        self.app.metrics.pool(in_use, max);
    }
}

impl App {
    fn topology_file(&self) -> PathBuf {
        self.config.data_dir.join("topology.json")
    }

    fn catalog_file(&self) -> PathBuf {
        self.config.data_dir.join("catalog.json")
    }

    fn from_disk(&self) {
        if let Some(catalog) = disk::read_json::<Catalog>(&self.catalog_file()) {
            self.set_catalog(catalog);
        }
        if let Some(topology) = disk::read_json::<Topology>(&self.topology_file()) {
            match World::new(topology, None, &self.metrics.calls) {
                Ok(world) => self.set_world(world),
                Err(error) => tracing::warn!(%error, "the topology on disk is not valid, and is ignored"),
            }
        }
    }

    /// One look at the directory. What is refused or fails leaves what is held.
    async fn follow(&self) -> anyhow::Result<()> {
        let catalog = catalog::read(&self.directory).await.context("the catalog")?;
        if *self.catalog() != catalog {
            disk::replace_json(&self.catalog_file(), &catalog).context("the catalog's copy on disk")?;
            self.set_catalog(catalog);
        }
        let topology = self.directory.read_topology().await.context("the topology")?;
        let topology = topology.context("the directory holds no topology yet")?;
        let before = self.world();
        if before.as_ref().is_some_and(|before| before.topology == topology) {
            return Ok(());
        }
        let world = World::new(topology, before.as_deref(), &self.metrics.calls).context("the topology is refused")?;
        disk::replace_json(&self.topology_file(), &world.topology).context("the topology's copy on disk")?;
        tracing::info!(revision = %world.topology.revision, "topology in use");
        self.set_world(world);
        Ok(())
    }
}

/// Keeps the files of what was learned behind by no more than `FLUSH`.
async fn flush(app: Shared, stop: CancellationToken) {
    loop {
        let stopping = tokio::select! {
            () = stop.cancelled() => true,
            () = tokio::time::sleep(FLUSH) => false,
        };
        app.metrics.exceptions.set(i64::try_from(app.exceptions.len()).unwrap_or(i64::MAX));
        let learned = app.clone();
        let written = tokio::task::spawn_blocking(move || {
            learned.exceptions.flush().and_then(|()| learned.emails.flush())
        });
        if let Ok(Err(error)) = written.await {
            tracing::warn!(%error, "what was learned of users cannot be written to disk");
        }
        if stopping {
            return;
        }
    }
}
