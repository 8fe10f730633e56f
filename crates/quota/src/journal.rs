//! Charges that were allowed while no store could be asked: on this process's disk until Postgres has them.
//!
//! **Invariant:** an appended entry is answered for only once it is on the disk, and it leaves the disk only
//! after Postgres holds it among the late charges. One that is handed over twice is charged once: its charge
//! has a name.
//!
//! A record of the file is the length of its body (4 bytes), the body's xxh3-64 (8), and the body.

use crate::entry::LedgerEntry;
use crate::error::StoreError;
use crate::shard::ShardId;
use crate::store::postgres::PostgresStore;
use cellar_model::Fence;
use prometheus_client::metrics::gauge::Gauge;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_64;

/// Entries the file may have, those handed over since it was last emptied included: some 30 MB. Above it
/// nothing is allowed any more.
const ENTRIES_MAX: usize = 100_000;
/// Entries of one statement.
const CHUNK: usize = 1_000;
/// Between attempts to hand over what no turn has taken.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const HEAD_BYTES: usize = 12;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Journaled {
    shard: u16,
    /// That the shard was last served under here.
    fence: Fence,
    entry: LedgerEntry,
}

/// Clones share the file.
#[derive(Clone)]
pub(crate) struct Journal(Arc<Mutex<State>>);

struct State {
    file: File,
    /// Entries in the file, and its bytes.
    written: usize,
    length: u64,
    /// A write failed and what it left could not be cut off: what came after it would not be read.
    broken: bool,
    /// Of them, and of those on their way into it: what Postgres is not known to have.
    held: Vec<Arc<Journaled>>,
    entries: Gauge,
    /// On their way: bytes, and who waits.
    pending: Vec<(Vec<u8>, Arc<Journaled>, oneshot::Sender<()>)>,
    /// A thread is writing; it takes what is pending before it ends.
    writing: bool,
}

impl Journal {
    /// Opens the file, or makes it. What it holds is handed over like what is appended.
    pub(crate) fn open(path: &Path, entries: Gauge) -> io::Result<Self> {
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (held, whole) = read(&bytes);
        if whole < bytes.len() {
            // Written half when the process died: nobody has been answered.
            tracing::warn!(
                bytes = bytes.len() - whole,
                "the end of the journal of allowed charges is torn, and left out"
            );
            file.set_len(whole as u64)?;
        }
        file.seek(SeekFrom::Start(whole as u64))?;
        entries.set(held.len() as i64);
        let (written, length) = (held.len(), whole as u64);
        let state = State { file, written, length, broken: false, held, entries, pending: Vec::new(), writing: false };
        Ok(Self(Arc::new(Mutex::new(state))))
    }

    /// Resolves once `entry` is on the disk; never, if it is not. None: the journal is full.
    pub(crate) fn append(&self, shard: ShardId, fence: Fence, entry: LedgerEntry) -> Option<oneshot::Receiver<()>> {
        let mut state = self.state();
        if state.broken || state.written + state.pending.len() >= ENTRIES_MAX {
            return None;
        }
        let journaled = Arc::new(Journaled { shard: shard.0, fence, entry });
        let bytes = framed(&journaled)?;
        let (written, waits) = oneshot::channel();
        state.pending.push((bytes, journaled, written));
        if !std::mem::replace(&mut state.writing, true) {
            let journal = self.clone();
            tokio::task::spawn_blocking(move || journal.write());
        }
        Some(waits)
    }

