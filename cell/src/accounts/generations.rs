//! Generations: what makes everything read before a change worthless after it.

use cellar_model::UserId;
use std::sync::atomic::{AtomicU64, Ordering};

/// Users share slots, so the memory is fixed; a change of one costs its slot's others a cache miss.
const SLOTS: usize = 65_536;

/// A counter a user (a slot, in truth), raised with every change.
///
/// **Invariant:** an entry of any cache holds the generation read *before* its rows were, and is used
/// only while that is still the current one. So an entry filled from rows older than a change is
/// never used after it, in whatever order the writes reach the cache, and even if none does.
pub(super) struct Generations(Box<[AtomicU64]>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Generation(u64);

impl Generations {
    pub(super) fn new() -> Self {
        Self((0..SLOTS).map(|_| AtomicU64::new(0)).collect())
    }

    pub(super) fn current(&self, user: &UserId) -> Generation {
        Generation(self.slot(user).load(Ordering::SeqCst))
    }

    pub(super) fn raise(&self, user: &UserId) {
        self.slot(user).fetch_add(1, Ordering::SeqCst);
    }

    /// For every user at once.
    pub(super) fn raise_all(&self) {
        for slot in &self.0 {
            slot.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn slot(&self, user: &UserId) -> &AtomicU64 {
        // The remainder is below SLOTS, the length.
        &self.0[(user.placement_key().point().0 % SLOTS as u64) as usize]
    }
}

impl Generation {
    pub(super) fn to_text(self) -> String {
        self.0.to_string()
    }
}
