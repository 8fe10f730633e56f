//! What spans and log lines are counted by.

use super::logs::LogCounts;
use super::repeats::KINDS;
use cellar_trace::SpanCounts;
use prometheus_client::registry::Registry;

/// Registers every series, each at 0 from the start.
pub(super) fn register(registry: &mut Registry, spans: &SpanCounts, logs: &LogCounts) {
    for reason in SpanCounts::REASONS {
        let _ = spans.dropped(reason);
    }
    for kind in KINDS {
        let _ = logs.suppressed.get_or_create(&[("kind", kind)]);
    }
    let (exported, dropped) = (spans.exported.clone(), spans.dropped.clone());
    registry.register("cellar_spans_exported", "Spans that the collector has taken", exported);
    registry.register("cellar_spans_dropped", "Spans that no collector has, by why", dropped);
    let (suppressed, lost) = (logs.suppressed.clone(), logs.lost.clone());
    registry.register(
        "cellar_log_lines_suppressed",
        "Log lines left out because there were many of a kind",
        suppressed,
    );
    registry.register("cellar_log_lines_lost", "Log lines that could not be written", lost);
}
