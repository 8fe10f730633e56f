//! Spans on their way to a collector.

use super::TelemetryError;
use super::settings::OtlpProtocol;
use cellar_trace::{Kind, Part, PartQueue, Span, SpanCounts, Value};
use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter, SpanLinks};
use std::sync::mpsc as std_mpsc;
use std::time::{Duration, Instant, SystemTime};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Spans of one message: some 150 KB.
const BATCH_SPANS: usize = 512;
/// Parts taken from the queue at once.
const BATCH_PARTS: usize = 128;
/// For so long what is to be sent gathers.
const GATHER: Duration = Duration::from_millis(500);
/// A collector that takes longer has not taken it.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// For so long a process that ends waits for what has not been sent.
const END_MAX: Duration = Duration::from_secs(1);

/// Where spans go, and from whom they are.
pub(super) struct Collector<'c> {
    pub(super) endpoint: &'c str,
    pub(super) protocol: OtlpProtocol,
    pub(super) service: &'static str,
    pub(super) name: &'c str,
}

/// A thread of its own, with a runtime of its own: a collector that is slow costs the service nothing, and the last
/// spans are sent when the service's runtime no longer turns.
pub(super) struct Export {
    stop: CancellationToken,
    ended: std_mpsc::Receiver<()>,
}

impl Export {
    pub(super) fn start(to: &Collector<'_>, parts: PartQueue, counts: SpanCounts) -> Result<Self, TelemetryError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let exporter = {
            // A channel is made inside of the runtime that will turn it.
            let _inside = runtime.enter();
            exporter(to)?
        };
        let stop = CancellationToken::new();
        let (ends, ended) = std_mpsc::sync_channel(1);
        let scope = InstrumentationScope::builder(to.service).with_version(env!("CARGO_PKG_VERSION")).build();
        let sender = Sender { exporter, scope, counts, batch: Vec::with_capacity(BATCH_SPANS) };
        let stopped = stop.clone();
        std::thread::Builder::new().name("spans".into()).spawn(move || {
            runtime.block_on(sender.run(parts, stopped));
            // A process that does not wait any more is over.
            let _ = ends.send(());
            runtime.shutdown_background();
        })?;
        Ok(Self { stop, ended })
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        self.stop.cancel();
        // A collector that is away must not keep a process from ending.
        let _ = self.ended.recv_timeout(END_MAX);
    }
}

fn exporter(to: &Collector<'_>) -> Result<opentelemetry_otlp::SpanExporter, TelemetryError> {
    let builder = opentelemetry_otlp::SpanExporter::builder();
    let mut exporter = match to.protocol {
        OtlpProtocol::Http => {
            let endpoint = format!("{}/v1/traces", to.endpoint.trim_end_matches('/'));
            builder.with_http().with_endpoint(endpoint).with_timeout(ANSWER_MAX).build()?
        }
        OtlpProtocol::Grpc => builder.with_tonic().with_endpoint(to.endpoint).with_timeout(ANSWER_MAX).build()?,
    };
    let resource = Resource::builder_empty()
        .with_service_name(to.service)
        .with_attribute(KeyValue::new("service.instance.id", to.name.to_owned()))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    exporter.set_resource(&resource);
    Ok(exporter)
}

struct Sender {
    exporter: opentelemetry_otlp::SpanExporter,
    scope: InstrumentationScope,
    counts: SpanCounts,
    batch: Vec<SpanData>,
}

impl Sender {
    /// Until told to stop; then sends what waits.
    async fn run(mut self, mut parts: PartQueue, stop: CancellationToken) {
        loop {
            tokio::select! {
                more = self.take(&mut parts) => if !more { return },
                () = stop.cancelled() => break,
            }
            self.gather(&mut parts, &stop).await;
            self.send().await;
        }
        parts.close();
        while self.take(&mut parts).await {
            self.send().await;
        }
    }

    /// Takes what waits, or waits for it. False: nothing will come any more.
    async fn take(&mut self, parts: &mut PartQueue) -> bool {
        let mut taken: Vec<Part> = Vec::new();
        let more = parts.recv_many(&mut taken, BATCH_PARTS).await > 0;
        let clocks = (Instant::now(), wall_clock());
        self.batch.extend(taken.into_iter().flatten().map(|span| data(span, clocks, &self.scope)));
        more
    }

