//! Which versions of a catalog may decide here: those that somebody who is trusted for their name has signed, from
//! the floor on. Everything else of the catalog is as if it were not there.

use super::floors::Floors;
use super::metrics::CatalogMetrics;
use crate::config::Signatures;
use anyhow::Context;
use cellar_artifacts::{Refusal, Trust};
use cellar_directory::{Catalog, CatalogKind, PolicyEntry};
use cellar_model::{Pin, PolicyRef, SettingProblem, TierDocument, VersionNumber};
use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::task::spawn_blocking;

/// Why a version may not decide here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error(transparent)]
    Signature(#[from] Refusal),
    #[error("it is below the floor of its policy, {floor}: what was mended since stays mended")]
    BelowFloor { floor: VersionNumber },
    #[error("the floor of its policy cannot be read by this build, and this cell remembers none")]
    FloorUnread,
}

impl Refused {
    const BELOW_FLOOR: &str = "below-floor";
    const FLOOR_UNREAD: &str = "floor-unread";

    pub(super) fn labels() -> impl Iterator<Item = &'static str> {
        Refusal::LABELS.into_iter().chain([Self::BELOW_FLOOR, Self::FLOOR_UNREAD])
    }

    fn label(&self) -> &'static str {
        match self {
            Refused::Signature(refusal) => refusal.label(),
            Refused::BelowFloor { .. } => Self::BELOW_FLOOR,
            Refused::FloorUnread => Self::FLOOR_UNREAD,
        }
    }
}

/// A catalog as this cell may use it, and what it leaves out.
#[derive(Default)]
pub(super) struct Judged {
    pub(super) usable: Arc<Catalog>,
    refused: Vec<(PolicyEntry, Refused)>,
}

pub(super) struct Verifier {
    signatures: Signatures,
    metrics: CatalogMetrics,
    known: Arc<Mutex<Known>>,
}

struct Known {
    /// None: signatures are not looked at.
    trust: Option<Arc<Trust>>,
    /// The file of keys could not be read when it was looked at last: said once.
    unread: bool,
    unwritten: bool,
    floors: Floors,
    /// Policies whose floor stands in a row that cannot be read.
    floors_unread: HashSet<String>,
}

impl Verifier {
    pub(super) fn new(signatures: Signatures, folder: &Path, metrics: CatalogMetrics) -> Self {
        let trust = match &signatures {
            Signatures::Required { trust, .. } => {
                if trust.keys().is_empty() {
                    tracing::error!("no key is trusted: no policy may decide here until one is");
                }
                Some(Arc::new(trust.clone()))
            }
            Signatures::NotLookedAt => {
                tracing::warn!("require_signatures = false: whoever writes to the directory chooses what decides");
                None
            }
        };
        let known = Known {
            trust,
            unread: false,
            unwritten: false,
            floors: Floors::open(folder),
            floors_unread: HashSet::new(),
        };
        Self { signatures, metrics, known: Arc::new(Mutex::new(known)) }
    }

    /// Looks at the file of keys, and takes the catalog's floors. Whether a version may be judged otherwise since.
    pub(super) async fn renew(&self, catalog: &Catalog) -> bool {
        let (known, floors) = (self.known.clone(), catalog.floors.clone());
        let unread = catalog.unread.iter().filter(|row| row.kind == CatalogKind::PolicyFloor);
        let unread: HashSet<String> = unread.map(|row| row.name.clone()).collect();
        let file = match &self.signatures {
            Signatures::Required { file, .. } => Some(file.clone()),
            Signatures::NotLookedAt => None,
        };
        let renewed = spawn_blocking(move || {
            let trust = file.as_deref().map(read_trust);
            let mut known = locked(&known);
            let renewed = known.trusts(trust);
            let raised = known.floors.take(&floors);
            let read = std::mem::replace(&mut known.floors_unread, unread) == known.floors_unread;
            known.write();
            renewed || raised || !read
        });
        // A panic has been printed; everything stays as it was known.
        renewed.await.unwrap_or(false)
    }

