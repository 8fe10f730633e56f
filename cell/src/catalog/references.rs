//! What a tier's reference to a policy means.

use super::Policies;
use cellar_directory::{CatalogKind, PolicyEntry, UnreadRow};
use cellar_model::{Pin, PolicyRef, TierDocument};
use cellar_policy_host::Policy;
use std::sync::Arc;

/// The versions of a catalog, and their artifacts as far as they are here.
pub(super) struct References<'c> {
    pub(super) entries: &'c [PolicyEntry],
    pub(super) unread: &'c [UnreadRow],
    pub(super) policies: &'c Policies,
}

impl References<'_> {
    /// The policy that a reference means, compiled.
    pub(super) fn resolve(&self, policy: &PolicyRef) -> Option<Arc<Policy>> {
        self.policies.get(&self.meant(policy)?.digest)?.clone()
    }

    /// The newest version of its major that the host lets in. So a cell that starts beside a bad version decides by the
    /// same as one that was running when it came.
    ///
    /// None while the artifact of that version, or the row of a newer one, cannot be had: then what decided before goes
    /// on, and a process that has nothing before waits. An older version is no stand-in: users have states of the newer
    /// one, which it may not read, and each of those would meet a fault, or be denied what he has.
    pub(super) fn meant(&self, policy: &PolicyRef) -> Option<&PolicyEntry> {
        let mut named = self.entries.iter().filter(|entry| entry.name == policy.name && !self.is_refused(entry));
        match &policy.pin {
            Pin::Digest(digest) => named.find(|entry| entry.digest.0 == *digest),
            Pin::Major(major) => named
                .filter(|entry| version(&entry.version)[0] == *major)
                .max_by_key(|entry| version(&entry.version))
                .filter(|entry| !self.is_behind(policy, *major, version(&entry.version))),
        }
    }

    fn is_refused(&self, entry: &PolicyEntry) -> bool {
        matches!(self.policies.get(&entry.digest), Some(None))
    }

    /// Whether a version above this one stands in a row that cannot be read.
    fn is_behind(&self, policy: &PolicyRef, major: u64, held: [u64; 3]) -> bool {
        let rows = self.unread.iter().filter(|row| row.kind == CatalogKind::Policy);
        let mut versions = rows.filter_map(|row| {
            let (name, number) = row.name.split_once('@')?;
            (name == policy.name.as_str()).then(|| version(number))
        });
        versions.any(|number| number[0] == major && number > held)
    }
}

/// What a tier's slots and its candidate's refer to.
pub(super) fn named_by(document: &TierDocument) -> impl Iterator<Item = &PolicyRef> {
    let candidate = document.rollout.iter().flat_map(|rollout| &rollout.policies);
    document.policies.iter().chain(candidate).map(|slot| &slot.policy)
}

/// `a.b.c` as numbers; what is no number counts as 0.
pub(super) fn version(number: &str) -> [u64; 3] {
    let mut parts = number.split('.').map(|part| part.parse().unwrap_or(0));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}
