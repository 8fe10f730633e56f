//! What an operator says of spans and log lines.

use cellar_trace::{Sampling, SamplingError};
use serde::Deserialize;

/// How a collector is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OtlpProtocol {
    /// Protobuf over HTTP/1.1, usually at port 4318.
    #[default]
    Http,
    /// Usually at port 4317.
    Grpc,
}

#[derive(Clone, Debug)]
pub struct TelemetrySettings {
    pub log_json: bool,
    /// Where spans go: `http://host:port`. None: nowhere.
    pub otlp_endpoint: Option<String>,
    pub otlp_protocol: OtlpProtocol,
    /// Of the requests that begin a trace here, the part that is exported whatever comes of them: 0 to 1.
    pub trace_ratio: f64,
    /// One that takes at least as many milliseconds is exported: 1 to 60,000.
    pub trace_slow_ms: u32,
}

impl TelemetrySettings {
    pub fn trace_ratio_default() -> f64 {
        Sampling::RATIO_DEFAULT
    }

    pub fn trace_slow_ms_default() -> u32 {
        Sampling::SLOW_MS_DEFAULT
    }

    /// What types cannot say.
    ///
    /// # Errors
    /// The setting that is not fit, by its name.
    pub fn check(&self) -> Result<(), TelemetrySettingsError> {
        Sampling::new(self.trace_ratio, self.trace_slow_ms).map_err(TelemetrySettingsError::Sampling)?;
        let Some(endpoint) = &self.otlp_endpoint else { return Ok(()) };
        let uri: http::Uri = endpoint.parse().map_err(|_| TelemetrySettingsError::Endpoint)?;
        if uri.scheme_str() != Some("http") || uri.port_u16().is_none() || uri.query().is_some() {
            return Err(TelemetrySettingsError::Endpoint);
        }
        if self.otlp_protocol == OtlpProtocol::Grpc && !matches!(uri.path(), "" | "/") {
            return Err(TelemetrySettingsError::GrpcPath);
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TelemetrySettingsError {
    #[error("otlp_endpoint must be http://host:port of a collector; it is not spoken to over TLS")]
    Endpoint,
    #[error("otlp_endpoint has a path, and otlp_protocol = \"grpc\" has none")]
    GrpcPath,
    #[error(transparent)]
    Sampling(#[from] SamplingError),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(endpoint: &str, otlp_protocol: OtlpProtocol) -> Result<(), TelemetrySettingsError> {
        let otlp_endpoint = Some(endpoint.to_owned());
        TelemetrySettings { log_json: false, otlp_endpoint, otlp_protocol, trace_ratio: 0.1, trace_slow_ms: 20 }.check()
    }

    #[test]
    fn an_endpoint_that_cannot_be_one_is_refused() {
        assert_eq!(check("http://127.0.0.1:4318", OtlpProtocol::Http), Ok(()));
        assert_eq!(check("http://collector:4318/prefix", OtlpProtocol::Http), Ok(()));
        assert_eq!(check("http://127.0.0.1:4317/", OtlpProtocol::Grpc), Ok(()));
        assert_eq!(check("http://127.0.0.1:4317/x", OtlpProtocol::Grpc), Err(TelemetrySettingsError::GrpcPath));
        for bad in ["", "collector:4317", "https://collector:4317", "http://collector", "http://collector:4318?x"] {
            assert_eq!(check(bad, OtlpProtocol::Http), Err(TelemetrySettingsError::Endpoint), "{bad}");
        }
    }
}
