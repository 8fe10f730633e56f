//! Which processes serve the cell, and which of them owns a shard.
//!
//! Each beats into one table of the cell's Postgres and reads who else does. Nothing is decided by it:
//! the fence decides who writes. Two processes that see different members only take turns that were not
//! needed.

use crate::QuotaConfig;
use crate::error::{QuotaError, StoreError};
use crate::shard::ShardId;
use crate::store::postgres::bounded;
use cellar_model::wire::CellInstance;
use sqlx::PgPool;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh3::xxh3_64;

/// How often a process says that it lives, and looks who else does.
const BEAT: Duration = Duration::from_millis(500);
/// A beat, or a look, that takes longer than this leaves the view as it is.
const BEAT_MAX: Duration = Duration::from_secs(2);
/// How often rows of lives that ended long ago are deleted.
const FORGET_EVERY: Duration = Duration::from_secs(3_600);

pub(crate) const BEAT_INSTANCE: &str = "
    insert into instances (instance, endpoint, heartbeat, leaving) values ($1, $2, now(), $3)
    on conflict (instance) do update
        set heartbeat = excluded.heartbeat, leaving = instances.leaving or excluded.leaving";

/// By Postgres's own clock. Who beats under one's own endpoint is an earlier life: the port is mine.
pub(crate) const LIVE_INSTANCES: &str = "
    select instance, endpoint from instances
    where heartbeat > now() - interval '5 seconds' and not leaving and not fenced
      and (endpoint <> $2 or instance = $1)";

pub(crate) const ALL_INSTANCES: &str = "
    select instance, endpoint, (extract(epoch from now() - heartbeat) * 1000)::int8, leaving, fenced,
           heartbeat > now() - interval '5 seconds' and not leaving and not fenced
    from instances order by endpoint, heartbeat desc";

/// Somebody who knows says that these lives are over.
pub(crate) const FENCE_INSTANCES: &str = "update instances set fenced = true where instance = any($1)";

pub(crate) const FORGET_INSTANCES: &str = "delete from instances where heartbeat < now() - interval '1 day'";

/// Who serves, as last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Members {
    /// This process's own endpoint; none: it is the only one, and owns everything.
    me: Option<Arc<str>>,
    endpoints: BTreeSet<Arc<str>>,
}

/// Whose a shard is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Mine,
    Other(Arc<str>),
    /// No process is known to serve it, this one included.
    Nobody,
}

impl Members {
    fn alone() -> Self {
        Self { me: None, endpoints: BTreeSet::new() }
    }

    /// The endpoint whose `<endpoint>#<shard>` hashes highest: one that comes or goes moves its own shards
    /// only.
    pub(crate) fn owner_of(&self, shard: ShardId) -> Option<&Arc<str>> {
        // Of two equal hashes the same one wins everywhere: the set is in order.
        self.endpoints.iter().max_by_key(|endpoint| xxh3_64(format!("{endpoint}#{shard}").as_bytes()))
    }

    pub(crate) fn place(&self, shard: ShardId) -> Place {
        let Some(me) = &self.me else { return Place::Mine };
        match self.owner_of(shard) {
            Some(owner) if owner == me => Place::Mine,
            Some(owner) => Place::Other(owner.clone()),
            None => Place::Nobody,
        }
    }

    /// Whether any other process could take a shard over.
    pub(crate) fn has_others(&self) -> bool {
        self.endpoints.iter().any(|endpoint| Some(endpoint) != self.me.as_ref())
    }
}

/// This process among the cell's. Clones are the same.
#[derive(Clone)]
pub(crate) struct Membership(Arc<Inner>);

struct Inner {
    pool: PgPool,
    /// One life of this process.
    life: Arc<str>,
    endpoint: Option<Arc<str>>,
    leaving: AtomicBool,
    members: watch::Sender<Arc<Members>>,
}

impl Membership {
    /// Tells the others, and that the earlier lives in this process's folder are over: its lock proves
    /// it.
    pub(crate) async fn join(pool: PgPool, config: &QuotaConfig, life: Arc<str>) -> Result<Self, QuotaError> {
        let endpoint: Option<Arc<str>> = config.endpoint.as_deref().map(Arc::from);
        let members = watch::Sender::new(Arc::new(Members::alone()));
        let membership = Self(Arc::new(Inner { pool, life, endpoint, leaving: AtomicBool::new(false), members }));
        if membership.0.endpoint.is_some() {
            membership.fence(&config.earlier_lives).await?;
            membership.beat().await?;
        }
        Ok(membership)
    }

    pub(crate) fn is_on(&self) -> bool {
        self.0.endpoint.is_some()
    }

    pub(crate) fn members(&self) -> Arc<Members> {
        self.0.members.borrow().clone()
    }

    pub(crate) fn place(&self, shard: ShardId) -> Place {
        self.0.members.borrow().place(shard)
    }

