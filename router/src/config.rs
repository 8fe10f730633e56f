//! `router.toml`, as written by an operator. A key nobody reads is a typo, so unknown keys stop us.

use anyhow::Context;
use cellar_directory::Peppers;
use cellar_model::{MacKeys, RegionName, Secret};
use cellar_server::config::{ClockSetting, check_listeners};
use cellar_server::telemetry::{OtlpProtocol, TelemetrySettings};
use cellar_server::{AttemptLimit, TrustedProxies};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RouterConfig {
    /// For logs: which of a region's routers this is.
    pub(crate) name: String,
    /// Where users sign up who name no region.
    pub(crate) region: RegionName,
    /// Where callers ask.
    pub(crate) listen: SocketAddr,
    /// Metrics, health, and the operators' API.
    pub(crate) admin_listen: SocketAddr,
    /// The last good topology and catalog, and what was learned about users off the ring.
    pub(crate) data_dir: PathBuf,
    #[serde(default)]
    pub(crate) clock: ClockSetting,
    /// Threads that serve. 1 is the fastest on a machine shared with cells.
    #[serde(default = "one")]
    pub(crate) worker_threads: usize,
    pub(crate) directory_url_file: PathBuf,
    pub(crate) pepper_file: PathBuf,
    pub(crate) mac_key_file: PathBuf,
    /// Log-ins by password from one address that may fail in a row before they are answered 429: 1 to 100,000, or 0
    /// for no limit. 0 where a proxy stands in front that is not among `trusted_proxies`: it would be everybody's
    /// address.
    #[serde(default = "AttemptLimit::address_failures")]
    pub(crate) address_failures: u32,
    /// Seconds after which one of them is forgiven: 1 to 86,400.
    #[serde(default = "AttemptLimit::address_failure_forgiven_s")]
    pub(crate) address_failure_forgiven_s: u32,
    /// Proxies in front whose `X-Forwarded-For` is believed: addresses, and networks as 10.0.0.0/8.
    #[serde(default)]
    pub(crate) trusted_proxies: TrustedProxies,
    /// Where spans go: `http://host:port` of an OTLP collector. Absent: nowhere.
    #[serde(default)]
    pub(crate) otlp_endpoint: Option<String>,
    /// `http` (protobuf over HTTP/1.1) or `grpc`.
    #[serde(default)]
    pub(crate) otlp_protocol: OtlpProtocol,
    /// Of the requests that begin a trace here, the part that is exported whatever comes of them: 0 to 1.
    #[serde(default = "TelemetrySettings::trace_ratio_default")]
    pub(crate) trace_ratio: f64,
    /// A request that takes at least as many milliseconds is exported: 1 to 60,000.
    #[serde(default = "TelemetrySettings::trace_slow_ms_default")]
    pub(crate) trace_slow_ms: u32,
    /// Listen beyond loopback without TLS: for containers on a laptop.
    #[serde(default)]
    pub(crate) allow_plaintext: bool,
    #[serde(default)]
    pub(crate) log_json: bool,
}

fn one() -> usize {
    1
}

/// The secrets that the configuration names files of.
pub(crate) struct RouterSecrets {
    pub(crate) directory_url: Secret,
    pub(crate) peppers: Peppers,
    pub(crate) mac_keys: MacKeys,
}

