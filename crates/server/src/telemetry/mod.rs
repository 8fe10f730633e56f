//! What a process tells of itself besides its metrics: log lines, and spans when someone collects them.

mod export;
mod level;
mod lines;
mod logs;
mod metrics;
mod propagation;
mod repeats;
mod settings;

pub use level::{LevelError, LogLevel, log_level_routes};
pub use propagation::{RequestTracing, inject};
pub use settings::{OtlpProtocol, TelemetrySettings, TelemetrySettingsError};

use cellar_trace::{Sampling, SpanCounts, Tracer};
use export::Export;
use logs::LogCounts;
use prometheus_client::registry::Registry;

/// Sends what has not been sent, and writes what has not been written, when it goes.
pub struct Telemetry {
    tracer: Tracer,
    spans: SpanCounts,
    logs: LogCounts,
    level: LogLevel,
    lines: lines::Lines,
    /// Last, so that what its end has to say is written.
    export: Option<Export>,
}

#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("spans cannot be exported to otlp_endpoint")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    #[error("the thread that exports spans, or the one that writes log lines, cannot be started")]
    Thread(#[from] std::io::Error),
    #[error(transparent)]
    Settings(#[from] TelemetrySettingsError),
    #[error("CELLAR_LOG: {0}")]
    Level(#[from] LevelError),
}

/// Logs to standard error at `CELLAR_LOG` (default `info`), as lines or JSON; spans to an OTLP collector when one is
/// configured, and nowhere else. `service` is the kind of process, `name` which one of them it is.
pub fn init(service: &'static str, name: &str, settings: &TelemetrySettings) -> Result<Telemetry, TelemetryError> {
    settings.check()?;
    let (logs, spans) = (LogCounts::default(), SpanCounts::default());
    let lines = lines::Lines::start(logs.lost.clone())?;
    let level = logs::init(settings.log_json, lines.clone(), &logs)?;
    let (tracer, export) = match &settings.otlp_endpoint {
        None => (Tracer::off(), None),
        Some(endpoint) => {
            let sampling = Sampling::new(settings.trace_ratio, settings.trace_slow_ms)
                .map_err(TelemetrySettingsError::Sampling)?;
            let (tracer, parts) = Tracer::new(sampling, spans.clone());
            let to = export::Collector { endpoint, protocol: settings.otlp_protocol, service, name };
            (tracer, Some(Export::start(&to, parts, spans.clone())?))
        }
    };
    Ok(Telemetry { tracer, spans, logs, level, lines, export })
}

impl Telemetry {
    /// Off where no collector is configured.
    pub fn tracer(&self) -> Tracer {
        self.tracer.clone()
    }

    pub fn register(&self, registry: &mut Registry) {
        metrics::register(registry, &self.spans, &self.logs);
    }

    /// Which lines are written, and how that is changed.
    pub fn level(&self) -> LogLevel {
        self.level.clone()
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        drop(self.export.take());
        self.lines.flush();
    }
}
