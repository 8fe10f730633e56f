//! Whether tiers that name a new version's major could go on with it, and come back from it.
//!
//! A version that is published under a major which tiers name decides for them with the next poll, without anybody
//! applying a tier: so it is asked here, what `check` asks of a tier.

use super::references::named_by;
use super::{CatalogFollower, compile};
use cellar_directory::{Catalog, Documents, PolicyEntry};
use cellar_model::{Pin, SettingProblem, TierDocument};
use cellar_policy_host::Policy;
use cellar_quota::rollout;
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// Whether the versions in force have to read what a new one writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WayBack {
    Needed,
    /// An operator has said that nobody will go back.
    Waived,
}

impl<D: Documents + Clone + Send + Sync + 'static> CatalogFollower<D> {
    /// Everything that speaks against this version in the tiers that would decide by it: settings that do not fit it,
    /// and states that could not be brought back. By pointer, `/tier/pro/policy/0/use`.
    pub(crate) async fn check_version(
        &self,
        entry: &PolicyEntry,
        policy: &Arc<Policy>,
        way_back: WayBack,
    ) -> Result<(), Vec<SettingProblem>> {
        let (judged, held) = self.known();
        let (usable, tiers) = (judged.usable.clone(), self.tiers.borrow().clone());
        let (host, digest, policy, entry) = (self.host.clone(), entry.digest, policy.clone(), entry.clone());
        let checked = spawn_blocking(move || {
            let (mut with, mut problems) = (held.clone(), Vec::new());
            with.insert(digest, Some(policy));
            let after = with_version(&usable, &entry);
            for tier in usable.tiers.iter().filter(|tier| follows(&tier.document, &entry)) {
                let name = &tier.document.name;
                // What is not fit today is not made worse.
                let Some(before) = tiers.get(name).filter(|_| compile(tier, &usable, &held).is_ok()) else { continue };
                let against = match compile(tier, &after, &with) {
                    Err(unfit) => unfit.problems,
                    Ok(ready) if way_back == WayBack::Needed => {
                        rollout::check_way_back(&host, Some(before.as_ref()), &ready)
                    }
                    Ok(_) => Vec::new(),
                };
                problems.extend(against.into_iter().map(|SettingProblem { pointer, message }| SettingProblem {
                    pointer: format!("/tier/{name}{pointer}"),
                    message,
                }));
            }
            problems
        });
        match checked.await {
            Ok(problems) if problems.is_empty() => Ok(()),
            Ok(problems) => Err(problems),
            Err(_) => Err(vec![SettingProblem::new("", "the version broke over the settings of a tier")]),
        }
    }
}

/// Whether a slot of the tier takes the newest version of this one's major.
fn follows(document: &TierDocument, entry: &PolicyEntry) -> bool {
    let major = super::version(&entry.version)[0];
    named_by(document).any(|policy| policy.name == entry.name && policy.pin == Pin::Major(major))
}

fn with_version(catalog: &Catalog, entry: &PolicyEntry) -> Catalog {
    let mut catalog = catalog.clone();
    catalog.policies.retain(|held| (&held.name, &held.version) != (&entry.name, &entry.version));
    catalog.policies.push(entry.clone());
    catalog
}
