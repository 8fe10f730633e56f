//! What is not there, or not in force, remembered for a while: so that who asks for it again and again, or for a
//! million of it, reaches Postgres once for each, and pushes nothing out of the caches of what is there.

use super::generations::Generation;
use lru::LruCache;
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// An absence that some other process ended is not believed for longer.
const BELIEVED: Duration = Duration::from_secs(30);
/// Of each kind: some 15 MB. A scan of more pushes out its own first ones.
const REMEMBERED_MAX: NonZeroUsize = NonZeroUsize::new(100_000).expect("not zero");

/// Absences of one kind, as of a generation: a change of the user ends them at once.
pub(super) struct Absences<K: Hash + Eq>(Mutex<LruCache<K, (Generation, Instant)>>);

impl<K: Hash + Eq> Absences<K> {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(REMEMBERED_MAX)))
    }

    pub(super) fn has(&self, what: &K, now: Generation) -> bool {
        self.has_at(what, now, Instant::now())
    }

    /// `read_at`: the generation before it was looked for.
    pub(super) fn put(&self, what: K, read_at: Generation) {
        self.put_at(what, read_at, Instant::now());
    }

    fn has_at(&self, what: &K, now: Generation, at: Instant) -> bool {
        let mut absences = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        absences.get(what).is_some_and(|(then, since)| *then == now && at.duration_since(*since) < BELIEVED)
    }

    fn put_at(&self, what: K, read_at: Generation, at: Instant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).put(what, (read_at, at));
    }
}

#[cfg(test)]
mod tests {
    use super::super::generations::Generations;
    use super::*;
    use cellar_model::UserId;

    #[test]
    fn an_absence_ends_with_a_change_and_after_thirty_seconds() {
        let (absences, generations, began) = (Absences::new(), Generations::new(), Instant::now());
        let ada = UserId::new("ada").unwrap();
        let read_at = generations.current(&ada);
        assert!(!absences.has_at(&ada, read_at, began));
        absences.put_at(ada.clone(), read_at, began);
        let almost = BELIEVED - Duration::from_millis(1);
        assert!(absences.has_at(&ada, read_at, began + almost));
        assert!(!absences.has_at(&ada, read_at, began + BELIEVED));
        generations.raise(&ada);
        assert!(!absences.has_at(&ada, generations.current(&ada), began + almost), "she has signed up");
        absences.put_at(ada.clone(), read_at, began);
        assert!(!absences.has_at(&ada, generations.current(&ada), began), "looked for before, told of after");
    }

    #[test]
    fn a_scan_pushes_out_its_own_first_ones() {
        let (absences, generations) = (Absences::new(), Generations::new());
        let (most, at) = (REMEMBERED_MAX.get(), generations.current(&UserId::new("x").unwrap()));
        for n in 0..=most {
            absences.put(n, at);
        }
        assert!(!absences.has(&0, at) && absences.has(&1, at) && absences.has(&most, at));
    }
}
