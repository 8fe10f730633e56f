//! What a router counts besides its requests.

use crate::call::CallError;
use cellar_model::CellName;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    cell: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PoolLabel {
    pool: &'static str,
}

/// The word for a call's end in metrics.
fn outcome(error: Option<&CallError>) -> &'static str {
    match error {
        None => "answered",
        Some(CallError::NotSent) => "not-sent",
        Some(CallError::Lost) => "lost",
        Some(CallError::Rejected) => "rejected",
    }
}

/// Calls of `decide`, by cell. Cheap to clone; all clones count together.
#[derive(Clone)]
pub(crate) struct CallMetrics {
    calls: Family<CallLabels, Counter>,
    checks: Histogram,
}

impl CallMetrics {
    pub(crate) fn call(&self, cell: &CellName, checks: usize, error: Option<&CallError>) {
        self.calls.get_or_create(&CallLabels { cell: cell.to_string(), outcome: outcome(error) }).inc();
        self.checks.observe(checks as f64);
    }

    /// A cell's series, at 0 before its first call.
    pub(crate) fn know(&self, cell: &CellName) {
        for outcome in ["answered", "not-sent", "lost", "rejected"] {
            let _ = self.calls.get_or_create(&CallLabels { cell: cell.to_string(), outcome });
        }
    }
}

#[derive(Clone)]
pub(crate) struct RouterMetrics {
    pub(crate) calls: CallMetrics,
    /// 421s that were followed.
    pub(crate) redirects: Counter,
    /// Users whose home could not be found although a cell said: not here.
    pub(crate) lost_ways: Counter,
    pub(crate) directory_reads: Counter,
    pub(crate) directory_failures: Counter,
    pub(crate) exceptions: Gauge,
    /// Seconds since topology and catalog were last read.
    pub(crate) directory_age: Gauge<f64, AtomicU64>,
    pub(crate) plaintext: Gauge,
    pool_in_use: Family<PoolLabel, Gauge>,
    pool_max: Family<PoolLabel, Gauge>,
}

impl RouterMetrics {
    /// Registers every series, each at 0 from the start.
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            calls: CallMetrics {
                calls: Family::default(),
                // 1 to 1,024 checks.
                checks: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            },
            redirects: Counter::default(),
            lost_ways: Counter::default(),
            directory_reads: Counter::default(),
            directory_failures: Counter::default(),
            exceptions: Gauge::default(),
            directory_age: Gauge::default(),
            plaintext: Gauge::default(),
            pool_in_use: Family::default(),
            pool_max: Family::default(),
        };
        let m = metrics.clone();
        registry.register("cellar_cell_calls", "Calls of decide, by cell and outcome", m.calls.calls);
        registry.register("cellar_cell_call_checks", "Checks of a call of decide", m.calls.checks);
        registry.register("cellar_redirects", "421s followed to another cell", m.redirects);
        registry.register("cellar_lost_ways", "Requests whose user's home was not found", m.lost_ways);
        registry.register("cellar_directory_reads", "Look-ups of users in the directory", m.directory_reads);
        registry.register("cellar_directory_failures", "Reads of the directory that failed", m.directory_failures);
        registry.register("cellar_exceptions", "Users known to live off the ring", m.exceptions);
        let age = "Since topology and catalog were last read";
        registry.register_with_unit("cellar_directory_age", age, Unit::Seconds, m.directory_age);
        registry.register("cellar_plaintext_allowed", "1 if listening beyond loopback without TLS", m.plaintext);
        registry.register("db_connection_pool_in_use", "Connections in use", m.pool_in_use);
        registry.register("db_connection_pool_max", "Connections there can be", m.pool_max);
        metrics.pool(0, 0);
        metrics
    }

    pub(crate) fn pool(&self, in_use: u32, max: u32) {
        let label = PoolLabel { pool: "directory" };
        self.pool_in_use.get_or_create(&label).set(in_use.into());
        self.pool_max.get_or_create(&label).set(max.into());
    }
}
