//! What of the catalog does not decide here.

use super::verifier::Refused;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Of a component that the host does not let in.
pub(super) const GATE: &str = "gate";

#[derive(Clone, Default)]
pub(crate) struct CatalogMetrics {
    refused: Family<[(&'static str, &'static str); 1], Counter>,
    pub(super) tiers_unfit: Gauge,
    pub(super) rows_unread: Gauge,
}

impl CatalogMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        for reason in Refused::labels().chain([GATE]) {
            self.refused.get_or_create(&[("reason", reason)]).inc_by(0);
        }
        registry.register(
            "cellar_policy_refused",
            "Versions of policies that this cell does not decide by, by what speaks against them",
            self.refused.clone(),
        );
        registry.register(
            "cellar_catalog_tiers_unfit",
            "Tiers that are not in force as the catalog has them: their predecessor decides, or nothing",
            self.tiers_unfit.clone(),
        );
        registry.register(
            "cellar_catalog_rows_unread",
            "Rows of the catalog that this build cannot read: what they stand for is left as it was, or out",
            self.rows_unread.clone(),
        );
    }

    pub(super) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&[("reason", reason)]).inc();
    }
}
