//! What a router counts besides its requests.

use crate::route::Lost;
use cellar_metrics::{BoundedFamily, LabelOverflow};
use cellar_model::CellName;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;

/// Cells that have a series of their own: more than a topology of a hundred million users has.
const CELLS_SHOWN_MAX: usize = 512;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WhyLabel {
    why: &'static str,
}

/// Cheap to clone; all clones count together.
#[derive(Clone)]
pub(crate) struct RouterMetrics {
    /// Checks of one call to a cell.
    pub(crate) gathered: Histogram,
    /// Requests sent on to another cell than the first.
    pub(crate) followed: Counter,
    /// Requests sent on to another process of their cell.
    pub(crate) sent_on: Counter,
    /// Preferences shown as they were, because their cell did not answer.
    pub(crate) stale: Counter,
    /// Log-ins by password refused for the failures of their address.
    pub(crate) limited: Counter,
    /// Users signed up by their first sight.
    pub(crate) enrolled: Counter,
    /// Users known to live off the ring.
    pub(crate) exceptions: Gauge,
    /// Since topology and catalog were last read.
    pub(crate) directory_age_s: Gauge<f64, AtomicU64>,
    /// Rows of the catalog that this build cannot read.
    pub(crate) rows_unread: Gauge,
    failures: BoundedFamily<1, Counter>,
    lost: Family<WhyLabel, Counter>,
}

impl RouterMetrics {
    /// Registers every series, each at 0 from the start; those by cell from the moment the topology
    /// names the cell, as long as it does.
    pub(crate) fn register(registry: &mut Registry, overflow: &LabelOverflow) -> Self {
        let metrics = Self {
            // 1 to 1,024 checks.
            gathered: Histogram::new(exponential_buckets(1.0, 2.0, 11)),
            followed: Counter::default(),
            sent_on: Counter::default(),
            stale: Counter::default(),
            limited: Counter::default(),
            enrolled: Counter::default(),
            exceptions: Gauge::default(),
            directory_age_s: Gauge::default(),
            rows_unread: Gauge::default(),
            failures: BoundedFamily::new(["cell"], CELLS_SHOWN_MAX, overflow.of("cellar_cell_failures")),
            lost: Family::default(),
        };
        for why in Lost::ALL {
            metrics.lost.get_or_create_owned(&WhyLabel { why: why.label() });
        }
        let m = metrics.clone();
        registry.register("cellar_gathered_checks", "Checks of one call to a cell", m.gathered);
        registry.register("cellar_redirects", "Requests sent on to another cell", m.followed);
        registry.register("cellar_instance_redirects", "Requests sent on to another process of a cell", m.sent_on);
        registry.register("cellar_stale_preferences", "Preferences shown while their cell did not answer", m.stale);
        let limited = "Log-ins by password refused because too many from their address had failed";
        registry.register("cellar_log_ins_limited_by_address", limited, m.limited);
        registry.register("cellar_enrolments", "Users signed up by the first request for them", m.enrolled);
        registry.register("cellar_exceptions", "Users known to live off the ring", m.exceptions);
        let age = "Since topology and catalog were last read";
        registry.register_with_unit("cellar_directory_age", age, Unit::Seconds, m.directory_age_s);
        let unread = "Rows of the catalog that this build cannot read: a key that stands in one is none";
        registry.register("cellar_catalog_rows_unread", unread, m.rows_unread);
        registry.register("cellar_cell_failures", "Requests and checks that a cell did not answer", m.failures);
        registry.register("cellar_lost_requests", "Requests whose user no cell served", m.lost);
        metrics
    }

    pub(crate) fn lost(&self, why: &'static str) {
        self.lost.get_or_create_owned(&WhyLabel { why }).inc();
    }

    /// A cell's own counter of requests and checks that it did not answer.
    pub(crate) fn failures_of(&self, cell: &CellName) -> Counter {
        self.failures.get([&cell.to_string()])
    }

    /// Only these cells are there.
    pub(crate) fn cells_are(&self, named: impl Fn(&str) -> bool) {
        self.failures.retain(|[cell]| named(cell));
    }
}
