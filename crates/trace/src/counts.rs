//! What became of spans.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

/// Cheap to clone; all clones count together.
#[derive(Clone, Default)]
pub struct SpanCounts {
    /// Taken by the collector.
    pub exported: Counter,
    /// By [`SpanCounts::REASONS`].
    pub dropped: Family<[(&'static str, &'static str); 1], Counter>,
}

impl SpanCounts {
    /// Too many waited to be sent; or sent, and not taken: the collector is away, too slow, or said no.
    pub const REASONS: [&str; 2] = ["queue", "export"];

    pub fn dropped(&self, reason: &'static str) -> Counter {
        self.dropped.get_or_create_owned(&[("reason", reason)])
    }
}
