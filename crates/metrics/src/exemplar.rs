//! Which trace this is, for whoever counts it.

use crate::latency::TraceLabel;
use opentelemetry::trace::TraceContextExt;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The current span's trace, if it is sampled. Where nobody collects spans this looks at nothing else, and
/// allocates nothing.
pub fn current_trace() -> Option<TraceLabel> {
    trace_of(&tracing::Span::current())
}

/// The same of a span at hand.
pub fn trace_of(span: &tracing::Span) -> Option<TraceLabel> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let span = context.span();
    let of = span.span_context();
    (of.is_valid() && of.is_sampled()).then(|| TraceLabel(u128::from_be_bytes(of.trace_id().to_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_that_nobody_collects_has_no_trace() {
        assert_eq!(trace_of(&tracing::Span::none()), None);
        assert_eq!(current_trace(), None);
    }
}
