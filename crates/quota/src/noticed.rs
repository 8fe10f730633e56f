//! What the engine has noticed of itself, for whoever says how the cell is: read once a second, by one.

use crate::error::{QuotaError, StoreError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// As Redis and Postgres say that their disk is full. Redis says `MISCONF` for as long as its file cannot be written.
const DISK_FULL: [&str; 3] = ["No space left on device", "MISCONF", "Disk quota exceeded"];

/// Cheap to clone; all clones count together. Everything only grows, but for the looks in a row.
#[derive(Clone, Default)]
pub(crate) struct Noticed(Arc<Counts>);

#[derive(Default)]
struct Counts {
    overloaded: AtomicU64,
    out_of_memory: AtomicU64,
    redis_disk_full: AtomicU64,
    postgres_disk_full: AtomicU64,
    redis_silent_looks: AtomicU32,
    postgres_silent_looks: AtomicU32,
}

/// How the engine of one process stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct QuotaFacts {
    /// Shards of this process, and those of them that take no commits now.
    pub shards: usize,
    pub closed: usize,
    /// Of all: those that have not been open in this life of the process.
    pub never_opened: usize,
    /// Those whose commits Postgres takes.
    pub on_postgres: usize,
    /// Ledger entries that Postgres does not hold yet.
    pub undrained: u64,
    /// Looks in a row, one a second, at which a store's clock was asked for in vain. One that answers late is silent.
    pub redis_silent_looks: u32,
    pub postgres_silent_looks: u32,
    pub clock_disputed: bool,
    /// Checks since the start that were refused because too many waited, or because Redis was short of memory.
    pub overloaded: u64,
    pub out_of_memory: u64,
    /// Calls since the start that a store refused because its disk was full.
    pub redis_disk_full: u64,
    pub postgres_disk_full: u64,
}

impl Noticed {
    pub(crate) fn overloaded(&self) {
        self.0.overloaded.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn store_failed(&self, error: &StoreError) {
        match error {
            StoreError::OutOfMemory => count(&self.0.out_of_memory),
            StoreError::Refused { store, cause, .. } | StoreError::Unknown { store, cause, .. } => {
                self.refused(store, cause);
            }
            StoreError::Fenced | StoreError::Unreadable { .. } => {}
        }
    }

    pub(crate) fn turn_failed(&self, error: &QuotaError) {
        match error {
            QuotaError::Store(error) => self.store_failed(error),
            QuotaError::Postgres(error) => self.refused("postgres", &error.to_string()),
            _ => {}
        }
    }

    fn refused(&self, store: &str, cause: &str) {
        if DISK_FULL.iter().any(|said| cause.contains(said)) {
            count(if store == "redis" { &self.0.redis_disk_full } else { &self.0.postgres_disk_full });
        }
    }

    /// A look at the two stores is over, and which of them has answered.
    pub(crate) fn looked(&self, redis: bool, postgres: bool) {
        for (looks, answered) in [(&self.0.redis_silent_looks, redis), (&self.0.postgres_silent_looks, postgres)] {
            let before = looks.load(Ordering::Relaxed);
            looks.store(if answered { 0 } else { before.saturating_add(1) }, Ordering::Relaxed);
        }
    }

    pub(crate) fn facts(&self) -> QuotaFacts {
        QuotaFacts {
            redis_silent_looks: self.0.redis_silent_looks.load(Ordering::Relaxed),
            postgres_silent_looks: self.0.postgres_silent_looks.load(Ordering::Relaxed),
            overloaded: self.0.overloaded.load(Ordering::Relaxed),
            out_of_memory: self.0.out_of_memory.load(Ordering::Relaxed),
            redis_disk_full: self.0.redis_disk_full.load(Ordering::Relaxed),
            postgres_disk_full: self.0.postgres_disk_full.load(Ordering::Relaxed),
            ..QuotaFacts::default()
        }
    }
}

fn count(of: &AtomicU64) {
    of.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_what_else_a_store_refuses() {
        let noticed = Noticed::default();
        let refused = |store, cause: &str| StoreError::Refused { store, call: "commit", cause: cause.to_owned() };
        noticed.store_failed(&refused("redis", "MISCONF Errors writing to the AOF file: No space left on device"));
        noticed.store_failed(&refused("redis", "NOREPLICAS Not enough good replicas to write."));
        noticed.store_failed(&refused("postgres", "could not extend file \"base/1/2\": No space left on device"));
        noticed.store_failed(&StoreError::OutOfMemory);
        let facts = noticed.facts();
        assert_eq!((facts.redis_disk_full, facts.postgres_disk_full, facts.out_of_memory), (1, 1, 1));
    }

    #[test]
    fn silence_is_counted_in_a_row() {
        let noticed = Noticed::default();
        for (redis, looks) in [(false, 1), (false, 2), (true, 0), (false, 1)] {
            noticed.looked(redis, true);
            assert_eq!(noticed.facts().redis_silent_looks, looks);
        }
        assert_eq!(noticed.facts().postgres_silent_looks, 0);
    }
}
