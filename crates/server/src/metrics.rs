//! What every HTTP service of ours counts.

use crate::verdict::label;
use cellar_model::{Refusal, TryAgain, Verdict};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteStatus {
    route: &'static str,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerdictLabel {
    verdict: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// Routes are named here, not by path: a path is the caller's, and labels must be bounded.
const ROUTES: [&str; 15] = [
    "consume",
    "admit",
    "batch",
    "reserve",
    "settle",
    "refund",
    "grant",
    "override",
    "quota",
    "usage",
    "users",
    "sessions",
    "profile",
    "preferences",
    "decide",
];
const VERDICTS: [&str; 6] = ["allowed", "replayed", "denied", "seen", "refused", "unknown"];

/// Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct HttpMetrics {
    requests: Family<RouteStatus, Counter>,
    seconds: Family<Route, Histogram>,
    verdicts: Family<VerdictLabel, Counter>,
    unknowns: Family<ReasonLabel, Counter>,
}

impl HttpMetrics {
    /// Registers every series, each at 0 from the start.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            requests: Family::default(),
            // From 0.1 ms, doubling, to 3.3 s.
            seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.000_1, 2.0, 16))),
            verdicts: Family::default(),
            unknowns: Family::default(),
        };
        for route in ROUTES {
            let _ = metrics.requests.get_or_create(&RouteStatus { route, status: 200 });
            let _ = metrics.seconds.get_or_create(&Route { route });
        }
        for verdict in VERDICTS {
            let _ = metrics.verdicts.get_or_create(&VerdictLabel { verdict });
        }
        for reason in TryAgain::ALL {
            let _ = metrics.unknowns.get_or_create(&ReasonLabel { reason: reason.label() });
        }
        let m = metrics.clone();
        registry.register("cellar_requests", "Requests answered, by route and status", m.requests);
        registry.register_with_unit(
            "cellar_request",
            "From a request's arrival to its answer",
            Unit::Seconds,
            m.seconds,
        );
        registry.register("cellar_verdicts", "Checks decided, by verdict", m.verdicts);
        registry.register("cellar_unknowns", "Checks answered 503, by reason", m.unknowns);
        metrics
    }

    pub fn request(&self, route: &'static str, status: u16, elapsed: Duration) {
        self.requests.get_or_create(&RouteStatus { route, status }).inc();
        self.seconds.get_or_create(&Route { route }).observe(elapsed.as_secs_f64());
    }

    pub fn verdict(&self, verdict: &Verdict) {
        self.verdicts.get_or_create(&VerdictLabel { verdict: label(verdict) }).inc();
        if let Verdict::Refused(Refusal::TryAgain { reason }) = verdict {
            self.unknowns.get_or_create(&ReasonLabel { reason: reason.label() }).inc();
        }
    }
}
