//! The artifacts of policies as this cell has them: on disk and compiled, those that its tiers decide by.
//!
//! A catalog keeps every version for good, so what is held here goes by the tiers. A version that no tier means any
//! more is let go, and read again from the directory if one does.

use super::references::{References, named_by};
use super::{CatalogFollower, Policies, metrics};
use anyhow::Context;
use bytes::Bytes;
use cellar_directory::catalog::{self, Catalog};
use cellar_directory::{Documents, PolicyEntry};
use cellar_model::{Digest, TierDocument};
use cellar_policy_host::Policy;
use cellar_server::disk;
use std::collections::{HashSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// Versions that tiers decide by at once: some megabytes of machine code each.
const COMPILED_MAX: usize = 128;
/// Versions that were compiled to be looked at, and are wanted soon if what was asked then is done. A tier has at
/// most eight, and as many of a candidate.
const FRESH_MAX: usize = 16;

/// The last few that were compiled, whoever wanted them.
#[derive(Default)]
pub(super) struct Fresh(VecDeque<(Digest, Arc<Policy>)>);

impl Fresh {
    fn get(&self, digest: &Digest) -> Option<Arc<Policy>> {
        self.0.iter().find(|(held, _)| held == digest).map(|(_, policy)| policy.clone())
    }

    fn keep(&mut self, digest: Digest, policy: &Arc<Policy>) {
        self.0.retain(|(held, _)| *held != digest);
        if self.0.len() == FRESH_MAX {
            self.0.pop_front();
        }
        self.0.push_back((digest, policy.clone()));
    }
}

/// Why an artifact is not there to decide by.
enum Unloaded {
    Refused(anyhow::Error),
    Lacking(anyhow::Error),
}

impl<D: Documents + Clone + Send + Sync + 'static> CatalogFollower<D> {
    /// Loads what the tiers of `catalog` mean and is not here, and lets go of what none of them does; a tier that
    /// keeps its predecessor has that one's policies for itself. Whether anything came.
    pub(super) async fn load_wanted(&self, catalog: &Catalog) -> bool {
        let mut came = false;
        let mut tried = HashSet::new();
        loop {
            let wanted = wanted(catalog, &self.held().policies, catalog.tiers.iter().map(|tier| &tier.document));
            let next = wanted.iter().find(|entry| !tried.contains(&entry.digest) && !self.knows(&entry.digest));
            let Some(entry) = next else {
                self.forget_all_but(catalog, &wanted);
                return came;
            };
            tried.insert(entry.digest);
            // To be refused, the next newest may be meant now: so one at a time.
            came |= self.load_one(entry).await;
        }
    }

    /// What is held, and beside it what only this document means.
    pub(super) async fn policies_for(&self, catalog: &Catalog, document: &TierDocument) -> Policies {
        let mut policies = self.held().policies.clone();
        let mut tried = HashSet::new();
        loop {
            let wanted = wanted(catalog, &policies, [document]);
            let next =
                wanted.iter().find(|entry| !tried.contains(&entry.digest) && !policies.contains_key(&entry.digest));
            let Some(entry) = next else { return policies };
            tried.insert(entry.digest);
            match self.load(entry).await {
                Ok(policy) => _ = policies.insert(entry.digest, Some(policy)),
                Err(Unloaded::Refused(_)) => _ = policies.insert(entry.digest, None),
                // It is as if there were none, and the answer says so.
                Err(Unloaded::Lacking(_)) => {}
            }
        }
    }

    /// Whether the host lets a component in, or why not.
    pub(crate) async fn gate(&self, artifact: &Bytes) -> Result<Arc<Policy>, String> {
        match self.compile(artifact.clone()).await {
            Ok(policy) => Ok(policy),
            Err(error) => Err(format!("{error:#}")),
        }
    }

    fn knows(&self, digest: &Digest) -> bool {
        self.held().policies.contains_key(digest)
    }

    /// What the host has refused is remembered as long as the catalog names it, so that it is not compiled again.
    fn forget_all_but(&self, catalog: &Catalog, wanted: &[PolicyEntry]) {
        let wanted: HashSet<Digest> = wanted.iter().map(|entry| entry.digest).collect();
        let named: HashSet<Digest> = catalog.policies.iter().map(|entry| entry.digest).collect();
        let mut held = self.held();
        held.policies.retain(|digest, policy| match policy {
            Some(_) => wanted.contains(digest),
            None => named.contains(digest),
        });
        held.lacking.retain(|digest| wanted.contains(digest));
    }

    /// Whether it is known now what this version is.
    async fn load_one(&self, entry: &PolicyEntry) -> bool {
        let digest = entry.digest;
        let compiled = self.held().policies.values().flatten().count();
        let loaded = match compiled {
            0..COMPILED_MAX => self.load(entry).await,
            _ => Err(Unloaded::Lacking(anyhow::anyhow!("{COMPILED_MAX} versions are decided by already"))),
        };
        let mut held = self.held();
        match loaded {
            Ok(policy) => {
                held.policies.insert(digest, Some(policy));
                held.lacking.remove(&digest);
                true
            }
            Err(Unloaded::Refused(error)) => {
                held.policies.insert(digest, None);
                self.metrics.refused(metrics::GATE);
                say_unloaded(entry, &error, "a policy's artifact is not let in");
                true
            }
            Err(Unloaded::Lacking(error)) => {
                if held.lacking.insert(digest) {
                    say_unloaded(entry, &error, "a policy's artifact cannot be had yet; trying again");
                }
                false
            }
        }
    }

    /// One artifact, from disk or the directory, checked against its digest and compiled.
    async fn load(&self, entry: &PolicyEntry) -> Result<Arc<Policy>, Unloaded> {
        let bytes = self.artifact(entry).await.map_err(Unloaded::Lacking)?;
        self.compile(bytes.into()).await.map_err(Unloaded::Refused)
    }

    async fn compile(&self, artifact: Bytes) -> anyhow::Result<Arc<Policy>> {
        let (host, digest) = (self.host.clone(), Digest::of(&artifact));
        let fresh = self.held().fresh.get(&digest);
        if let Some(policy) = fresh {
            return Ok(policy);
        }
        // Some 20 ms of work: not on a thread that serves.
        let loaded = spawn_blocking(move || host.load(&artifact)).await.context("the compiler broke over it")?;
        let policy = loaded?;
        self.held().fresh.keep(digest, &policy);
        Ok(policy)
    }

    async fn artifact(&self, entry: &PolicyEntry) -> anyhow::Result<Vec<u8>> {
        let digest = entry.digest;
        let path = self.folder.join(FOLDER).join(file_of(&digest));
        let read = path.clone();
        let kept = spawn_blocking(move || std::fs::read(read).ok().filter(|bytes| Digest::of(bytes) == digest));
        if let Some(bytes) = kept.await? {
            return Ok(bytes);
        }
        let bytes = catalog::artifact(&self.directory, &digest).await?.context("the directory does not have it")?;
        let (bytes, written) = spawn_blocking(move || {
            let written = disk::write_atomically(&path, &bytes);
            (bytes, written)
        })
        .await?;
        if let Err(error) = written {
            // It decides all the same; a start without the directory will miss it.
            tracing::warn!(policy = %entry.name, version = entry.version, %error, "an artifact is not on disk");
        }
        Ok(bytes)
    }

    /// Deletes files of artifacts that are neither decided by nor known to be refused. Only once the catalog on disk is
    /// the one in force: a start by the one before would miss them.
    pub(super) async fn tidy(&self) -> anyhow::Result<()> {
        // Nothing comes meanwhile.
        let _alone = self.following.lock().await;
        let known: HashSet<String> = {
            let held = self.held();
            if held.on_disk != held.in_force {
                return Ok(());
            }
            held.policies.keys().map(file_of).collect()
        };
        let folder = self.folder.join(FOLDER);
        Ok(spawn_blocking(move || delete_all_but(&folder, &known)).await??)
    }
}

