//! Topology and catalog as this router follows them: read whole every two seconds, changed or not.
//!
//! The last good ones are on disk, so that a router starts without the directory.

use crate::route::Routing;
use anyhow::Context;
use cellar_directory::catalog::{self, Catalog};
use cellar_directory::{Documents, OpenDirectory, UnreadRow};
use cellar_model::Topology;
use cellar_server::disk::DiskCopy;
use cellar_server::{Keys, TopologyKeeper};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) const POLL: Duration = Duration::from_secs(2);
/// How often what was learned about users is written down.
const SAVE: Duration = Duration::from_secs(10);
/// How often the directory's age is told to the metrics.
const TELL: Duration = Duration::from_secs(1);
/// A directory that has said nothing for so long is away, whether a question is under way or not.
const SILENCE_MAX: Duration = Duration::from_secs(10);

pub(crate) struct Follower {
    directory: OpenDirectory,
    routing: Arc<Routing>,
    keys: Keys,
    topology: TopologyKeeper,
    catalog_copy: Arc<DiskCopy>,
    held: Mutex<Held>,
}

/// What is on disk is remembered apart from what is in force, which it is behind while the disk cannot
/// be written to.
struct Held {
    catalog: Option<Arc<Catalog>>,
    catalog_on_disk: Option<Arc<Catalog>>,
    /// When both were last read.
    read_at: Instant,
    unread: bool,
    unwritten: bool,
}

impl Follower {
    pub(crate) fn new(directory: OpenDirectory, routing: Arc<Routing>, keys: Keys, folder: &Path) -> Arc<Self> {
        let held =
            Held { catalog: None, catalog_on_disk: None, read_at: Instant::now(), unread: false, unwritten: false };
        let (topology, catalog_copy) =
            (TopologyKeeper::in_folder(folder), Arc::new(DiskCopy::in_folder(folder, "catalog")));
        Arc::new(Self { directory, routing, keys, topology, catalog_copy, held: Mutex::new(held) })
    }

