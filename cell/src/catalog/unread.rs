//! Rows of the catalog that this build cannot read: each costs what it stands for, and is named.
//!
//! A tier goes on as it was, a policy's version decides nothing new, a key is none, and of a policy whose floor cannot
//! be read, and of which this cell remembers none, no version may decide.

use cellar_directory::{Catalog, CatalogKind, UnreadRow};
use cellar_quota::{Tier, TierSet};
use std::sync::Arc;

/// Says each that was not unread before.
pub(super) fn say(rows: &[UnreadRow], before: &[UnreadRow]) {
    for row in rows.iter().filter(|row| !before.contains(row)) {
        let UnreadRow { kind, name, revision, why } = row;
        let kind = kind.as_str();
        tracing::error!(kind, name, %revision, error = why, "a row of the catalog cannot be read by this build");
    }
}

/// For each tier that cannot be read what decided before, if anything did.
pub(super) fn tiers(catalog: &Catalog, before: &TierSet) -> Vec<Option<Arc<Tier>>> {
    let rows = catalog.unread.iter().filter(|row| row.kind == CatalogKind::Tier);
    rows.map(|row| before.get(&row.name.parse().ok()?).cloned()).collect()
}