const FOLDER: &str = "artifacts";
const PREFIX: &str = "sha256-";

pub(super) fn file_of(digest: &Digest) -> String {
    digest.to_string().replace(':', "-")
}

fn delete_all_but(folder: &Path, known: &HashSet<String>) -> std::io::Result<()> {
    let files = match std::fs::read_dir(folder) {
        Ok(files) => files,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for file in files {
        let file = file?;
        let name = file.file_name();
        let is_ours = |name: &str| name.starts_with(PREFIX) && !known.contains(name);
        if name.to_str().is_some_and(is_ours) {
            std::fs::remove_file(file.path())?;
        }
    }
    Ok(())
}

/// The versions that these documents mean, each once.
fn wanted<'d>(
    catalog: &Catalog,
    policies: &Policies,
    documents: impl IntoIterator<Item = &'d TierDocument>,
) -> Vec<PolicyEntry> {
    let references = References { entries: &catalog.policies, unread: &catalog.unread, policies };
    let mut seen = HashSet::new();
    let meant = documents.into_iter().flat_map(named_by).filter_map(|policy| references.meant(policy));
    meant.filter(|entry| seen.insert(entry.digest)).cloned().collect()
}

fn say_unloaded(entry: &PolicyEntry, error: &anyhow::Error, what: &str) {
    let error = format!("{error:#}");
    tracing::error!(policy = %entry.name, version = entry.version, digest = %entry.digest, error, "{what}");
}