    /// From disk, then from the directory: what is on disk binds what may follow it. With neither the
    /// router serves nobody yet, and says so.
    pub(crate) async fn start(self: &Arc<Self>, stop: CancellationToken) {
        // One of them that is not believed is no reason to leave the other aside.
        for read in [self.read_topology_copy(), self.read_catalog_copy()] {
            if let Err(error) = read {
                tracing::warn!(error = format!("{error:#}"), "a copy on disk is left aside; the directory is asked");
            }
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

    /// For how long the directory has not been read, if it does not answer now.
    pub(crate) fn silence(&self) -> Option<Duration> {
        let held = self.held();
        let silence = held.read_at.elapsed();
        (held.unread || silence > SILENCE_MAX).then_some(silence)
    }

    pub(crate) fn has_catalog(&self) -> bool {
        self.held().catalog.is_some()
    }

    async fn poll(&self) {
        let read = self.read().await;
        let written = self.save().await;
        let mut held = self.held();
        if read.is_ok() {
            held.read_at = Instant::now();
        }
        say_once(&mut held.unread, read, "the directory cannot be followed; keeping what is held");
        say_once(&mut held.unwritten, written, "what is in force is not on disk; trying again");
    }

    async fn read(&self) -> anyhow::Result<()> {
        let topology = self.directory.read_topology().await?.context("the directory has no topology yet")?;
        self.take_topology(topology);
        let catalog = Arc::new(catalog::read(&self.directory).await?);
        if self.held().catalog.as_ref() != Some(&catalog) {
            self.take_catalog(catalog);
        }
        Ok(())
    }

    /// A refused one is no reason not to read the catalog.
    fn take_topology(&self, topology: Topology) {
        self.topology.take(topology, |topology| self.routing.adopt(topology));
    }

    fn take_catalog(&self, catalog: Arc<Catalog>) {
        self.keys.replace(&catalog.keys);
        tracing::info!(revision = %catalog.revision, keys = catalog.keys.len(), "catalog in force");
        self.routing.metrics.rows_unread.set(catalog.unread.len() as i64);
        let before = self.held().catalog.clone();
        let before = before.as_ref().map_or(&[][..], |before| &before.unread);
        for row in catalog.unread.iter().filter(|row| !before.contains(row)) {
            let UnreadRow { kind, name, revision, why } = row;
            let kind = kind.as_str();
            tracing::error!(kind, name, %revision, error = why, "a row of the catalog cannot be read by this build");
        }
        self.held().catalog = Some(catalog);
    }

    /// Writes what is in force, unless the disk has it.
    async fn save(&self) -> anyhow::Result<()> {
        // One of them that cannot be written keeps the other from nothing.
        let topology = self.save_topology().await;
        self.save_catalog().await.and(topology)
    }

    async fn save_topology(&self) -> anyhow::Result<()> {
        let Some(map) = self.routing.map() else { return Ok(()) };
        Ok(self.topology.save(&map.topology).await?)
    }

    async fn save_catalog(&self) -> anyhow::Result<()> {
        let (in_force, on_disk) = {
            let held = self.held();
            (held.catalog.clone(), held.catalog_on_disk.clone())
        };
        let Some(catalog) = in_force.filter(|catalog| on_disk.as_ref() != Some(catalog)) else { return Ok(()) };
        self.catalog_copy.write_document(&*catalog).await?;
        self.held().catalog_on_disk = Some(catalog);
        Ok(())
    }

    fn read_topology_copy(&self) -> anyhow::Result<()> {
        Ok(self.topology.read(|topology| self.routing.adopt(topology))?)
    }

    fn read_catalog_copy(&self) -> anyhow::Result<()> {
        let Some(catalog) = self.catalog_copy.read_document::<Catalog>()? else { return Ok(()) };
        let catalog = Arc::new(catalog);
        self.take_catalog(catalog.clone());
        self.held().catalog_on_disk = Some(catalog);
        Ok(())
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Nothing that holds it can panic half way.
        self.held.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Logs the first of failures in a row.
fn say_once(failing: &mut bool, outcome: anyhow::Result<()>, what: &str) {
    match outcome {
        Ok(()) => *failing = false,
        Err(error) if !std::mem::replace(failing, true) => tracing::warn!(error = format!("{error:#}"), "{what}"),
        Err(_) => {}
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
    use cellar_model::{MacKeys, Revision, Secret};

    /// Nobody listens there.
    const AWAY: &str = "postgres://nobody@127.0.0.1:1/none";

    fn follower(folder: &std::path::Path) -> Arc<Follower> {
        let directory = OpenDirectory::lazy(&Secret::new(AWAY.into()), 1).unwrap();
        let keys = Keys::new(MacKeys::from_text(&"ab".repeat(32)).unwrap());
        let routing = stub::routing(folder, Arc::new(stub::Rows::default()));
        Follower::new(directory, routing, keys, folder)
    }

    fn topology(revision: u64) -> Topology {
        Topology {
            revision: Revision(revision),
            predecessor: Revision(revision - 1),
            ..stub::topology(&[("eu-1", "http://127.0.0.1:1".into())])
        }
    }

    #[tokio::test]
    async fn a_router_starts_from_disk_when_the_directory_is_away() {
        let folder = tempfile::tempdir().unwrap();
        let follower = follower(folder.path());
        assert_eq!(follower.reasons().len(), 2);
        follower.take_topology(topology(1));
        follower.take_catalog(Arc::default());
        follower.save().await.unwrap();

        let again = self::follower(folder.path());
        again.start(CancellationToken::new()).await;
        assert!(again.reasons().is_empty(), "{:?}", again.reasons());
    }

    /// Goal: what is in force and not on disk gets there once the disk takes it.
    #[tokio::test]
    async fn what_failed_to_reach_the_disk_is_written_later() {
        let folder = tempfile::tempdir().unwrap();
        let follower = follower(folder.path());
        follower.take_topology(topology(1));
        follower.take_catalog(Arc::default());
        // No file can take the place of a folder.
        let in_the_way = ["topology.copy", "catalog.copy"].map(|name| folder.path().join(name));
        in_the_way.iter().for_each(|path| std::fs::create_dir(path).unwrap());
        assert!(follower.save().await.is_err());
        in_the_way.iter().for_each(|path| std::fs::remove_dir(path).unwrap());
        follower.save().await.unwrap();
        assert!(in_the_way.iter().all(|path| path.is_file()));

        // And one that is there is not written again.
        in_the_way.iter().for_each(|path| std::fs::remove_file(path).unwrap());
        follower.save().await.unwrap();
        assert!(!in_the_way.iter().any(|path| path.exists()));
        follower.take_topology(topology(2));
        follower.save().await.unwrap();
        assert!(in_the_way[0].is_file() && !in_the_way[1].exists());
    }

    /// Goal: a broken copy costs itself and nothing else, and the next good one takes its place.
    #[tokio::test]
    async fn a_broken_copy_is_left_aside_and_the_other_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let follower = follower(folder.path());
        follower.take_topology(topology(1));
        follower.take_catalog(Arc::default());
        follower.save().await.unwrap();
        let file = folder.path().join("topology.copy");
        let mut bytes = std::fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&file, &bytes).unwrap();

        let again = self::follower(folder.path());
        again.start(CancellationToken::new()).await;
        assert_eq!(again.reasons().len(), 1);
        assert!(again.routing.map().is_none());
        again.take_topology(topology(1));
        again.save().await.unwrap();
        assert_ne!(std::fs::read(&file).unwrap(), bytes);
    }

    #[tokio::test]
    async fn a_topology_that_goes_back_is_refused_and_the_held_one_kept() {
        let folder = tempfile::tempdir().unwrap();
        let follower = follower(folder.path());
        follower.take_topology(topology(5));
        follower.take_topology(topology(4));
        assert_eq!(follower.routing.map().unwrap().topology, topology(5));
    }
}
