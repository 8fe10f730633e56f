//! What a router remembers: bounded, and kept on disk so that a restart forgets nothing.

use crate::disk;
use anyhow::Context;
use lru::LruCache;
use serde::{Serialize, de::DeserializeOwned};
use std::hash::Hash;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

/// The most recently used `entries_max` entries.
///
/// The snapshot is written now and then: what was learned last may be lost with the process, and is
/// learned again.
pub(crate) struct Memory<K: Eq + Hash, V> {
    entries: Mutex<LruCache<K, V>>,
    entries_max: usize,
    file: PathBuf,
    changed: AtomicBool,
}

impl<K, V> Memory<K, V>
where
    K: Eq + Hash + Clone + Serialize + DeserializeOwned,
    V: Clone + PartialEq + Serialize + DeserializeOwned,
{
    /// What the snapshot at `file` holds. One that cannot be read is no reason not to serve.
    pub(crate) fn open(file: PathBuf, entries_max: usize) -> Self {
        let memory =
            Self { entries: Mutex::new(LruCache::unbounded()), entries_max, file, changed: AtomicBool::new(false) };
        match memory.snapshot() {
            Ok(entries) => {
                for (key, value) in entries {
                    memory.put(key, value);
                }
            }
            Err(error) => tracing::warn!(error = format!("{error:#}"), "a snapshot is left aside"),
        }
        memory.changed.store(false, Ordering::Relaxed);
        memory
    }

    fn snapshot(&self) -> anyhow::Result<Vec<(K, V)>> {
        let Some(bytes) = disk::read(&self.file)? else { return Ok(Vec::new()) };
        postcard::from_bytes(&bytes).with_context(|| format!("{} cannot be understood", self.file.display()))
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        let mut entries = self.entries();
        if entries.is_empty() {
            return None;
        }
        entries.get(key).cloned()
    }

    pub(crate) fn put(&self, key: K, value: V) {
        let mut entries = self.entries();
        let before = entries.put(key, value.clone());
        if entries.len() > self.entries_max {
            entries.pop_lru();
        }
        if before.as_ref() != Some(&value) {
            self.changed.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn forget(&self, key: &K) {
        if self.entries().pop(key).is_some() {
            self.changed.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries().len()
    }

    /// Writes the snapshot, if there is something new. Blocks for the disk.
    pub(crate) fn save(&self) -> anyhow::Result<()> {
        if !self.changed.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        // Least recently used first: read back in this order they are as old as they were.
        let entries: Vec<(K, V)> =
            self.entries().iter().rev().map(|(key, value)| (key.clone(), value.clone())).collect();
        let written = postcard::to_allocvec(&entries)
            .context("a snapshot cannot be written down")
            .and_then(|bytes| Ok(cellar_server::disk::write_atomically(&self.file, &bytes)?));
        if written.is_err() {
            self.changed.store(true, Ordering::Relaxed);
        }
        written
    }

    fn entries(&self) -> MutexGuard<'_, LruCache<K, V>> {
        // Nothing that holds it can panic half way.
        self.entries.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_the_most_recently_used_and_survives_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("memory.bin");
        let memory = Memory::<u32, u32>::open(file.clone(), 3);
        for n in 0..3 {
            memory.put(n, n * 10);
        }
        memory.get(&0);
        memory.put(3, 30);
        assert_eq!((memory.get(&1), memory.len()), (None, 3));
        memory.save().unwrap();
        let again = Memory::<u32, u32>::open(file.clone(), 3);
        assert_eq!((again.get(&0), again.get(&2), again.get(&3)), (Some(0), Some(20), Some(30)));
        std::fs::write(&file, b"\xff\xff junk").unwrap();
        assert_eq!(Memory::<u32, u32>::open(file, 3).len(), 0);
    }
}