impl RouterConfig {
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let config: Self = cellar_server::config::load(path, "CELLAR_ROUTER__")?;
        config.validate()?;
        Ok(config)
    }

    /// What types cannot say. Called once, before the first socket opens.
    fn validate(&self) -> anyhow::Result<()> {
        anyhow::ensure!((1..=64).contains(&self.worker_threads), "worker_threads must be 1 to 64");
        anyhow::ensure!(
            self.address_failures().is_in_range(),
            "address_failures must be 0 to {}, address_failure_forgiven_s 1 to {}",
            AttemptLimit::FAILURES_MAX,
            AttemptLimit::FORGIVEN_S_MAX
        );
        self.telemetry().check()?;
        check_listeners(&self.listeners(), self.allow_plaintext, self.clock)?;
        Ok(())
    }

    pub(crate) fn address_failures(&self) -> AttemptLimit {
        AttemptLimit { failures: self.address_failures, forgiven_s: self.address_failure_forgiven_s }
    }

    /// What is told of requests, and how.
    pub(crate) fn telemetry(&self) -> TelemetrySettings {
        TelemetrySettings {
            log_json: self.log_json,
            otlp_endpoint: self.otlp_endpoint.clone(),
            otlp_protocol: self.otlp_protocol,
            trace_ratio: self.trace_ratio,
            trace_slow_ms: self.trace_slow_ms,
        }
    }

    pub(crate) fn listeners(&self) -> [SocketAddr; 2] {
        [self.listen, self.admin_listen]
    }

    /// What a router so configured would do, for people.
    pub(crate) fn intent(&self) -> String {
        let Self { name, region, listen, admin_listen, clock, worker_threads, .. } = self;
        format!(
            "would serve as {name} of region {region}\n\
             callers        {listen}\n\
             operators      {admin_listen}\n\
             data folder    {}\n\
             clock          {clock:?}, {worker_threads} threads",
            self.data_dir.display()
        )
    }

    pub(crate) fn secrets(&self) -> anyhow::Result<RouterSecrets> {
        let read = |path: &Path| cellar_server::config::read_secret(path);
        let mac_keys = read(&self.mac_key_file)?;
        Ok(RouterSecrets {
            directory_url: read(&self.directory_url_file)?,
            peppers: Peppers::from_text(&read(&self.pepper_file)?)
                .with_context(|| format!("pepper_file {}", self.pepper_file.display()))?,
            mac_keys: MacKeys::from_text(mac_keys.reveal())
                .map_err(|_| anyhow::anyhow!("mac_key_file must hold one or two lines of 64 hex digits"))?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        name = "eu-router-1"
        region = "eu"
        listen = "127.0.0.1:8080"
        admin_listen = "127.0.0.1:8090"
        data_dir = "data"
        clock = "virtual"
        worker_threads = 1
        directory_url_file = "directory.url"
        pepper_file = "pepper"
        mac_key_file = "mac"
    "#;

    fn load(text: &str) -> anyhow::Result<RouterConfig> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("router.toml");
        std::fs::write(&path, text)?;
        RouterConfig::load(&path)
    }

    #[test]
    fn an_unknown_key_is_named() {
        assert!(load(GOOD).is_ok());
        let error = load(&format!("{GOOD}\nlissten = 1")).unwrap_err();
        assert!(format!("{error:#}").contains("lissten"), "{error:#}");
    }

    #[test]
    fn what_it_would_do_names_the_listeners_and_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("router.toml");
        std::fs::write(&path, GOOD).unwrap();
        let intent = RouterConfig::load(&path).unwrap().intent();
        for said in ["eu-router-1", "127.0.0.1:8080", "127.0.0.1:8090", "Virtual"] {
            assert!(intent.contains(said), "{said}: {intent}");
        }
        assert!(!intent.contains("pepper") && !intent.contains("mac"));
    }

    #[test]
    fn where_spans_go_is_said_well_or_not_at_all() {
        assert!(load(&format!("{GOOD}\notlp_endpoint = \"http://127.0.0.1:4317\"\notlp_protocol = \"grpc\"")).is_ok());
        for (odd, said) in [
            ("otlp_endpoint = \"collector\"", "otlp_endpoint"),
            ("otlp_protocol = \"smoke\"", "smoke"),
            ("trace_ratio = 1.5", "trace_ratio must be 0 to 1"),
            ("trace_slow_ms = 0", "trace_slow_ms"),
        ] {
            let error = format!("{:#}", load(&format!("{GOOD}\n{odd}")).unwrap_err());
            assert!(error.contains(said), "{odd}: {error}");
        }
    }

    #[test]
    fn a_virtual_clock_stays_on_loopback() {
        let open = GOOD.replace("127.0.0.1:8080", "0.0.0.0:8080") + "allow_plaintext = true";
        assert!(load(&open).unwrap_err().to_string().contains("loopback"));
    }
}
