//! The catalog as this cell follows it: polled whole, its artifacts loaded, its tiers made ready.
//!
//! The last good one is on disk, so that a cell starts without the directory.

use anyhow::Context;
use cellar_directory::catalog::{self, Catalog};
use cellar_directory::{Digest, Documents, PolicyEntry};
use cellar_model::{KeyDocument, Pin, PolicyRef, RevisedTier, Revision, SettingProblem, TierDocument};
use cellar_policy_host::{Host, Policy};
use cellar_quota::{Tier, TierSet};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// The catalog is read whole this often, changed or not.
pub(crate) const POLL: Duration = Duration::from_secs(2);

pub(crate) struct CatalogFollower<D> {
    directory: D,
    host: Host,
    folder: PathBuf,
    /// Loaded artifacts, by digest. Bounded by what the catalog names.
    policies: Mutex<HashMap<Digest, Arc<Policy>>>,
    held: Mutex<Catalog>,
    tiers: watch::Sender<Arc<TierSet>>,
    keys: watch::Sender<Arc<Vec<KeyDocument>>>,
}

impl<D: Documents + Clone + Send + Sync + 'static> CatalogFollower<D> {
    pub(crate) fn new(directory: D, host: Host, folder: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            directory,
            host,
            folder,
            policies: Mutex::default(),
            held: Mutex::default(),
            tiers: watch::Sender::new(Arc::default()),
            keys: watch::Sender::new(Arc::default()),
        })
    }

    pub(crate) fn tiers(&self) -> watch::Receiver<Arc<TierSet>> {
        self.tiers.subscribe()
    }

    pub(crate) fn keys(&self) -> watch::Receiver<Arc<Vec<KeyDocument>>> {
        self.keys.subscribe()
    }

    /// From the directory, else from disk. With neither the cell serves nobody yet, and says so.
    pub(crate) async fn start(self: &Arc<Self>) {
        if let Err(error) = self.poll().await {
            tracing::warn!(error = %format!("{error:#}"), "no catalog from the directory; trying the one on disk");
            match self.read_disk().await {
                Ok(()) => tracing::info!("serving by the catalog on disk"),
                Err(error) => tracing::warn!(error = %format!("{error:#}"), "no catalog on disk either"),
            }
        }
        let follower = self.clone();
        tokio::spawn(async move {
            let mut failing = false;
            loop {
                tokio::time::sleep(POLL).await;
                match follower.poll().await {
                    Ok(()) => failing = false,
                    Err(error) if !failing => {
                        failing = true;
                        tracing::warn!(error = %format!("{error:#}"), "the catalog cannot be read; keeping the last one");
                    }
                    Err(_) => {}
                }
            }
        });
    }

    async fn poll(&self) -> anyhow::Result<()> {
        let catalog = catalog::read(&self.directory).await?;
        if self.held.lock().is_ok_and(|held| *held == catalog) {
            return Ok(());
        }
        self.adopt(&catalog).await?;
        self.to_disk(&catalog)?;
        Ok(())
    }

    /// Loads what `catalog` names and swaps it in. A tier that cannot be made ready keeps its
    /// predecessor: a bad document must not take users down.
    async fn adopt(&self, catalog: &Catalog) -> anyhow::Result<()> {
        for entry in &catalog.policies {
            self.policy(entry).await?;
        }
        let before = self.tiers.borrow().clone();
        let mut tiers = Vec::with_capacity(catalog.tiers.len());
        for tier in &catalog.tiers {
            match Tier::compile(tier, |policy| self.resolve(policy, &catalog.policies)) {
                Ok(ready) => tiers.push(Arc::new(ready)),
                Err(error) => {
                    tracing::error!(tier = %tier.document.name, %error, "a tier is not fit; keeping its predecessor");
                    tiers.extend(before.get(&tier.document.name).cloned());
                }
            }
        }
        self.tiers.send_replace(Arc::new(TierSet::new(catalog.revision, tiers)));
        self.keys.send_replace(Arc::new(catalog.keys.clone()));
        if let Ok(mut held) = self.held.lock() {
            *held = catalog.clone();
        }
        tracing::info!(revision = %catalog.revision, tiers = catalog.tiers.len(), "catalog in force");
        Ok(())
    }

    /// Whether `document` could be put in force, with all that is wrong with it.
    pub(crate) fn check(&self, document: &TierDocument) -> Result<(), Vec<SettingProblem>> {
        document.validate().map_err(|error| error.problems)?;
        let policies = self.held.lock().map(|held| held.policies.clone()).unwrap_or_default();
        let tier = RevisedTier { revision: Revision(0), document: document.clone() };
        Tier::compile(&tier, |policy| self.resolve(policy, &policies)).map(|_| ()).map_err(|error| error.problems)
    }

    fn resolve(&self, policy: &PolicyRef, entries: &[PolicyEntry]) -> Option<Arc<Policy>> {
        let named = entries.iter().filter(|entry| entry.name == policy.name);
        let entry = match &policy.pin {
            Pin::Digest(digest) => named.into_iter().find(|entry| entry.digest.0 == *digest),
            Pin::Major(major) => named.filter(|entry| version(entry)[0] == *major).max_by_key(|entry| version(entry)),
        }?;
        self.policies.lock().ok()?.get(&entry.digest).cloned()
    }

    /// Loads an artifact once: from memory, disk, or the directory, checked against its digest.
    async fn policy(&self, entry: &PolicyEntry) -> anyhow::Result<()> {
        if self.policies.lock().is_ok_and(|held| held.contains_key(&entry.digest)) {
            return Ok(());
        }
        let path = self.artifact_path(&entry.digest);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) if Digest::of(&bytes) == entry.digest => bytes,
            _ => {
                let bytes = catalog::artifact(&self.directory, &entry.digest).await?;
                let bytes =
                    bytes.with_context(|| format!("the artifact of {}@{} is missing", entry.name, entry.version))?;
                write_atomically(&path, &bytes)?;
                bytes
            }
        };
        let policy = self.host.load(&bytes).with_context(|| format!("policy {}@{}", entry.name, entry.version))?;
        if let Ok(mut held) = self.policies.lock() {
            held.insert(entry.digest, policy);
        }
        Ok(())
    }

    fn artifact_path(&self, digest: &Digest) -> PathBuf {
        self.folder.join("artifacts").join(digest.to_string().replace(':', "-"))
    }

    fn to_disk(&self, catalog: &Catalog) -> anyhow::Result<()> {
        write_atomically(&self.folder.join("catalog.json"), &serde_json::to_vec(catalog)?)
    }

    async fn read_disk(&self) -> anyhow::Result<()> {
        let bytes = std::fs::read(self.folder.join("catalog.json"))?;
        self.adopt(&serde_json::from_slice(&bytes)?).await
    }
}

/// `a.b.c` as numbers; what is no number counts as 0.
fn version(entry: &PolicyEntry) -> [u64; 3] {
    let mut parts = entry.version.split('.').map(|part| part.parse().unwrap_or(0));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

/// Written beside and renamed: a crash leaves the old file or the new one.
fn write_atomically(path: &std::path::Path, bytes: &[u8]) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let beside = path.with_extension("new");
        std::fs::write(&beside, bytes)?;
        std::fs::rename(&beside, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}
