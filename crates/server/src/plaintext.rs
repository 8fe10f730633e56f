//! Listeners that others than this machine can reach, while nothing speaks TLS.

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::net::SocketAddr;

/// The listeners beyond loopback. Only `allow_plaintext` lets a process have any, and never quietly:
/// they are said at start, in the metrics and at `/readyz`.
#[derive(Clone, Debug)]
pub struct Plaintext {
    exposed: Vec<SocketAddr>,
}

impl Plaintext {
    pub fn of(listeners: &[SocketAddr]) -> Self {
        Self { exposed: listeners.iter().copied().filter(|addr| !addr.ip().is_loopback()).collect() }
    }

    pub fn is_none(&self) -> bool {
        self.exposed.is_empty()
    }

    /// Says each of them in the log, and their number in `cellar_plaintext_listeners`.
    pub(crate) fn announce(&self, registry: &mut Registry) {
        for addr in &self.exposed {
            tracing::warn!(%addr, "listening beyond this machine without TLS, as allow_plaintext says");
        }
        let listeners = Gauge::<i64>::default();
        listeners.set(i64::try_from(self.exposed.len()).unwrap_or(i64::MAX));
        let help = "Listeners beyond this machine without TLS";
        registry.register("cellar_plaintext_listeners", help, listeners);
    }

    /// A line each, for whoever asks whether the process is ready.
    pub(crate) fn remarks(&self) -> Vec<String> {
        self.exposed.iter().map(|addr| format!("{addr} is open beyond this machine without TLS")).collect()
    }
}
