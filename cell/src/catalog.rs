//! The catalog as this cell follows it: polled whole, its artifacts loaded, its tiers made ready.
//!
//! The last good one is on disk, so that a cell starts without the directory.

mod artifacts;
mod floors;
mod metrics;
mod references;
mod unread;
mod verifier;
mod way_back;

pub(crate) use metrics::CatalogMetrics;
pub(crate) use verifier::{Refused, read_trust};
pub(crate) use way_back::WayBack;

use crate::config::Signatures;
use artifacts::Fresh;
use cellar_directory::catalog::{self, Catalog};
use cellar_directory::{Documents, PolicyEntry};
use cellar_model::{CellName, Digest, KeyDocument, RevisedTier, Revision, SettingProblem, TierDocument};
use cellar_policy_host::{Host, Policy};
use cellar_quota::{Tier, TierCompileError, TierSet, rollout};
use cellar_server::disk;
use references::{References, version};
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use verifier::{Judged, Verifier};

/// The catalog is read whole this often, changed or not.
pub(crate) const POLL: Duration = Duration::from_secs(2);
/// A directory that has said nothing for so long is away, whether a question is under way or not.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Artifacts that tiers decide by, by digest. None: the host does not let it in, which will not change.
type Policies = HashMap<Digest, Option<Arc<Policy>>>;

pub(crate) struct CatalogFollower<D> {
    directory: D,
    host: Host,
    cell: CellName,
    folder: PathBuf,
    verifier: Verifier,
    metrics: CatalogMetrics,
    /// Who reads the directory and puts what he read in force: one at a time, or an older read could come last.
    following: tokio::sync::Mutex<()>,
    held: Mutex<Held>,
    since: Instant,
    tiers: watch::Sender<Arc<TierSet>>,
    keys: watch::Sender<Arc<Vec<KeyDocument>>>,
}

/// What is known of artifacts is bounded by what its tiers decide by.
#[derive(Default)]
struct Held {
    in_force: Option<Arc<Catalog>>,
    /// Of `in_force`: what may decide here.
    judged: Arc<Judged>,
    /// What the disk has: behind `in_force` while it cannot be written to.
    on_disk: Option<Arc<Catalog>>,
    policies: Policies,
    fresh: Fresh,
    /// Artifacts that could not be had yet, each poll tries them again; so that it is said once.
    lacking: HashSet<Digest>,
    /// When the directory was last read, and whether it has been asked in vain since.
    read_at: Option<Instant>,
    read_failed: bool,
    /// Since when it is being read, while it is.
    reading_since: Option<Instant>,
}

