//! What a router remembers: bounded, and copied to disk so that a restart forgets nothing.

use super::recent::Recent;
use anyhow::Context;
use cellar_server::disk::DiskCopy;
use serde::{Serialize, de::DeserializeOwned};
use std::hash::{BuildHasher, Hash, RandomState};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A memory is this many, each with a lock of its own: the one that is being written down keeps a request
/// waiting for a few milliseconds, where all of them take half a second. And of a million entries a 70th is
/// just below 7/16 of a power of two: a table that is full of them and forgets one with each it learns
/// tidies itself in place, where a larger piece's would double.
const PIECES: usize = 70;
/// Bytes of an entry on disk, about.
const WRITTEN_BYTES: usize = 32;

/// Entries that were used lately, at most `entries_max` of them.
///
/// The copy on disk is written behind: what was learned last may be lost with the process, and is
/// learned again.
pub(crate) struct Memory<K, V> {
    pieces: Vec<Mutex<Recent<K, V>>>,
    hasher: RandomState,
    /// Of all pieces. Most routers remember nobody, and ask no lock.
    len: AtomicUsize,
    copy: DiskCopy,
    changed: AtomicBool,
}

impl<K, V> Memory<K, V>
where
    K: Eq + Hash + Clone + Serialize + DeserializeOwned,
    V: Clone + PartialEq + Serialize + DeserializeOwned,
{
    /// What `copy` holds. One that cannot be believed is no reason not to serve.
    pub(crate) fn open(copy: DiskCopy, entries_max: usize) -> Self {
        let of_piece = NonZeroUsize::new(entries_max.div_ceil(PIECES)).unwrap_or(NonZeroUsize::MIN);
        let memory = Self {
            pieces: (0..PIECES).map(|_| Mutex::new(Recent::new(of_piece))).collect(),
            hasher: RandomState::new(),
            len: AtomicUsize::new(0),
            copy,
            changed: AtomicBool::new(false),
        };
        if let Err(error) = memory.read_copy() {
            tracing::warn!(error = format!("{error:#}"), "a copy on disk is left aside; the directory is asked");
        }
        memory.changed.store(false, Ordering::Relaxed);
        memory
    }

    fn read_copy(&self) -> anyhow::Result<()> {
        let Some(bytes) = self.copy.read()? else { return Ok(()) };
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (entry, behind) =
                postcard::take_from_bytes::<(K, V)>(rest).map_err(|error| self.copy.refused(error))?;
            rest = behind;
            self.put(entry.0, entry.1);
        }
        Ok(())
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        if self.len() == 0 {
            return None;
        }
        self.piece(key).get(key).cloned()
    }

    pub(crate) fn put(&self, key: K, value: V) {
        let mut piece = self.piece(&key);
        let held = piece.len();
        // A full piece forgets another one.
        let before = piece.put(key, value.clone());
        self.len.fetch_add(piece.len() - held, Ordering::Relaxed);
        if before.as_ref() != Some(&value) {
            self.changed.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn forget(&self, key: &K) {
        if self.len() != 0 && self.piece(key).pop(key).is_some() {
            self.len.fetch_sub(1, Ordering::Relaxed);
            self.changed.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Writes the copy, if there is something new. Blocks for the disk.
    pub(crate) fn save(&self) -> anyhow::Result<()> {
        if !self.changed.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let written = self.written_down().and_then(|bytes| Ok(self.copy.write(bytes)?));
        if written.is_err() {
            self.changed.store(true, Ordering::Relaxed);
        }
        written
    }

    /// Who is forgotten next comes first: read back in this order they are as old as they were.
    fn written_down(&self) -> anyhow::Result<Vec<u8>> {
        let mut bytes = self.copy.begin(self.len() * WRITTEN_BYTES);
        for piece in &self.pieces {
            for entry in lock(piece).iter() {
                bytes = postcard::to_extend(&entry, bytes).context("what was learned cannot be written down")?;
            }
        }
        Ok(bytes)
    }

    fn piece(&self, key: &K) -> MutexGuard<'_, Recent<K, V>> {
        // Below the number of pieces, which fits a usize.
        lock(&self.pieces[(self.hasher.hash_one(key) % PIECES as u64) as usize])
    }
}

fn lock<K, V>(piece: &Mutex<Recent<K, V>>) -> MutexGuard<'_, Recent<K, V>> {
    // Nothing that holds it can panic half way.
    piece.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &std::path::Path, entries_max: usize) -> Memory<u32, u32> {
        Memory::open(DiskCopy::in_folder(folder, "numbers"), entries_max)
    }

    #[test]
    fn it_keeps_what_is_used_and_at_most_what_it_may() {
        let folder = tempfile::tempdir().unwrap();
        let memory = open(folder.path(), 700);
        for n in 0..10_000 {
            memory.put(n, n);
            // Used all the time.
            assert_eq!(memory.get(&0), Some(0));
        }
        assert_eq!(memory.len(), 700);
        assert_eq!(memory.get(&1), None);
        memory.forget(&0);
        assert_eq!((memory.get(&0), memory.len()), (None, 699));
    }

    #[test]
    fn it_survives_a_restart_as_old_as_it_was_and_a_broken_copy_as_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let memory = open(folder.path(), 6_400);
        (0..200).for_each(|n| memory.put(n, n * 10));
        memory.save().unwrap();
        let again = open(folder.path(), 6_400);
        assert!((0..200).all(|n| again.get(&n) == Some(n * 10)));
        assert!(!again.changed.load(Ordering::Relaxed));

        let file = folder.path().join("numbers.copy");
        let mut bytes = std::fs::read(&file).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&file, &bytes).unwrap();
        let empty = open(folder.path(), 6_400);
        assert_eq!(empty.len(), 0);
        // And the next copy takes its place.
        empty.put(1, 1);
        empty.save().unwrap();
        assert_eq!(open(folder.path(), 6_400).get(&1), Some(1));
    }
}
