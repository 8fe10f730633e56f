//! Which spans have a trace to show beside a latency.

use cellar_metrics::{TraceLabel, current_trace, latency, trace_of};
use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use std::time::Instant;
use tracing_subscriber::layer::SubscriberExt;

/// What a span has for a trace under this sampler.
fn sampled_by(sampler: Sampler) -> Option<TraceLabel> {
    let provider = SdkTracerProvider::builder().with_sampler(sampler).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::with_default(subscriber, || {
        let span = tracing::info_span!("one");
        let inside = span.in_scope(current_trace);
        assert_eq!(inside, trace_of(&span));
        inside
    })
}

#[test]
fn only_a_sampled_span_has_a_trace_to_show() {
    assert!(sampled_by(Sampler::AlwaysOn).is_some_and(|trace| trace.0 != 0));
    assert_eq!(sampled_by(Sampler::AlwaysOff), None);
}

/// Goal: where nobody collects spans, counting shows no trace, and the look for one costs next to nothing: the figures
/// are printed.
#[test]
fn observations_of_spans_that_nobody_collects_show_no_trace() {
    const OBSERVED: u32 = 1_000_000;
    let (mut registry, took) = (Registry::default(), latency());
    registry.register("cellar_took", "How long", took.clone());
    let each = |observe: &dyn Fn()| {
        let began = Instant::now();
        (0..OBSERVED).for_each(|_| observe());
        began.elapsed() / OBSERVED
    };
    let span = tracing::Span::none();
    let bare = each(&|| took.observe(0.003, None, None));
    let looking = each(&|| took.observe(0.003, trace_of(&span), None));
    println!("an observation: {bare:?}; with a look at a span that nobody collects: {looking:?}");
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    assert!(text.contains("cellar_took_count 2000000\n") && !text.contains("trace_id"), "{text}");
}
