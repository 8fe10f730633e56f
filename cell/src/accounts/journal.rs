//! The journal: preferences that are written while Postgres is away wait in the quota Redis, are shown at once, and
//! are applied in order once Postgres answers, by whoever serves the user then.
//!
//! Nobody is answered about a user's preferences before what waits of him is known: read from Redis at each opening
//! of his shard, and applied first if Postgres answers. In Postgres, the last patch that was applied stands beside
//! the version it led to, so that one found again is not applied again.

use super::merge_patch::{apply, bound};
use super::person::Person;
use super::waiting::{Patch, Turn};
use super::{Accounts, AccountsError};
use cellar_model::{Problem, ProblemType, TryAgain, UserId};
use cellar_quota::{KeptPatch, PatchSeq, ShardId, ShardWriter, StoreError};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// For how long a read waits for its shard's first opening, which takes some milliseconds among healthy stores.
const OPENING_MAX: Duration = Duration::from_millis(1_500);
const OPENING_POLL: Duration = Duration::from_millis(10);
/// How soon what waits is applied without anybody asking, and a shard that has opened is read.
const LOOK_EVERY: Duration = Duration::from_millis(500);

type FromLabel = [(&'static str, &'static str); 1];

#[derive(Default)]
pub(super) struct JournalMetrics {
    waiting: Gauge,
    oldest_seconds: Gauge,
    taken: Counter,
    applied: Counter,
    refused: Counter,
    orphaned: Counter,
    /// Answers given without Postgres, by what from.
    pub(super) degraded: Family<FromLabel, Counter>,
}

impl JournalMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let mut add = |name: &str, help: &str, counter: &Counter| registry.register(name, help, counter.clone());
        add("cellar_preference_patches_taken", "Patches taken into the journal, Postgres being away", &self.taken);
        add(
            "cellar_preference_patches_applied",
            "Patches of the journal that were applied to Postgres since",
            &self.applied,
        );
        add("cellar_preference_patches_refused", "Patches not taken, because the journal was full", &self.refused);
        add(
            "cellar_preference_patches_orphaned",
            "Patches of the journal that were dropped, because their user had left this cell",
            &self.orphaned,
        );
        let help = "Patches of preferences that wait for Postgres";
        registry.register("cellar_preference_patches_waiting", help, self.waiting.clone());
        let help = "For how long the oldest of them has waited in this process";
        registry.register("cellar_preference_patches_oldest_seconds", help, self.oldest_seconds.clone());
        for from in ["cache", "journal"] {
            let _ = self.degraded.get_or_create(&[("from", from)]);
        }
        let help = "Reads of accounts answered while Postgres was away, by what from";
        registry.register("cellar_degraded_reads", help, self.degraded.clone());
    }
}

impl Accounts {
    /// What waits of the user, after it was applied if Postgres answers.
    pub(super) async fn still_waiting(&self, user: &UserId) -> Result<Vec<Arc<Patch>>, AccountsError> {
        let Some(shard) = self.know_waiting(user).await? else { return Ok(Vec::new()) };
        let waiting = self.0.waiting.of(shard, user);
        if waiting.is_empty() || self.0.postgres.is_away() {
            return Ok(waiting);
        }
        let turn = self.0.waiting.turn(user).await;
        match self.apply_waiting(user, &turn).await {
            Err(error) if !error.is_postgres_away() => Err(error),
            _ => Ok(self.0.waiting.of(shard, user)),
        }
    }

    /// Applies what waits of the user.
    pub(super) async fn apply_waiting(&self, user: &UserId, _: &Turn<'_>) -> Result<(), AccountsError> {
        let Some(shard) = self.know_waiting(user).await? else { return Ok(()) };
        let waiting = self.0.waiting.of(shard, user);
        let Some(last) = waiting.last().map(|patch| patch.seq) else { return Ok(()) };
        match self.0.postgres.ask(self.merge_waiting(user, &waiting)).await {
            Ok(()) => {
                self.0.journal.applied.inc_by(waiting.len() as u64);
            }
            // No OWNED row. One who is on his way has it again soon, here or nowhere.
            Err(error @ AccountsError::Misdirected(_)) | Err(error @ AccountsError::Problem(_)) => {
                if !self.is_gone(user).await? {
                    return Err(error);
                }
                tracing::error!(?user, patches = waiting.len(), "patches of preferences of a user who has left");
                self.0.journal.orphaned.inc_by(waiting.len() as u64);
            }
            Err(error) => return Err(error),
        }
        // In this order: who reads what waits first and the generation then misses nothing.
        self.changed(user).await;
        self.0.waiting.applied(shard, user, last);
        Ok(())
    }

    async fn is_gone(&self, user: &UserId) -> Result<bool, AccountsError> {
        let rows = self.0.postgres.ask(self.read_ownerships(&[user.as_str()])).await?;
        Ok(rows.get(user.as_str()).is_none_or(|row| matches!(row.state.as_str(), "FORWARD" | "ERASED")))
    }