    pub(crate) fn is_mine(&self, shard: ShardId) -> bool {
        self.place(shard) == Place::Mine
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Members>> {
        self.0.members.subscribe()
    }

    /// Beats and looks now; if Postgres does not answer, the last view stays.
    pub(crate) async fn refresh(&self) {
        if !self.is_on() {
            return;
        }
        match tokio::time::timeout(BEAT_MAX, self.beat()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "who serves this cell is not known anew");
            }
            Err(_) => tracing::debug!("who serves this cell is not known anew: no answer in time"),
        }
    }

    async fn beat(&self) -> Result<(), StoreError> {
        let inner = &*self.0;
        let Some(endpoint) = &inner.endpoint else { return Ok(()) };
        let leaving = inner.leaving.load(Ordering::Relaxed);
        let beat = sqlx::query(BEAT_INSTANCE).bind(&*inner.life).bind(&**endpoint).bind(leaving);
        bounded("beat", beat.execute(&inner.pool)).await?;
        let live = sqlx::query_as::<_, (String, String)>(LIVE_INSTANCES).bind(&*inner.life).bind(&**endpoint);
        let live = bounded("live instances", live.fetch_all(&inner.pool)).await?;
        let endpoints = live.into_iter().map(|(_, endpoint)| Arc::from(endpoint)).collect();
        let members = Members { me: Some(endpoint.clone()), endpoints };
        inner.members.send_if_modified(|held| {
            let changed = **held != members;
            if changed {
                tracing::info!(members = members.endpoints.len(), "the processes of this cell have changed");
                *held = Arc::new(members);
            }
            changed
        });
        Ok(())
    }

    pub(crate) async fn run(self, stop: CancellationToken) {
        if !self.is_on() {
            return;
        }
        let mut forget_at = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(BEAT) => {}
            }
            self.refresh().await;
            if forget_at <= Instant::now() {
                forget_at = Instant::now() + FORGET_EVERY;
                // One that fails is made up for by the next.
                let _ = bounded("forget instances", sqlx::query(FORGET_INSTANCES).execute(&self.0.pool)).await;
            }
        }
    }

    /// From now on the others take this process's shards.
    pub(crate) async fn leave(&self) {
        self.0.leaving.store(true, Ordering::Relaxed);
        self.refresh().await;
    }

    /// Says that lives are over for certain. Returns how many of them are known.
    pub(crate) async fn fence(&self, lives: &[String]) -> Result<u64, StoreError> {
        let fence = sqlx::query(FENCE_INSTANCES).bind(lives).execute(&self.0.pool);
        Ok(bounded("fence instances", fence).await?.rows_affected())
    }

    /// Every life of the last day, with the number of shards it owns.
    pub(crate) async fn all(&self, shards: u16) -> Result<Vec<CellInstance>, StoreError> {
        type Row = (String, String, i64, bool, bool, bool);
        let rows = sqlx::query_as::<_, Row>(ALL_INSTANCES).fetch_all(&self.0.pool);
        let rows = bounded("all instances", rows).await?;
        let live = rows.iter().filter(|row| row.5).map(|row| Arc::from(row.1.as_str()));
        let members = Members { me: None, endpoints: live.collect() };
        let owned = |endpoint: &str| {
            let owns = |shard: &ShardId| members.owner_of(*shard).is_some_and(|owner| **owner == *endpoint);
            ShardId::all(shards).filter(owns).count() as u32
        };
        let instance = |(instance, endpoint, age_ms, leaving, fenced, live): Row| CellInstance {
            shards: if live { owned(&endpoint) } else { 0 },
            instance,
            endpoint,
            age_ms: age_ms.max(0) as u64,
            leaving,
            fenced,
            live,
        };
        Ok(rows.into_iter().map(instance).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARDS: u16 = 1_024;

    fn members(of: &[u16]) -> Members {
        let endpoint = |n: &u16| Arc::from(format!("http://10.0.0.{n}:8100"));
        Members { me: of.first().map(endpoint), endpoints: of.iter().map(endpoint).collect() }
    }

    fn owners(members: &Members) -> Vec<Arc<str>> {
        ShardId::all(SHARDS).map(|shard| members.owner_of(shard).unwrap().clone()).collect()
    }

    #[test]
    fn one_that_leaves_moves_its_own_shards_only() {
        let (before, after) = (owners(&members(&[1, 2, 3])), owners(&members(&[1, 3])));
        let left: Arc<str> = Arc::from("http://10.0.0.2:8100");
        let mut moved = 0;
        for (before, after) in before.iter().zip(&after) {
            if *before == left {
                moved += 1;
            } else {
                assert_eq!(before, after);
            }
        }
        // A third of them, give or take.
        assert!((SHARDS / 4..SHARDS / 2).contains(&moved), "{moved}");
    }

    #[test]
    fn every_shard_is_exactly_one_members_whoever_looks() {
        for shard in ShardId::all(SHARDS) {
            let mine = [[1, 2, 3], [2, 1, 3], [3, 1, 2]].iter().filter(|of| members(*of).place(shard) == Place::Mine);
            assert_eq!(mine.count(), 1);
        }
    }

    #[test]
    fn alone_everything_is_mine_and_with_nobody_live_nothing_is() {
        assert_eq!(Members::alone().place(ShardId(3)), Place::Mine);
        let none = Members { me: Some(Arc::from("http://a:1")), endpoints: BTreeSet::new() };
        assert_eq!(none.place(ShardId(3)), Place::Nobody);
        assert!(!none.has_others());
    }
}