impl<D: Documents + Clone + Send + Sync + 'static> CatalogFollower<D> {
    pub(crate) fn new(directory: D, host: Host, cell: CellName, folder: PathBuf, signatures: Signatures) -> Arc<Self> {
        let metrics = CatalogMetrics::default();
        let verifier = Verifier::new(signatures, &folder, metrics.clone());
        Arc::new(Self {
            directory,
            host,
            cell,
            folder,
            verifier,
            metrics,
            following: tokio::sync::Mutex::default(),
            held: Mutex::default(),
            since: Instant::now(),
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

    pub(crate) fn metrics(&self) -> &CatalogMetrics {
        &self.metrics
    }

    /// For how long the directory has not been read, if it does not answer now.
    pub(crate) fn directory_silence(&self) -> Option<Duration> {
        let held = self.held();
        let silence = held.read_at.unwrap_or(self.since).elapsed();
        // To make ready what was read takes its time too, and is none of the directory's.
        let hangs = held.reading_since.is_some_and(|since| since.elapsed() > SILENCE_MAX);
        (held.read_failed || hangs).then_some(silence)
    }

    /// Tiers that are not in force as the catalog has them, and rows of it that this build cannot read.
    pub(crate) fn unfit(&self) -> (i64, i64) {
        (self.metrics.tiers_unfit.get(), self.metrics.rows_unread.get())
    }

    /// Why there is no tier, if there is none.
    pub(crate) fn why_no_tier(&self) -> String {
        match self.held().judged.refused() {
            0 => "no tiers: the catalog has not come yet".to_owned(),
            refused => format!("no tiers: {refused} versions of policies may not decide here, and the log says why"),
        }
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
            let (mut unread, mut unwritten) = (false, false);
            loop {
                say_once(&mut unwritten, follower.save().await, "the catalog is not on disk; trying again");
                tokio::time::sleep(POLL).await;
                say_once(&mut unread, follower.poll().await, "the catalog cannot be read; keeping the last one");
            }
        });
    }

    async fn poll(&self) -> anyhow::Result<()> {
        let _alone = self.following.lock().await;
        self.held().reading_since = Some(Instant::now());
        let read = catalog::read(&self.directory).await;
        {
            let mut held = self.held();
            (held.read_failed, held.reading_since) = (read.is_err(), None);
            held.read_at = if read.is_ok() { Some(Instant::now()) } else { held.read_at };
        }
        let catalog = read?;
        self.adopt(Arc::new(catalog)).await
    }

    /// Puts `catalog` in force. An artifact that does not load and a tier that cannot be made ready hold
    /// up nothing else: a bad document must neither take users down nor keep a revoked key alive.
    async fn adopt(&self, catalog: Arc<Catalog>) -> anyhow::Result<()> {
        let changed = self.held().in_force.as_ref() != Some(&catalog);
        if changed {
            // First, and by themselves: a revocation waits for no compiler.
            self.keys.send_replace(Arc::new(catalog.keys.clone()));
        }
        let renewed = self.verifier.renew(&catalog).await;
        if changed || renewed {
            let before = self.held().judged.clone();
            let judged = self.verifier.judge(&catalog, &before).await?;
            unread::say(&catalog.unread, &before.usable.unread);
            self.metrics.rows_unread.set(catalog.unread.len() as i64);
            self.held().judged = Arc::new(judged);
        }
        let usable = self.held().judged.usable.clone();
        let came = self.load_wanted(&usable).await;
        if !changed && !renewed && !came {
            return Ok(());
        }
        let (policies, before) = (self.held().policies.clone(), self.tiers.borrow().clone());
        let cell = self.cell.clone();
        let (tiers, unfit) = spawn_blocking(move || make_ready(&usable, &policies, &cell, &before)).await?;
        self.tiers.send_replace(Arc::new(tiers));
        self.metrics.tiers_unfit.set(unfit);
        tracing::info!(revision = %catalog.revision, tiers = catalog.tiers.len(), "catalog in force");
        self.held().in_force = Some(catalog);
        Ok(())
    }

    /// Looks without waiting for the next poll: who has just changed the catalog by this cell sees it in force.
    pub(crate) async fn follow_now(&self) {
        if let Err(error) = self.poll().await {
            tracing::warn!(error = %format!("{error:#}"), "the catalog cannot be read; the next poll tries again");
        }
    }

    /// Whether this version could decide here, signature and floor, its artifact unseen.
    pub(crate) async fn may_decide(&self, entry: &PolicyEntry) -> Result<(), Refused> {
        if self.verifier.may_decide(entry).is_ok() {
            return Ok(());
        }
        // Its key may be trusted since the last poll.
        self.follow_now().await;
        self.verifier.may_decide(entry)
    }

    /// Whether `document` could be put in force, with all that is wrong with it.
    pub(crate) async fn check(&self, document: &TierDocument) -> Result<(), Vec<SettingProblem>> {
        document.validate().map_err(|error| error.problems)?;
        if self.check_by_held(document).await.is_ok() {
            return Ok(());
        }
        // What it names may have come since the last poll, or be trusted since.
        self.follow_now().await;
        self.check_by_held(document).await
    }

    async fn check_by_held(&self, document: &TierDocument) -> Result<(), Vec<SettingProblem>> {
        let judged = self.held().judged.clone();
        let policies = self.policies_for(&judged.usable, document).await;
        let (tier, usable) = (RevisedTier { revision: Revision(0), document: document.clone() }, judged.usable.clone());
        let (host, before) = (self.host.clone(), self.tiers.borrow().get(&document.name).cloned());
        let checked = spawn_blocking(move || {
            let ready = compile(&tier, &usable, &policies).map_err(|error| error.problems)?;
            let problems = rollout::check_way_back(&host, before.as_deref(), &ready);
            if problems.is_empty() { Ok(()) } else { Err(problems) }
        });
        match checked.await {
            Ok(checked) => checked.map_err(|problems| judged.explained(document, problems)),
            Err(_) => Err(vec![SettingProblem::new("", "a policy broke over these settings")]),
        }
    }

    /// What is known of the catalog's versions.
    fn known(&self) -> (Arc<Judged>, Policies) {
        let held = self.held();
        (held.judged.clone(), held.policies.clone())
    }

    /// Writes the catalog in force, unless the disk has it.
    async fn save(&self) -> anyhow::Result<()> {
        let (in_force, on_disk) = {
            let held = self.held();
            (held.in_force.clone(), held.on_disk.clone())
        };
        let Some(catalog) = in_force.filter(|catalog| on_disk.as_ref() != Some(catalog)) else { return Ok(()) };
        let (written, path) = (catalog.clone(), self.folder.join("catalog.json"));
        spawn_blocking(move || anyhow::Ok(disk::write_atomically(&path, &serde_json::to_vec(&*written)?)?)).await??;
        self.held().on_disk = Some(catalog);
        self.tidy().await
    }

    async fn read_disk(&self) -> anyhow::Result<()> {
        let bytes = std::fs::read(self.folder.join("catalog.json"))?;
        let catalog: Arc<Catalog> = Arc::new(serde_json::from_slice(&bytes)?);
        self.held().on_disk = Some(catalog.clone());
        self.adopt(catalog).await
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Nothing that holds it can panic half way.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All tiers of `catalog`, and how many are not fit: such a one keeps its predecessor.
fn make_ready(catalog: &Catalog, policies: &Policies, cell: &CellName, before: &TierSet) -> (TierSet, i64) {
    let (mut tiers, mut unfit) = (Vec::with_capacity(catalog.tiers.len()), 0);
    for tier in &catalog.tiers {
        match compile(tier, catalog, policies) {
            Ok(ready) => {
                let before = before.get(&tier.document.name);
                tiers.push(Arc::new(ready.enter(cell, before.map(|tier| &**tier))));
            }
            Err(error) => {
                unfit += 1;
                tracing::error!(tier = %tier.document.name, %error, "a tier is not fit; keeping its predecessor");
                tiers.extend(before.get(&tier.document.name).cloned());
            }
        }
    }
    let kept = unread::tiers(catalog, before);
    unfit += kept.len() as i64;
    tiers.extend(kept.into_iter().flatten());
    (TierSet::new(catalog.revision, tiers), unfit)
}

fn compile(tier: &RevisedTier, catalog: &Catalog, policies: &Policies) -> Result<Tier, TierCompileError> {
    let references = References { entries: &catalog.policies, unread: &catalog.unread, policies };
    Tier::compile(tier, |policy| references.resolve(policy))
}

/// Logs the first of failures in a row.
pub(crate) fn say_once(failing: &mut bool, outcome: anyhow::Result<()>, what: &str) {
    match outcome {
        Ok(()) => *failing = false,
        Err(error) if !std::mem::replace(failing, true) => tracing::warn!(error = %format!("{error:#}"), "{what}"),
        Err(_) => {}
    }
}

#[cfg(test)]
mod tests;
