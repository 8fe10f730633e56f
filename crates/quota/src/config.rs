//! The bounds of the engine, each with its reason.

use crate::clock::Clock;
use cellar_model::{CellName, Secret};
use cellar_trace::Tracer;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug)]
pub struct QuotaConfig {
    pub cell: CellName,
    /// Fixed when the cell is made: it decides which hash tag and which ledger a user is in.
    pub shards: u16,
    pub redis_url: Secret,
    /// Accept an append-only file that is not flushed at every write. Every answer says so.
    pub allow_unsafe_ack: bool,
    pub clock: Clock,
    /// Where routers reach this process, one of several of the cell. None: it is the only one, proven by
    /// the lock on the cell's folder, and owns every shard.
    pub endpoint: Option<String>,
    /// This life of the process, and those before it in the same folder, whose lock proves them dead.
    pub life: String,
    pub earlier_lives: Vec<String>,

    /// Checks waiting for one shard's loop. Full means certain refusal, at once.
    pub queue_max: usize,
    /// Checks that share one call. Larger means fewer calls and a longer wait for the unlucky.
    pub batch_max: usize,
    /// Calls in flight a shard: one to be executed while the next is being built.
    pub calls_max: usize,
    /// Checks of one user in one commit: a hot user must not fill a batch, and those left over are looked at
    /// again after each (decision 11).
    pub user_batch_max: usize,
    /// Users whose record a shard keeps in memory; a record is about half a kilobyte.
    pub users_max: usize,
    /// A call unanswered for this long is never repeated: the shard takes a turn.
    pub store_timeout: Duration,
    /// For so long may an admission wait for a replica, where its tier asks for one; shorter than the
    /// deadline most callers have, so that they hear that it is unknown instead of nothing.
    pub replica_wait: Duration,
    /// A ledger transaction gathers for this long.
    pub drain_gather: Duration,
    /// Entries of one ledger transaction.
    pub drain_max: usize,
    /// Undrained entries or age above which admissions are answered by Postgres only.
    pub undrained_max: usize,
    pub undrained_age_max: Duration,
    /// Undrained entries above which the shard takes no more, Postgres away or not.
    pub tail_max: usize,
    /// For so long after Postgres last confirmed the fence may the shard go on without it.
    pub autonomy: Duration,
    /// Between returns to Redis: one that comes and goes must not close the shard again and again.
    pub return_pause: Duration,
    /// Where charges are kept that tiers allow while no store can be asked; none: nothing is allowed then.
    pub journal: Option<PathBuf>,
    /// Exported months of the ledger go when they are so many months behind; none: they stay.
    pub retention_months: Option<u32>,
    /// Who collects spans of checks.
    pub tracer: Tracer,
}

impl QuotaConfig {
    /// Whether no other process can be serving the cell.
    pub(crate) fn sole_process(&self) -> bool {
        self.endpoint.is_none()
    }

    pub fn new(cell: CellName, shards: u16, redis_url: Secret, clock: Clock) -> Self {
        Self {
            cell,
            shards,
            redis_url,
            allow_unsafe_ack: false,
            clock,
            endpoint: None,
            life: hex::encode(rand::random::<[u8; 12]>()),
            earlier_lives: Vec::new(),
            queue_max: 4_096,
            batch_max: 256,
            calls_max: 2,
            user_batch_max: 128,
            users_max: 50_000,
            store_timeout: Duration::from_secs(2),
            replica_wait: Duration::from_millis(300),
            drain_gather: Duration::from_millis(50),
            drain_max: 5_000,
            undrained_max: 5_000,
            undrained_age_max: Duration::from_millis(250),
            tail_max: 200_000,
            autonomy: Duration::from_secs(120),
            return_pause: Duration::from_secs(60),
            journal: None,
            retention_months: None,
            tracer: Tracer::off(),
        }
    }
}
