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
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
    use tracing_subscriber::layer::SubscriberExt;

    /// What a span has for a trace under this sampler.
    fn sampled_by(sampler: Sampler) -> Option<TraceLabel> {
        let provider = SdkTracerProvider::builder().with_sampler(sampler).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || tracing::info_span!("one").in_scope(current_trace))
    }

    #[test]
    fn only_a_sampled_span_has_a_trace_to_show() {
        assert!(sampled_by(Sampler::AlwaysOn).is_some_and(|trace| trace.0 != 0));
        assert_eq!(sampled_by(Sampler::AlwaysOff), None);
    }

    #[test]
    fn a_span_that_nobody_collects_has_no_trace() {
        assert_eq!(trace_of(&tracing::Span::none()), None);
        assert_eq!(current_trace(), None);
    }
}