    /// Takes a patch that Postgres cannot take now. The user as shown from now on.
    pub(super) async fn journal(
        &self,
        user: &UserId,
        change: Map<String, Value>,
        turn: &Turn<'_>,
    ) -> Result<Person, AccountsError> {
        let (Some(quota), Some(shard)) = (&self.0.given.quota, self.know_waiting(user).await?) else {
            return Err(AccountsError::PostgresAway);
        };
        // Closed, or on Postgres: both are away.
        let writer = quota.writer(shard).ok_or(AccountsError::PostgresAway)?;
        let waiting = self.0.waiting.of(shard, user);
        // Nobody can say whether the patch fits onto what is not known.
        let base = self.base(user).await?;
        let mut all: Map<String, Value> =
            serde_json::from_str(&base.preferences).map_err(|_| AccountsError::Corrupt("preference"))?;
        apply(&mut all, &waiting.iter().map(|patch| &patch.change).chain([&change]).collect::<Vec<_>>());
        bound(&all)?;
        let json = Value::Object(change.clone()).to_string().into_bytes();
        let Some(place) = self.0.waiting.place(shard, user, json.len(), turn) else {
            self.0.journal.refused.inc();
            return Err(Problem::new(ProblemType::TryAgain).detail(TryAgain::StoreDown.label()).into());
        };
        let seq = PatchSeq { fence: writer.fence(), n: place.n };
        let kept = KeptPatch { seq, user: user.clone(), json };
        writer.keep_patch(&kept).await.map_err(AccountsError::Journal)?;
        place.take(seq.fence, change);
        self.0.journal.taken.inc();
        self.0.journal.waiting.inc();
        Ok(Person { preferences: Value::Object(all).to_string(), patched: Some(seq), ..Person::clone(&base) })
    }

    /// The user's shard, once what waits there is known; none where no journal is kept.
    async fn know_waiting(&self, user: &UserId) -> Result<Option<ShardId>, AccountsError> {
        let Some(quota) = &self.0.given.quota else { return Ok(None) };
        let shard = quota.shard_of(user);
        if !quota.has_opened(shard) {
            // An earlier life may have left something.
            let until = Instant::now() + OPENING_MAX;
            while !quota.has_opened(shard) {
                if Instant::now() >= until {
                    let closed = Problem::new(ProblemType::TryAgain).detail(TryAgain::ShardClosed.label());
                    return Err(closed.into());
                }
                tokio::time::sleep(OPENING_POLL).await;
            }
        }
        // Without a writer, what memory has is all that anybody can know.
        if let Some(writer) = quota.writer(shard)
            && !self.0.waiting.is_loaded(shard, writer.fence())
        {
            self.load_waiting(shard, &writer).await.map_err(AccountsError::Journal)?;
        }
        Ok(Some(shard))
    }

    /// Reads what Redis has of a shard that has just opened. Of two that do so at once, both find the same.
    async fn load_waiting(&self, shard: ShardId, writer: &ShardWriter) -> Result<(), StoreError> {
        let mut found = Vec::new();
        for patch in writer.patches().await? {
            let Ok(change) = serde_json::from_slice(&patch.json) else {
                tracing::error!(seq = %patch.seq, "a patch of preferences that cannot be read is left where it is");
                continue;
            };
            let bytes = patch.json.len();
            found.push((patch.user, Patch { seq: patch.seq, change, bytes, since: Instant::now() }));
        }
        if !found.is_empty() {
            tracing::info!(%shard, patches = found.len(), "preferences wait for Postgres");
        }
        self.0.waiting.loaded(shard, writer.fence(), found);
        Ok(())
    }

    /// Applies whatever waits, of users nobody asks for as well, until cancelled.
    pub(super) async fn apply_all_waiting(&self, cancel: CancellationToken) {
        let mut reach = self.0.postgres.subscribe();
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                _ = reach.changed() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            self.load_all_waiting().await;
            let users = if self.0.postgres.is_away() { Vec::new() } else { self.0.waiting.users() };
            for user in users {
                if self.0.postgres.is_away() || cancel.is_cancelled() {
                    break;
                }
                let turn = self.0.waiting.turn(&user).await;
                if let Err(error) = self.apply_waiting(&user, &turn).await {
                    tracing::debug!(?user, error = &error as &dyn std::error::Error, "preferences wait on");
                }
            }
            self.drop_applied().await;
            self.measure();
        }
    }

    /// What waits of a user who is erased goes, here and in Redis.
    pub(super) async fn drop_waiting(&self, user: &UserId) -> Result<(), AccountsError> {
        let turn = self.0.waiting.turn(user).await;
        self.apply_waiting(user, &turn).await?;
        self.drop_applied().await;
        Ok(())
    }

    async fn load_all_waiting(&self) {
        let Some(quota) = &self.0.given.quota else { return };
        for shard in (0..quota.shard_count()).map(ShardId) {
            let Some(writer) = quota.writer(shard) else { continue };
            if !self.0.waiting.is_loaded(shard, writer.fence())
                && let Err(error) = self.load_waiting(shard, &writer).await
            {
                tracing::debug!(%shard, error = &error as &dyn std::error::Error, "what waits is not known yet");
            }
        }
    }

    /// Has Redis forget what Postgres has. What it does not forget now, it does later, or whoever reads it next finds
    /// it applied.
    async fn drop_applied(&self) {
        let Some(quota) = &self.0.given.quota else { return };
        for shard in self.0.waiting.shards_to_drop_from() {
            let Some(writer) = quota.writer(shard) else { continue };
            loop {
                let seqs = self.0.waiting.droppable(shard);
                if seqs.is_empty() {
                    break;
                }
                match writer.drop_patches(&seqs).await {
                    // Fenced: its next owner has read them.
                    Ok(()) | Err(StoreError::Fenced) => self.0.waiting.dropped(shard, &seqs),
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::debug!(%shard, error, "applied patches stay a while");
                        break;
                    }
                }
            }
        }
    }

    fn measure(&self) {
        let (waiting, metrics) = (&self.0.waiting, &self.0.journal);
        metrics.waiting.set(i64::try_from(waiting.count()).unwrap_or(i64::MAX));
        metrics.oldest_seconds.set(i64::try_from(waiting.age().as_secs()).unwrap_or(i64::MAX));
    }
}
