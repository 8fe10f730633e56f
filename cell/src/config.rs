//! `cell.toml`, as written by an operator. A key nobody reads is a typo, so unknown keys stop us.

use crate::accounts::SessionLife;
use crate::catalog::read_trust;
use anyhow::Context;
use cellar_artifacts::Trust;
use cellar_model::{CellName, Incarnation, RegionName, Secret};
use cellar_server::config::{ClockSetting, check_listeners};
use cellar_server::telemetry::{OtlpProtocol, TelemetrySettings};
use cellar_server::{AttemptLimit, Plaintext, TrustedProxies};
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CellConfig {
    pub(crate) name: CellName,
    pub(crate) region: RegionName,
    #[serde(default = "first")]
    pub(crate) incarnation: Incarnation,
    /// Where routers and other cells (and with `public`, callers) ask.
    pub(crate) listen: SocketAddr,
    /// Metrics, health, audit: for operators and this region's routers.
    pub(crate) admin_listen: SocketAddr,
    /// Serve callers without a router: one cell on a laptop, benches.
    #[serde(default)]
    pub(crate) public: bool,
    #[serde(default)]
    pub(crate) clock: ClockSetting,
    /// For fault tests, on loopback only: a file whose milliseconds are added to this process's wall clock.
    #[serde(default)]
    pub(crate) clock_skew_file: Option<PathBuf>,
    /// Accept a quota Redis that does not flush its append-only file at every write. An answer then
    /// survives the process but not the machine; every admission says so.
    #[serde(default)]
    pub(crate) allow_unsafe_ack: bool,
    /// Listen beyond loopback without TLS: for containers on a laptop.
    #[serde(default)]
    pub(crate) allow_plaintext: bool,
    /// Where routers reach this process, as the topology has it: `http://host:port`. Said where the cell
    /// has several processes, each with its own; without it this is the only one.
    #[serde(default)]
    pub(crate) instance_endpoint: Option<String>,
    /// This process's own: its lock, its name, and the last good topology and catalog with its artifacts.
    pub(crate) data_dir: PathBuf,
    /// Fixed when the cell is made.
    #[serde(default = "four")]
    pub(crate) shards: u16,
    /// Threads that serve. 1 is the fastest on a machine shared with the stores.
    #[serde(default = "one")]
    pub(crate) worker_threads: usize,
    pub(crate) postgres_url_file: PathBuf,
    pub(crate) directory_url_file: PathBuf,
    pub(crate) redis_quota_url_file: PathBuf,
    pub(crate) redis_cache_url_file: PathBuf,
    pub(crate) pepper_file: PathBuf,
    pub(crate) mac_key_file: PathBuf,
    /// Whose policies decide here: a line a key, `cellctl policy keys trust` writes it. Looked at with every poll of the
    /// catalog, so that a key is trusted or not without a restart.
    #[serde(default)]
    pub(crate) policy_keys_file: Option<PathBuf>,
    /// No version of a policy decides here that nobody trusted has signed. Without it, whoever can write to the
    /// directory decides what users may spend.
    #[serde(default = "yes")]
    pub(crate) require_signatures: bool,
    /// Connections to the cell's Postgres: of the quota engine, and of everything else.
    #[serde(default = "eight")]
    pub(crate) quota_pool_max: u32,
    #[serde(default = "sixteen")]
    pub(crate) standard_pool_max: u32,
    /// Months of the ledger that have been exported and lie so far behind are dropped. Absent: they stay.
    #[serde(default)]
    pub(crate) retention_months: Option<u32>,
    /// Hours after which a session is over, used or not: 1 to 8,760.
    #[serde(default = "session_lasts_h")]
    pub(crate) session_lasts_h: u32,
    /// Hours after which one is over that nobody has used: 1 to `session_lasts_h`. It is refused up to ten minutes
    /// later, never sooner.
    #[serde(default = "session_idle_h")]
    pub(crate) session_idle_h: u32,
    /// Log-ins by password of one account that may fail in a row before they are answered 429: 1 to 100,000, or 0
    /// for no limit.
    #[serde(default = "account_failures")]
    pub(crate) account_failures: u32,
    /// Seconds after which one of them is forgiven: 1 to 86,400.
    #[serde(default = "account_failure_forgiven_s")]
    pub(crate) account_failure_forgiven_s: u32,
    /// The same of one address, at a public cell; elsewhere routers count. 0 where a proxy stands in front that is
    /// not among `trusted_proxies`: it would be everybody's address.
    #[serde(default = "AttemptLimit::address_failures")]
    pub(crate) address_failures: u32,
    #[serde(default = "AttemptLimit::address_failure_forgiven_s")]
    pub(crate) address_failure_forgiven_s: u32,
    /// Proxies before a public cell whose `X-Forwarded-For` is believed: addresses, and networks as 10.0.0.0/8.
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
    #[serde(default)]
    pub(crate) log_json: bool,
}

