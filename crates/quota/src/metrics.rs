//! What the engine counts. Labels are bounded: shards, tiers of the catalog, fixed words. What is counted of
//! policies is in `rollout/metrics.rs`.

use crate::noticed::Noticed;
use crate::shard::ShardId;
use cellar_metrics::{Age, BoundedFamily, LATENCY_BOUNDS_S, LabelOverflow, Latency, latency};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct ShardLabel {
    shard: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct CauseLabel {
    pub(crate) cause: &'static str,
}

/// Tiers that have series of their own. A catalog has a handful; each has as many series as there are words for
/// what is counted of it.
pub(crate) const TIERS_SHOWN_MAX: usize = 64;
/// The tier of a user who is not in memory.
pub(crate) const UNKNOWN_TIER: &str = "unknown";

/// Why a shard took a turn.
pub(crate) const TURN_CAUSES: [&str; 8] = ["start", "unanswered", "fenced", "redis", "back", "late", "moved", "taken"];

/// Cheap to clone: all clones count together.
#[derive(Clone)]
pub struct QuotaMetrics {
    undrained: Family<ShardLabel, Gauge>,
    undrained_age: Family<ShardLabel, Age>,
    pub(crate) undrained_max: Gauge,
    fence: Family<ShardLabel, Gauge>,
    open: Family<ShardLabel, Gauge>,
    on_postgres: Family<ShardLabel, Gauge>,
    users: Family<ShardLabel, Gauge>,
    pub(crate) turns: Family<CauseLabel, Counter>,
    pub(crate) replays: Counter,
    pub(crate) late: Counter,
    pub(crate) batch_checks: Histogram,
    pub(crate) commit_seconds: Latency,
    pub(crate) drain_seconds: Histogram,
    pub(crate) drain_failures: Counter,
    pub(crate) replica_seconds: Histogram,
    pub(crate) unreplicated: Counter,
    pub(crate) clock_disputed: Gauge,
    pub(crate) allowed: Counter,
    pub(crate) journaled: Gauge,
    pub(crate) shed: BoundedFamily<1, Counter>,
    /// No series: what conditions are made of.
    pub(crate) noticed: Noticed,
}

fn seconds() -> Histogram {
    Histogram::new(LATENCY_BOUNDS_S)
}

impl QuotaMetrics {
    /// Registers every series, each at 0 from the start; those by tier, with [`crate::rollout::register`], from the
    /// moment the tier is in force.
    pub fn register(registry: &mut Registry, overflow: &LabelOverflow, shards: u16) -> Self {
        let metrics = Self {
            undrained: Family::default(),
            undrained_age: Family::default(),
            undrained_max: Gauge::default(),
            fence: Family::default(),
            open: Family::default(),
            on_postgres: Family::default(),
            users: Family::default(),
            turns: Family::default(),
            replays: Counter::default(),
            late: Counter::default(),
            batch_checks: Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(1.0, 2.0, 10)),
            commit_seconds: latency(),
            drain_seconds: seconds(),
            drain_failures: Counter::default(),
            replica_seconds: seconds(),
            unreplicated: Counter::default(),
            clock_disputed: Gauge::default(),
            allowed: Counter::default(),
            journaled: Gauge::default(),
            shed: BoundedFamily::new(["tier"], TIERS_SHOWN_MAX, overflow.of("cellar_quota_shed")),
            noticed: Noticed::default(),
        };
        for shard in 0..shards {
            for family in [&metrics.undrained, &metrics.fence, &metrics.open, &metrics.on_postgres, &metrics.users] {
                let _ = family.get_or_create(&ShardLabel { shard: u32::from(shard) });
            }
            let _ = metrics.undrained_age.get_or_create(&ShardLabel { shard: u32::from(shard) });
        }
        for cause in TURN_CAUSES {
            let _ = metrics.turns.get_or_create(&CauseLabel { cause });
        }
        let m = metrics.clone();
        registry.register(
            "cellar_quota_undrained_entries",
            "Ledger entries that Postgres does not hold yet",
            m.undrained,
        );
        registry.register_with_unit(
            "cellar_quota_undrained_age",
            "For how long the oldest ledger entry has waited that Postgres does not hold yet; 0 without one",
            Unit::Seconds,
            m.undrained_age,
        );
        registry.register(
            "cellar_quota_undrained_entries_max",
            "Undrained entries of a shard above which admissions wait for Postgres: what can be lost at most with the process and Redis",
            m.undrained_max,
        );
        registry.register("cellar_quota_fence", "Turns of the shard", m.fence);
        registry.register("cellar_quota_shard_open", "1 while the shard serves", m.open);
        registry.register(
            "cellar_quota_on_postgres",
            "1 while Redis is away and Postgres takes the shard's commits",
            m.on_postgres,
        );
        registry.register("cellar_quota_late_charges", "Charges of older fences, charged by a turn", m.late);
        registry.register("cellar_quota_users_in_memory", "Records the shard keeps in memory", m.users);
        registry.register("cellar_quota_turns", "Turns taken, by cause", m.turns);
        registry.register("cellar_quota_replays", "Checks answered with their first answer", m.replays);
        registry.register("cellar_quota_batch_checks", "Checks that shared one commit", m.batch_checks);
        registry.register_with_unit(
            "cellar_quota_commit",
            "From sending a commit to its answer",
            Unit::Seconds,
            m.commit_seconds,
        );
        registry.register_with_unit("cellar_quota_drain", "One ledger transaction", Unit::Seconds, m.drain_seconds);
        registry.register("cellar_quota_drain_failures", "Ledger transactions that failed", m.drain_failures);
        registry.register_with_unit(
            "cellar_quota_replica_wait",
            "From asking whether a replica has what is committed to the answer",
            Unit::Seconds,
            m.replica_seconds,
        );
        registry.register(
            "cellar_quota_unreplicated_admissions",
            "Admissions of tiers with ack = replica that were answered 503, for no replica had them in time",
            m.unreplicated,
        );
        registry.register(
            "cellar_quota_allowed_unavailable",
            "Checks allowed by their tier's on_unavailable, while no store could be asked",
            m.allowed,
        );
        registry.register(
            "cellar_quota_journal_entries",
            "Charges allowed while no store could be asked, that only this process's disk has",
            m.journaled,
        );
        registry.register(
            "cellar_clock_disputed",
            "1 while this machine's wall clock is not believed: no other of the cell's clocks agrees with it",
            m.clock_disputed,
        );
        metrics
    }

    fn of<M: Clone + Default>(family: &Family<ShardLabel, M>, shard: ShardId) -> M {
        family.get_or_create_owned(&ShardLabel { shard: u32::from(shard.0) })
    }

    pub(crate) fn shard(&self, shard: ShardId) -> ShardMetrics {
        ShardMetrics {
            undrained: Self::of(&self.undrained, shard),
            undrained_age: Self::of(&self.undrained_age, shard),
            fence: Self::of(&self.fence, shard),
            open: Self::of(&self.open, shard),
            on_postgres: Self::of(&self.on_postgres, shard),
            users: Self::of(&self.users, shard),
        }
    }
}

/// One shard's gauges, looked up once.
#[derive(Clone)]
pub(crate) struct ShardMetrics {
    pub(crate) undrained: Gauge,
    pub(crate) undrained_age: Age,
    pub(crate) fence: Gauge,
    pub(crate) open: Gauge,
    pub(crate) on_postgres: Gauge,
    pub(crate) users: Gauge,
}
