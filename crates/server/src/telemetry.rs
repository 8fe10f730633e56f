//! Logs, and traces when someone collects them.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Handle, Runtime};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// Spans of ours; a collector is not told of the libraries' own.
const SPANS: &str = "off,cellar_server=debug,cellar_router=debug,cellar_cell=debug,cellar_quota=debug,\
                     cellar_policy_host=debug,cellar_directory=debug";

/// Flushes what has not been exported when it goes.
pub struct Telemetry {
    export: Option<Export>,
}

struct Export {
    provider: SdkTracerProvider,
    runtime: Option<Runtime>,
}

impl Drop for Export {
    fn drop(&mut self) {
        // A collector that is away must not keep a process from ending.
        let _ = self.provider.shutdown_with_timeout(Duration::from_secs(1));
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("spans cannot be exported to that endpoint")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    #[error("the thread that exports spans cannot be started")]
    Runtime(#[from] std::io::Error),
}

/// Logs to standard error at `CELLAR_LOG` (default `info`), as lines or JSON; spans to an OTLP
/// collector when one is configured, and nowhere else.
pub fn init(service: &'static str, json: bool, otlp_endpoint: Option<&str>) -> Result<Telemetry, TelemetryError> {
    let filter = EnvFilter::try_from_env("CELLAR_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let lines = lines.with_ansi(std::io::stderr().is_terminal());
    let lines = if json { lines.json().boxed() } else { lines.boxed() };
    let export = otlp_endpoint.map(|endpoint| export(service, endpoint)).transpose()?;
    let spans = export.as_ref().map(|export| {
        let tracer = export.provider.tracer(service);
        tracing_opentelemetry::layer().with_tracer(tracer).with_filter(EnvFilter::new(SPANS))
    });
    // A second call in one process (tests) keeps the first one's.
    let _ = tracing_subscriber::registry().with(lines.with_filter(filter)).with(spans).try_init();
    Ok(Telemetry { export })
}

impl Telemetry {
    /// Whether spans go anywhere.
    pub fn exports(&self) -> bool {
        self.export.is_some()
    }
}

fn export(service: &'static str, endpoint: &str) -> Result<Export, TelemetryError> {
    // A thread of its own: at the end of the process, when the last spans are sent, the service's
    // runtime no longer turns.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let endpoint = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
    let exporter = opentelemetry_otlp::SpanExporter::builder().with_http().with_endpoint(endpoint).build()?;
    let exporter = OnRuntime { exporter: Arc::new(exporter), runtime: runtime.handle().clone() };
    let resource = opentelemetry_sdk::Resource::builder().with_service_name(service).build();
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
    Ok(Export { provider, runtime: Some(runtime) })
}

/// The SDK exports from a plain thread, and the HTTP client needs a runtime.
#[derive(Debug)]
struct OnRuntime {
    exporter: Arc<opentelemetry_otlp::SpanExporter>,
    runtime: Handle,
}

impl SpanExporter for OnRuntime {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let exporter = self.exporter.clone();
        let sent = self.runtime.spawn(async move { exporter.export(batch).await });
        sent.await.unwrap_or_else(|gone| Err(OTelSdkError::InternalFailure(gone.to_string())))
    }

    fn set_resource(&mut self, resource: &Resource) {
        // Nobody else holds it before the first export.
        if let Some(exporter) = Arc::get_mut(&mut self.exporter) {
            exporter.set_resource(resource);
        }
    }
}

/// The hop's span, a child of the caller's. Nothing is read or made when nobody collects spans.
pub fn request_span(headers: &HeaderMap) -> tracing::Span {
    let span = tracing::debug_span!("route.forward", otel.kind = "server");
    if !span.is_disabled() {
        // Without an exporter there is nothing to set.
        let _ = span.set_parent(extract(headers));
    }
    span
}

/// Writes the span's W3C context into headers.
pub fn inject(span: &tracing::Span, headers: &mut HeaderMap) {
    TraceContextPropagator::new().inject_context(&span.context(), &mut Headers(headers));
}

/// The W3C context that headers carry.
pub fn extract(headers: &HeaderMap) -> opentelemetry::Context {
    TraceContextPropagator::new().extract(&HeadersRef(headers))
}

struct Headers<'a>(&'a mut HeaderMap);

impl Injector for Headers<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(key.as_bytes()), HeaderValue::from_str(&value)) {
            self.0.insert(name, value);
        }
    }
}

struct HeadersRef<'a>(&'a HeaderMap);

impl Extractor for HeadersRef<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }
    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry::trace::{Span, Tracer};
    use std::io::{Read, Write};

    /// Goal: what was traced reaches the collector although the process ends at once.
    /// Method: a socket that answers like a collector; the exporter is dropped right after a span.
    #[test]
    fn the_last_spans_are_sent_before_the_end() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let collector = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 512];
            let read = stream.read(&mut head).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
            String::from_utf8_lossy(&head[..read]).into_owned()
        });
        let export = export("cellar-test", &endpoint).unwrap();
        export.provider.tracer("test").start("route.forward").end();
        drop(export);
        assert!(collector.join().unwrap().starts_with("POST /v1/traces "));
    }
}