    async fn gather(&mut self, parts: &mut PartQueue, stop: &CancellationToken) {
        let until = tokio::time::Instant::now() + GATHER;
        while self.batch.len() < BATCH_SPANS {
            tokio::select! {
                more = self.take(parts) => if !more { return },
                () = tokio::time::sleep_until(until) => return,
                () = stop.cancelled() => return,
            }
        }
    }

    async fn send(&mut self) {
        while !self.batch.is_empty() {
            let rest = self.batch.split_off(self.batch.len().min(BATCH_SPANS));
            let batch = std::mem::replace(&mut self.batch, rest);
            let spans = batch.len() as u64;
            match timeout(ANSWER_MAX, self.exporter.export(batch)).await {
                Ok(Ok(())) => _ = self.counts.exported.inc_by(spans),
                Ok(Err(error)) => {
                    self.counts.dropped("export").inc_by(spans);
                    tracing::warn!(error = %error, spans, "the collector did not take spans");
                }
                Err(_) => {
                    self.counts.dropped("export").inc_by(spans);
                    tracing::warn!(spans, "the collector did not answer");
                }
            }
        }
    }
}

/// Collectors order what several machines did by the time of day.
#[expect(clippy::disallowed_methods, reason = "a span's time of day is shown, and nothing is decided by it")]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

/// As the exporter takes it. `clocks` is one moment by both clocks.
fn data(span: Span, (now, wall): (Instant, SystemTime), scope: &InstrumentationScope) -> SpanData {
    let at = |moment: Instant| wall - now.saturating_duration_since(moment);
    let context = |trace: cellar_model::TraceId, id: cellar_model::SpanId| {
        let (trace, id) = (TraceId::from(trace.0), SpanId::from(id.0));
        SpanContext::new(trace, id, TraceFlags::SAMPLED, false, TraceState::default())
    };
    let attribute = |(name, value): (&'static str, Value)| match value {
        Value::Number(number) => KeyValue::new(name, number),
        Value::Word(word) => KeyValue::new(name, word),
    };
    let mut links = SpanLinks::default();
    links.links = span.links.into_iter().map(|(trace, id)| Link::with_context(context(trace, id))).collect();
    SpanData {
        span_context: context(span.trace, span.id),
        parent_span_id: span.parent.map_or(SpanId::INVALID, |parent| SpanId::from(parent.0)),
        parent_span_is_remote: span.parent_is_remote,
        span_kind: match span.kind {
            Kind::Server => SpanKind::Server,
            Kind::Client => SpanKind::Client,
            Kind::Internal => SpanKind::Internal,
        },
        name: span.name.into(),
        start_time: at(span.began),
        end_time: at(span.ended),
        attributes: span.attributes.into_iter().map(attribute).collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links,
        status: span.failed.map_or(Status::Unset, Status::error),
        instrumentation_scope: scope.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellar_trace::{Begun, Hop, Outcome, Sampling, Tracer};
    use std::io::{Read, Write};
    use std::net::TcpListener;

    fn export(endpoint: &str) -> (Export, Tracer, SpanCounts) {
        let counts = SpanCounts::default();
        let (tracer, parts) = Tracer::new(Sampling::new(1.0, 20).unwrap(), counts.clone());
        let to = Collector { endpoint, protocol: OtlpProtocol::Http, service: "cellar-test", name: "test" };
        (Export::start(&to, parts, counts.clone()).unwrap(), tracer, counts)
    }

    fn one_span(tracer: &Tracer) {
        Begun::new(tracer, Some(Hop::server("route.forward")), None, None).end(Outcome::default());
    }

    /// Goal: what was traced reaches the collector although the process ends at once.
    /// Method: a socket that answers like a collector; the exporter is dropped right after a span.
    #[test]
    fn the_last_spans_are_sent_before_the_end() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let collector = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 512];
            let read = stream.read(&mut head).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
            String::from_utf8_lossy(&head[..read]).into_owned()
        });
        let (export, tracer, _) = export(&endpoint);
        one_span(&tracer);
        drop(export);
        assert!(collector.join().unwrap().starts_with("POST /v1/traces "));
    }

    /// Goal: a collector that is not there is counted, and holds up nothing.
    #[test]
    fn what_a_collector_does_not_take_is_counted() {
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (export, tracer, counts) = export(&format!("http://{closed}"));
        one_span(&tracer);
        drop(export);
        assert_eq!((counts.exported.get(), counts.dropped("export").get()), (0, 1));
    }
}