    /// Writes what is pending, one flush for all that came meanwhile.
    fn write(&self) {
        loop {
            let (pending, file) = {
                let mut state = self.state();
                let pending = std::mem::take(&mut state.pending);
                if pending.is_empty() {
                    state.writing = false;
                    return;
                }
                // Counted before they are there: the file may not be emptied meanwhile.
                state.written += pending.len();
                state.held.extend(pending.iter().map(|(_, journaled, _)| journaled.clone()));
                state.entries.set(state.held.len() as i64);
                (pending, state.file.try_clone())
            };
            let bytes: Vec<u8> = pending.iter().flat_map(|(bytes, ..)| bytes.iter().copied()).collect();
            match file.and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_data())) {
                // Who waits may have stopped waiting; the charge stands.
                Ok(()) => {
                    self.state().length += bytes.len() as u64;
                    pending.into_iter().for_each(|(_, _, written)| _ = written.send(()));
                }
                // Unknown to who waits; charged, for it is handed over all the same.
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "the journal of allowed charges cannot be written"
                    );
                    let mut state = self.state();
                    let length = state.length;
                    let cut = state.file.set_len(length).and_then(|()| state.file.seek(SeekFrom::Start(length)));
                    state.broken = cut.is_err();
                }
            }
        }
    }

    pub(crate) fn entries(&self) -> usize {
        self.state().held.len()
    }

    /// Puts what is held of `shard` among Postgres's late charges, for the shard's next turn.
    pub(crate) async fn hand_over(&self, shard: ShardId, postgres: &PostgresStore) -> Result<(), StoreError> {
        let of_shard = |one: &Arc<Journaled>| one.shard == shard.0;
        let mut held: Vec<_> = self.state().held.iter().filter(|one| of_shard(one)).cloned().collect();
        held.sort_by_key(|one| one.fence);
        for chunk in held.chunk_by(|one, other| one.fence == other.fence).flat_map(|same| same.chunks(CHUNK)) {
            let entries: Vec<_> = chunk.iter().map(|one| (one.entry.clone(), true)).collect();
            postgres.hand_over(chunk[0].fence, &entries, false).await?;
            self.forget(chunk);
        }
        Ok(())
    }

    fn forget(&self, handed: &[Arc<Journaled>]) {
        let mut state = self.state();
        state.held.retain(|one| !handed.iter().any(|other| Arc::ptr_eq(one, other)));
        state.entries.set(state.held.len() as i64);
        if state.held.is_empty() && !state.writing {
            let emptied = state.file.set_len(0).and_then(|()| state.file.rewind());
            match emptied.and_then(|()| state.file.sync_data()) {
                Ok(()) => (state.written, state.length, state.broken) = (0, 0, false),
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the journal of allowed charges cannot be emptied"
                    );
                }
            }
        }
    }

    /// Hands over what no turn of this process takes: of shards that have another owner by now, and what an
    /// earlier life left.
    pub(crate) async fn look_after(self, postgres: Vec<PostgresStore>, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if self.entries() == 0 {
                continue;
            }
            for (shard, postgres) in ShardId::all(postgres.len() as u16).zip(&postgres) {
                if let Err(error) = self.hand_over(shard, postgres).await {
                    tracing::debug!(%shard, error = &error as &dyn std::error::Error, "allowed charges stay in the journal");
                    break;
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn framed(journaled: &Journaled) -> Option<Vec<u8>> {
    let body = postcard::to_allocvec(journaled).ok()?;
    let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len());
    bytes.extend_from_slice(&u32::try_from(body.len()).ok()?.to_be_bytes());
    bytes.extend_from_slice(&xxh3_64(&body).to_be_bytes());
    bytes.extend_from_slice(&body);
    Some(bytes)
}

/// The records of `bytes` up to the first that is not whole, and how many bytes they take.
fn read(bytes: &[u8]) -> (Vec<Arc<Journaled>>, usize) {
    let (mut held, mut whole) = (Vec::new(), 0);
    while let Some((journaled, length)) = first(&bytes[whole..]) {
        held.push(Arc::new(journaled));
        whole += length;
    }
    (held, whole)
}

fn first(bytes: &[u8]) -> Option<(Journaled, usize)> {
    let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
    let body = rest.get(..u32::from_be_bytes(head[..4].try_into().ok()?) as usize)?;
    let sum = u64::from_be_bytes(head[4..].try_into().ok()?);
    let journaled = (xxh3_64(body) == sum).then(|| postcard::from_bytes(body).ok()).flatten()?;
    Some((journaled, HEAD_BYTES + body.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::EntryKind;
    use cellar_model::{Epoch, Micros, UserId, Version};

    fn entry(version: u64) -> LedgerEntry {
        LedgerEntry {
            user: UserId::new("u").unwrap(),
            epoch: Epoch(1),
            version: Version(version),
            kind: EntryKind::Consume,
            at: Micros(9),
            checks: Vec::new(),
        }
    }

    fn opened(path: &Path) -> Journal {
        Journal::open(path, Gauge::default()).unwrap()
    }

    fn versions(journal: &Journal) -> Vec<u64> {
        journal.state().held.iter().map(|one| one.entry.version.0).collect()
    }

    #[tokio::test]
    async fn what_was_answered_for_is_there_after_a_torn_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let journal = opened(&path);
        for version in 0..3 {
            journal.append(ShardId(1), Fence(2), entry(version)).unwrap().await.unwrap();
        }
        drop(journal);
        let bytes = std::fs::read(&path).unwrap();
        for torn in [&bytes[..bytes.len() - 1], &[&bytes[..], &[0; 40]].concat(), &[&bytes[..], &[255; 40]].concat()] {
            std::fs::write(&path, torn).unwrap();
            let journal = opened(&path);
            let whole = if torn.len() < bytes.len() { 2 } else { 3 };
            assert_eq!(versions(&journal), (0..whole).collect::<Vec<_>>());
            journal.append(ShardId(1), Fence(2), entry(7)).unwrap().await.unwrap();
            drop(journal);
            assert_eq!(versions(&opened(&path)).last(), Some(&7));
        }
    }

    #[tokio::test]
    async fn a_journal_whose_entries_are_handed_over_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let journal = opened(&path);
        let appended: Vec<_> = (0..20).map(|n| journal.append(ShardId(0), Fence(1), entry(n)).unwrap()).collect();
        futures::future::join_all(appended).await;
        let held = journal.state().held.clone();
        journal.forget(&held[1..]);
        assert_eq!(versions(&journal).len(), 1);
        // The writer may still be about to find that nothing is pending.
        while journal.state().writing {
            tokio::task::yield_now().await;
        }
        journal.forget(&held);
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
        journal.append(ShardId(0), Fence(1), entry(5)).unwrap().await.unwrap();
        assert_eq!(versions(&opened(&path)), [5]);
    }
}
