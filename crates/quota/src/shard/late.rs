//! Late entries: charges of an older fence that Postgres does not hold yet. They are never dropped. Whose
//! charge or key is known is void; else it is forced onto the user's present record under its old name.
//!
//! They come from a stream that was read too late (a returned disk), from the memory of a deposed owner,
//! and from calls that nobody can ask Redis about any more. Only a turn charges them: nobody decides
//! meanwhile.

use super::Shard;
use crate::entry::{EntryKind, LedgerCheck, LedgerEntry};
use crate::error::QuotaError;
use crate::evaluate::Evaluation;
use crate::record::{Head, Record, RecordBody};
use crate::store::postgres::{Loaded, TurnRow};
use crate::tail::TailBatch;
use crate::tiers::TierSlot;
use cellar_model::{ChargeId, Fence, KeyId, Seq, UserId, Version};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Entries charged in one transaction.
const CHUNK: usize = 256;
/// The number of a turn's first batch of them, behind all that its fence will number.
pub(super) const LATE_SEQ: Seq = Seq(1 << 62);

impl Shard {
    /// Charges `entries`, under the fence of the turn, in batches from `next` on. Returns how many checks were.
    pub(super) async fn charge_late(
        &mut self,
        row: &TurnRow,
        drained: Option<Seq>,
        next: &mut Seq,
        mut entries: Vec<LedgerEntry>,
    ) -> Result<usize, QuotaError> {
        // A user's in the order they were committed.
        entries.sort_by_key(|entry| {
            entry.checks.first().map_or((Fence(0), Version(0)), |c| (c.charge.fence, c.charge.version))
        });
        let (mut seen, mut charged) = (HashSet::new(), 0);
        for chunk in entries.chunks(CHUNK) {
            let chunk = self.unknown(chunk, &mut seen).await?;
            if chunk.is_empty() {
                continue;
            }
            self.parts.postgres.mark_late(row.fence).await?;
            let (batch, homeless) = self.forced(row.fence, *next, chunk).await?;
            *next = next.next();
            charged += batch.entries.iter().map(|entry| entry.checks.len()).sum::<usize>();
            let (postgres, id) = (self.parts.postgres.clone(), self.parts.id);
            if !homeless.is_empty() {
                tracing::error!(shard = %id, entries = homeless.len(), "late charges of users who live elsewhere are kept");
                postgres.keep_late(row.fence, &homeless).await?;
            }
            if !batch.entries.is_empty() {
                let batch = [Arc::new(batch)];
                postgres.drain(row.fence, row.fence, (drained, drained), &batch, &mut self.months).await?;
            }
        }
        if charged > 0 {
            self.parts.metrics.late.inc_by(charged as u64);
            tracing::warn!(shard = %self.parts.id, charged, "late entries charged");
        }
        Ok(charged)
    }

    /// What of `entries` the ledger has neither by charge nor by key.
    async fn unknown(
        &self,
        entries: &[LedgerEntry],
        seen: &mut HashSet<(UserId, ChargeId)>,
    ) -> Result<Vec<LedgerEntry>, QuotaError> {
        let postgres = &self.parts.postgres;
        let charges = postgres.find_charges(entries).await?;
        let keys: Vec<KeyId> = checks(entries).filter_map(|check| check.key.as_ref().map(|key| key.id)).collect();
        let keys = if keys.is_empty() { HashMap::new() } else { postgres.find_keys(&keys).await? };
        let mut unknown = Vec::new();
        for entry in entries {
            let new = |check: &&LedgerCheck| {
                let name = (entry.user.clone(), check.charge);
                let known = charges.contains(&name) || check.key.as_ref().is_some_and(|key| keys.contains_key(&key.id));
                !known && seen.insert(name)
            };
            let checks: Vec<LedgerCheck> = entry.checks.iter().filter(new).cloned().collect();
            if !checks.is_empty() {
                unknown.push(LedgerEntry { checks, ..entry.clone() });
            }
        }
        Ok(unknown)
    }

    /// The batch that charges `entries` on their users' present records, and the entries of users who
    /// are not at home here.
    async fn forced(
        &mut self,
        fence: Fence,
        seq: Seq,
        entries: Vec<LedgerEntry>,
    ) -> Result<(TailBatch, Vec<LedgerEntry>), QuotaError> {
        let users: HashSet<&UserId> = entries.iter().map(|entry| &entry.user).collect();
        let users: Vec<UserId> = users.into_iter().cloned().collect();
        let mut loaded = self.parts.postgres.load_users(&users).await?;
        let mut records: HashMap<UserId, Record> = HashMap::new();
        let (mut batch, mut homeless) = (Vec::new(), Vec::new());
        for mut entry in entries {
            if !records.contains_key(&entry.user) {
                let record = match loaded.remove(&entry.user) {
                    Some(Loaded::Owned { epoch, tier, record, .. }) => record
                        .map_err(|cause| crate::StoreError::Unreadable { store: "postgres", cause })?
                        .unwrap_or_else(|| Record {
                            head: Head { epoch, ..Head::default() },
                            body: RecordBody::new(tier),
                        }),
                    _ => {
                        homeless.push(entry);
                        continue;
                    }
                };
                records.insert(entry.user.clone(), record);
            }
            let Some(record) = records.get_mut(&entry.user) else { continue };
            self.force(record, &entry)?;
            record.head = Head { fence, epoch: record.head.epoch, version: record.head.version.next() };
            (entry.version, entry.epoch, entry.kind) = (record.head.version, record.head.epoch, EntryKind::Late);
            batch.push(entry);
        }
        let records = records
            .into_iter()
            .map(|(user, record)| Ok((user, record.head, record.encode()?)))
            .collect::<Result<_, crate::RecordError>>()
            .map_err(|cause| crate::StoreError::Unreadable { store: "memory", cause })?;
        Ok((TailBatch { seq, entries: batch, records }, homeless))
    }

    fn force(&mut self, record: &mut Record, entry: &LedgerEntry) -> Result<(), QuotaError> {
        let tiers = self.parts.tiers.borrow().clone();
        // Without its tier a record cannot be charged rightly: the turn waits for the catalog.
        let point = entry.user.wave();
        let tier = tiers.of(&record.body.tier, point).ok_or(QuotaError::NoTier)?;
        self.stores.asked_for(Some(point.0));
        let mut evaluation = Evaluation {
            stores: &mut self.stores,
            compiled: &mut self.compiled,
            fault_seen: &mut TierSlot::report,
            tier,
            catalog_revision: tiers.revision,
            now: record.body.now.max(entry.at),
            held: record.head,
        };
        for check in &entry.checks {
            evaluation.force(&mut record.body, check);
        }
        Ok(())
    }
}

fn checks(entries: &[LedgerEntry]) -> impl Iterator<Item = &LedgerCheck> {
    entries.iter().flat_map(|entry| &entry.checks)
}