    /// Judges every version of a catalog. What is refused that was not `before` is logged and counted.
    pub(super) async fn judge(&self, catalog: &Arc<Catalog>, before: &Judged) -> anyhow::Result<Judged> {
        let (known, judging) = (self.known.clone(), catalog.clone());
        // Some 50 µs a signature: not on a thread that serves.
        let judged = spawn_blocking(move || locked(&known).judge(&judging)).await.context("judging signatures")?;
        for (entry, refused) in judged.refused.iter().filter(|refused| !before.refused.contains(refused)) {
            self.metrics.refused(refused.label());
            tracing::error!(
                policy = %entry.name, version = entry.version, digest = %entry.digest, reason = refused.label(),
                error = %refused, "a version of a policy may not decide here"
            );
        }
        Ok(judged)
    }

    /// Whether this version could decide here.
    pub(super) fn may_decide(&self, entry: &PolicyEntry) -> Result<(), Refused> {
        locked(&self.known).may_decide(entry)
    }
}

fn locked(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    // Nothing that holds it leaves it half changed.
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn read_trust(file: &Path) -> anyhow::Result<Trust> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Trust::parse(&text).with_context(|| format!("{} is no file of trusted keys", file.display()))
}

impl Known {
    /// Takes the trusted keys as they were read; the last ones stay while they cannot be. Whether they are others.
    fn trusts(&mut self, read: Option<anyhow::Result<Trust>>) -> bool {
        let trust = match read {
            None => return false,
            Some(Ok(trust)) => trust,
            Some(Err(error)) => {
                if !std::mem::replace(&mut self.unread, true) {
                    tracing::error!(error = %format!("{error:#}"), "the last trusted keys stay in force");
                }
                return false;
            }
        };
        self.unread = false;
        if self.trust.as_deref() == Some(&trust) {
            return false;
        }
        tracing::info!(keys = trust.keys().len(), "other keys are trusted from now on");
        self.trust = Some(Arc::new(trust));
        true
    }

    fn write(&mut self) {
        match self.floors.write() {
            Ok(()) => self.unwritten = false,
            Err(error) if !std::mem::replace(&mut self.unwritten, true) => {
                tracing::warn!(error = %format!("{error:#}"), "the floors of policies are not on disk; trying again");
            }
            Err(_) => {}
        }
    }

    fn judge(&self, catalog: &Catalog) -> Judged {
        let (mut usable, mut refused) = (Vec::new(), Vec::new());
        for entry in &catalog.policies {
            match self.may_decide(entry) {
                Ok(()) => usable.push(entry.clone()),
                Err(why) => refused.push((entry.clone(), why)),
            }
        }
        Judged { usable: Arc::new(Catalog { policies: usable, ..catalog.clone() }), refused }
    }

    fn may_decide(&self, entry: &PolicyEntry) -> Result<(), Refused> {
        let version: Option<VersionNumber> = entry.version.parse().ok();
        if let Some(trust) = &self.trust {
            let version = version.ok_or(Refusal::OddVersion)?;
            trust.verify(&entry.name, version, &entry.digest, entry.signature.as_ref())?;
        }
        match self.floors.of(&entry.name) {
            Some(floor) if version.is_none_or(|version| version < floor) => Err(Refused::BelowFloor { floor }),
            None if self.floors_unread.contains(entry.name.as_str()) => Err(Refused::FloorUnread),
            _ => Ok(()),
        }
    }
}

impl Judged {
    pub(super) fn refused(&self) -> usize {
        self.refused.len()
    }

    /// What is wrong with a tier, where "there is no such policy" is not the whole truth.
    pub(super) fn explained(&self, document: &TierDocument, mut problems: Vec<SettingProblem>) -> Vec<SettingProblem> {
        for (n, asked) in document.policies.iter().enumerate() {
            let pointer = format!("/policy/{n}/use");
            let of_policy = problems.iter_mut().find(|problem| problem.pointer == pointer);
            if let (Some(problem), Some(message)) = (of_policy, self.explain(&asked.policy)) {
                problem.message = message;
            }
        }
        problems
    }

    /// Why the newest version that `policy` could mean may not decide.
    fn explain(&self, policy: &PolicyRef) -> Option<String> {
        let is_meant = |(entry, _): &&(PolicyEntry, Refused)| {
            entry.name == policy.name
                && match &policy.pin {
                    Pin::Digest(digest) => entry.digest.0 == *digest,
                    Pin::Major(major) => super::version(&entry.version)[0] == *major,
                }
        };
        let (entry, why) =
            self.refused.iter().filter(is_meant).max_by_key(|(entry, _)| super::version(&entry.version))?;
        Some(format!("{} {} may not decide here: {why}", entry.name, entry.version))
    }
}