fn yes() -> bool {
    true
}
fn first() -> Incarnation {
    Incarnation(1)
}
fn one() -> usize {
    1
}
fn four() -> u16 {
    4
}
fn eight() -> u32 {
    8
}
fn sixteen() -> u32 {
    16
}
fn session_lasts_h() -> u32 {
    SessionLife::LASTS_H_DEFAULT
}
fn session_idle_h() -> u32 {
    SessionLife::IDLE_H_DEFAULT
}
/// More than anybody's own fingers need, few enough that guessing one account takes years.
fn account_failures() -> u32 {
    20
}
fn account_failure_forgiven_s() -> u32 {
    60
}

/// Whether policies are signed, and by whom.
#[derive(Clone, Debug)]
pub(crate) enum Signatures {
    Required { file: PathBuf, trust: Trust },
    NotLookedAt,
}

/// The secrets that the configuration names files of.
pub(crate) struct CellSecrets {
    pub(crate) postgres_url: Secret,
    pub(crate) directory_url: Secret,
    pub(crate) redis_quota_url: Secret,
    pub(crate) redis_cache_url: Secret,
    pub(crate) peppers: cellar_directory::Peppers,
    pub(crate) mac_keys: cellar_model::MacKeys,
}

impl CellConfig {
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let config: Self = cellar_server::config::load(path, "CELLAR_CELL__")?;
        config.validate()?;
        Ok(config)
    }

    /// What types cannot say. Called once, before the first socket opens.
    fn validate(&self) -> anyhow::Result<()> {
        anyhow::ensure!((1..=1024).contains(&self.shards), "shards must be 1 to 1024");
        anyhow::ensure!((1..=64).contains(&self.worker_threads), "worker_threads must be 1 to 64");
        if let Some(endpoint) = &self.instance_endpoint {
            let uri: Option<http::Uri> = endpoint.parse().ok();
            let authority = uri.filter(|uri| uri.scheme_str() == Some("http") && matches!(uri.path(), "" | "/"));
            let port = authority.and_then(|uri| uri.port_u16());
            anyhow::ensure!(
                port.is_some() && !endpoint.ends_with('/'),
                "instance_endpoint must be http://host:port, as the topology has it"
            );
            anyhow::ensure!(!self.public, "a public cell is one process: leave instance_endpoint out");
        }
        if self.clock_skew_file.is_some() && !Plaintext::of(&self.listeners()).is_none() {
            anyhow::bail!("clock_skew_file is for fault tests: it is taken where every listener is on loopback");
        }
        anyhow::ensure!(
            !self.require_signatures || self.policy_keys_file.is_some(),
            "policies have to be signed: say in policy_keys_file whose are taken (`cellctl policy keys trust` writes the \
             file, and `cellctl up` mends a local stack), or require_signatures = false"
        );
        self.session_life()?;
        let limits = [("account", self.account_failures()), ("address", self.address_failures())];
        for (what, limit) in limits {
            anyhow::ensure!(
                limit.is_in_range(),
                "{what}_failures must be 0 to {}, {what}_failure_forgiven_s 1 to {}",
                AttemptLimit::FAILURES_MAX,
                AttemptLimit::FORGIVEN_S_MAX
            );
        }
        self.telemetry().check()?;
        check_listeners(&self.listeners(), self.allow_plaintext, self.clock)?;
        Ok(())
    }

    pub(crate) fn session_life(&self) -> anyhow::Result<SessionLife> {
        SessionLife::of_hours(self.session_lasts_h, self.session_idle_h)
            .context("session_lasts_h must be 1 to 8760, session_idle_h 1 to session_lasts_h")
    }

    pub(crate) fn account_failures(&self) -> AttemptLimit {
        AttemptLimit { failures: self.account_failures, forgiven_s: self.account_failure_forgiven_s }
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

    pub(crate) fn signatures(&self) -> anyhow::Result<Signatures> {
        match &self.policy_keys_file {
            Some(file) if self.require_signatures => {
                let trust = read_trust(file).context("policy_keys_file")?;
                Ok(Signatures::Required { file: file.clone(), trust })
            }
            _ => Ok(Signatures::NotLookedAt),
        }
    }

    pub(crate) fn secrets(&self) -> anyhow::Result<CellSecrets> {
        let read = |path: &Path| cellar_server::config::read_secret(path);
        let mac_keys = read(&self.mac_key_file)?;
        Ok(CellSecrets {
            postgres_url: read(&self.postgres_url_file)?,
            directory_url: read(&self.directory_url_file)?,
            redis_quota_url: read(&self.redis_quota_url_file)?,
            redis_cache_url: read(&self.redis_cache_url_file)?,
            peppers: cellar_directory::Peppers::from_text(&read(&self.pepper_file)?)
                .with_context(|| format!("pepper_file {}", self.pepper_file.display()))?,
            mac_keys: cellar_model::MacKeys::from_text(mac_keys.reveal())
                .map_err(|_| anyhow::anyhow!("mac_key_file must hold one or two lines of 64 hex digits"))?,
        })
    }
}
