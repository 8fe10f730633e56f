//! What the router has learned and would rather not ask again after a restart: bounded in memory, and
//! appended to a file. The last second's may be lost, which costs a look-up.

use crate::disk;
use lru::LruCache;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::hash::Hash;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Superfluous lines a file may have before it is written anew.
const STALE_LINES_MAX: usize = 10_000;
/// The longest text that waits to be appended; above it the file is left as it is until it is
/// written anew.
const PENDING_BYTES_MAX: usize = 8 * 1024 * 1024;

pub(crate) struct Remembered<K: Hash + Eq, V> {
    path: PathBuf,
    held: Mutex<Held<K, V>>,
}

struct Held<K: Hash + Eq, V> {
    entries: LruCache<K, V>,
    /// Lines not yet in the file.
    pending: String,
    pending_lines: usize,
    lines: usize,
}

impl<K, V> Remembered<K, V>
where
    K: Hash + Eq + Clone + Serialize + DeserializeOwned,
    V: Clone + PartialEq + Serialize + DeserializeOwned,
{
    /// What the file holds, the newest `entries_max` of it. A line that cannot be read is skipped: the
    /// last one of a killed process may be half written.
    pub(crate) fn load(path: PathBuf, entries_max: NonZeroUsize) -> Self {
        let text = std::fs::read(&path).unwrap_or_default();
        let mut entries = LruCache::new(entries_max);
        let mut lines = 0;
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            lines += 1;
            match serde_json::from_slice::<(K, Option<V>)>(line) {
                Ok((key, Some(value))) => drop(entries.put(key, value)),
                Ok((key, None)) => drop(entries.pop(&key)),
                Err(_) => {}
            }
        }
        // A half line at the end would swallow the next one.
        let pending = if text.last().is_some_and(|byte| *byte != b'\n') { "\n" } else { "" };
        let held = Held { entries, pending: pending.to_owned(), pending_lines: 0, lines };
        Self { path, held: Mutex::new(held) }
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        self.held().entries.get(key).cloned()
    }

    pub(crate) fn put(&self, key: K, value: V) {
        let mut held = self.held();
        if held.entries.get(&key) != Some(&value) {
            held.note(&key, Some(&value));
            held.entries.put(key, value);
        }
    }

    pub(crate) fn remove(&self, key: &K) {
        let mut held = self.held();
        if held.entries.pop(key).is_some() {
            held.note(key, None);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.held().entries.len()
    }

    /// Brings the file up to date. Blocks on the disk.
    pub(crate) fn flush(&self) -> std::io::Result<()> {
        let (bytes, whole) = {
            let mut held = self.held();
            if held.pending.is_empty() {
                return Ok(());
            }
            let whole = held.lines + held.pending_lines > 2 * held.entries.len() + STALE_LINES_MAX;
            let bytes = if whole { held.all() } else { std::mem::take(&mut held.pending) };
            held.lines = if whole { held.entries.len() } else { held.lines + held.pending_lines };
            held.pending.clear();
            held.pending_lines = 0;
            (bytes, whole)
        };
        if whole { disk::replace(&self.path, bytes.as_bytes()) } else { disk::append(&self.path, bytes.as_bytes()) }
    }

    fn held(&self) -> MutexGuard<'_, Held<K, V>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Serialize, V: Serialize> Held<K, V> {
    fn note(&mut self, key: &K, value: Option<&V>) {
        if self.pending.len() < PENDING_BYTES_MAX
            && let Ok(line) = serde_json::to_string(&(key, value))
        {
            self.pending.push_str(&line);
            self.pending.push('\n');
        }
        self.pending_lines += 1;
    }

    /// Oldest first, so that reading it gives the same order of use.
    fn all(&self) -> String {
        let lines = self.entries.iter().rev().filter_map(|entry| serde_json::to_string(&entry).ok());
        lines.fold(String::new(), |text, line| text + &line + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: NonZeroUsize = NonZeroUsize::new(3).unwrap();

    #[test]
    fn what_was_learned_is_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("learned");
        let learned = Remembered::<String, u64>::load(path.clone(), MAX);
        for n in 0..5 {
            learned.put(format!("k{n}"), n);
        }
        learned.remove(&"k3".to_owned());
        learned.flush().unwrap();
        disk::append(&path, b"[\"k9\",").unwrap();
        let again = Remembered::<String, u64>::load(path.clone(), MAX);
        assert_eq!(again.get(&"k4".to_owned()), Some(4));
        assert_eq!(again.get(&"k3".to_owned()), None);
        assert_eq!(again.get(&"k0".to_owned()), None);
        again.put("k5".into(), 5);
        again.flush().unwrap();
        assert_eq!(Remembered::<String, u64>::load(path, MAX).get(&"k5".to_owned()), Some(5));
    }

    #[test]
    fn a_file_of_stale_lines_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("learned");
        let learned = Remembered::<String, u64>::load(path.clone(), MAX);
        for n in 0..=STALE_LINES_MAX as u64 + 7 {
            learned.put("k".into(), n);
        }
        learned.flush().unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), format!("[\"k\",{}]\n", STALE_LINES_MAX + 7));
    }
}
