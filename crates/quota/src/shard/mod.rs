//! A shard: one writer for its users, one loop, one batch after another.

mod allowances;
mod batch;
mod calls;
mod drains;
mod expiry;
#[cfg(test)]
mod histories;
mod late;
mod loads;
mod replicas;
mod serve;
mod stand_by;
mod sweep;
mod turn;
mod users;

use crate::compiled::CompiledSettings;
use crate::config::QuotaConfig;
use crate::decisions::Remembered;
use crate::entry::LedgerCheck;
use crate::entry::LedgerEntry;
use crate::journal::Journal;
use crate::membership::Membership;
use crate::metrics::{QuotaMetrics, ShardMetrics};
use crate::moments::Moments;
use crate::standing::Standing;
use crate::store::audit::Recall;
use crate::store::postgres::PostgresStore;
use crate::store::servers::Servers;
use crate::tail::{Months, Tail};
use crate::tiers::TierSet;
use allowances::Allowances;
pub(crate) use calls::replay;
use cellar_model::{Check, Fence, UserId, Verdict};
use cellar_policy_host::{Host, Stores};
use drains::PendingAck;
use replicas::Replicas;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use turn::Turned;

/// `point` modulo the cell's shard count; a Redis hash tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One check on its way through a shard. Dropped without an answer it is answered "unknown", so no
/// path can forget a caller.
pub(crate) struct Ask {
    pub(crate) check: Check,
    pub(crate) deadline: Instant,
    pub(crate) reply: oneshot::Sender<(Verdict, Moments)>,
    pub(crate) moments: Moments,
    /// The ledger has been asked for this check's key, or need not be.
    pub(crate) looked_up: bool,
    /// What the ledger has of the charge that the check closes, if it was asked.
    pub(crate) found: Option<Box<LedgerCheck>>,
    pub(crate) remembered: Remembered,
}

impl Ask {
    pub(crate) fn answer(mut self, verdict: Verdict) {
        self.remembered.answered(&self.check, &verdict);
        // The caller may have stopped waiting; his charge stands all the same.
        let _ = self.reply.send((verdict, self.moments));
    }
}

/// What a shard needs from the cell.
pub(crate) struct ShardParts {
    pub(crate) id: ShardId,
    /// One life of this process, random at start.
    pub(crate) owner: Arc<str>,
    pub(crate) config: Arc<QuotaConfig>,
    pub(crate) servers: Arc<Servers>,
    pub(crate) postgres: PostgresStore,
    pub(crate) host: Host,
    pub(crate) tiers: watch::Receiver<Arc<TierSet>>,
    pub(crate) metrics: QuotaMetrics,
    pub(crate) journal: Option<Journal>,
    /// Undrained entries, for the audit.
    pub(crate) undrained: Arc<AtomicU64>,
    pub(crate) membership: Membership,
    pub(crate) standing: Arc<Standing>,
    pub(crate) stop: CancellationToken,
}

/// The state of a shard's loop between turns.
pub(crate) struct Shard {
    parts: ShardParts,
    gauges: ShardMetrics,
    inbox: mpsc::Receiver<Ask>,
    /// Audits.
    recalls: mpsc::Receiver<Recall>,
    stores: Stores,
    compiled: CompiledSettings,
    /// Users whose reservations are due, on their way from Postgres.
    sweep: Option<oneshot::Receiver<Vec<UserId>>>,
    /// Taken from the inbox, not yet in a batch.
    ready: VecDeque<Ask>,
    /// What the fence last served under has not seen drained.
    tail: Option<(Fence, Tail)>,
    /// What this process alone may have of fences older than the last that was opened, until a turn that
    /// finishes has charged it, or it is handed over.
    orphans: Vec<LedgerEntry>,
    /// Calls to Redis that were not answered, by the fence they were sent under, for the next turn.
    unanswered: Vec<(Fence, LedgerEntry)>,
    /// The fence last served under, until this process has said that it has stopped.
    served: Option<Fence>,
    /// Turns in a row that broke on Redis: one that answers now and then is as good as none.
    redis_broke: u32,
    /// When the shard last went back to Redis.
    returned: Option<Instant>,
    /// Admissions that wait for Postgres.
    acks: VecDeque<PendingAck>,
    /// Admissions that wait for a replica.
    replicas: Replicas,
    months: Months,
    allowances: Allowances,
    /// Of the Redis that takes the commits, as of the last second.
    nearly_full: Arc<AtomicBool>,
}

impl Shard {
    pub(crate) fn new(parts: ShardParts, inbox: mpsc::Receiver<Ask>, recalls: mpsc::Receiver<Recall>) -> Self {
        let gauges = parts.metrics.shard(parts.id);
        let (journal, allowed) = (parts.journal.clone(), parts.metrics.allowed.clone());
        let allowances = Allowances::new(parts.id, journal, parts.config.users_max, allowed);
        let stores = Stores::serving(&parts.host);
        Self {
            parts,
            gauges,
            inbox,
            recalls,
            stores,
            compiled: CompiledSettings::default(),
            sweep: None,
            ready: VecDeque::new(),
            tail: None,
            orphans: Vec::new(),
            unanswered: Vec::new(),
            served: None,
            redis_broke: 0,
            returned: None,
            acks: VecDeque::new(),
            replicas: Replicas::default(),
            months: Months::default(),
            allowances,
            nearly_full: Arc::default(),
        }
    }

    /// While the shard is this process's own: turns and serves. Until told to stop; then drains what it
    /// holds.
    pub(crate) async fn run(mut self) {
        let mut cause = "start";
        loop {
            if !self.parts.membership.is_mine(self.parts.id) {
                if !self.stand_by().await {
                    break;
                }
                cause = "taken";
            }
            let open = match self.turn_until_open(cause).await {
                Turned::Open(open) => open,
                Turned::NotMine => continue,
                Turned::Stop => break,
            };
            self.served = Some(open.fence);
            let ended = self.serve(open).await;
            self.parts.standing.close();
            match ended {
                Some(next) => cause = next,
                None => break,
            }
            // Whatever the cause: the members say whether the next turn is this process's to take.
            self.parts.membership.refresh().await;
        }
        self.gauges.open.set(0);
        self.parts.standing.close();
        self.leave_behind().await;
    }
}
