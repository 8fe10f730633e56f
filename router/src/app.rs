//! The router put together: every dependency, every listener.

use crate::admin::{self, AdminState};
use crate::conditions::RouterWatch;
use crate::config::RouterConfig;
use crate::follow::Follower;
use crate::forward::{self, Enrolments, Forwarder, Front, Requests, StalePreferences};
use crate::metrics::RouterMetrics;
use crate::route::Routing;
use cellar_directory::OpenDirectory;
use cellar_metrics::Pools;
use cellar_server::config::ClockSetting;
use cellar_server::disk;
use cellar_server::telemetry::{self, RequestTracing};
use cellar_server::{Attempts, Condition, Conditions, HttpMetrics, Keys, MacKeyring, Plaintext, ProcessName, QuotaApi};
use prometheus_client::registry::Registry;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Connections to the directory: polls, and homes of users who were not where they were looked for.
const DIRECTORY_POOL_MAX: u32 = 8;

/// Serves until a signal says stop.
pub(crate) async fn run(config: RouterConfig) -> anyhow::Result<()> {
    let telemetry = telemetry::init("cellar-router", &config.name, &config.telemetry())?;
    disk::prepare(&config.data_dir)?;
    let stop = cellar_server::stop_on_signals()?;
    let secrets = config.secrets()?;
    let listener = cellar_server::bind(config.listen).await?;
    let admin_listener = cellar_server::bind(config.admin_listen).await?;

    let mut registry = Registry::default();
    let overflow = cellar_server::register_process(&mut registry, &config.data_dir);
    let http_metrics = HttpMetrics::register(&mut registry);
    let metrics = RouterMetrics::register(&mut registry, &overflow);
    telemetry.register(&mut registry);
    let directory = OpenDirectory::lazy(&secrets.directory_url, DIRECTORY_POOL_MAX)?;
    let pool = directory.clone();
    Pools::new().with("directory", move || pool.pool_use()).register(&mut registry);
    let routing = Routing::new(&config.data_dir, Arc::new(directory.clone()), metrics);
    let mac_keys = MacKeyring::from(secrets.mac_keys);
    mac_keys.follow(config.mac_key_file.clone());
    let keys = Keys::new(mac_keys);
    let background = CancellationToken::new();
    let follower = Follower::new(directory.clone(), routing.clone(), keys.clone(), &config.data_dir);
    follower.start(background.clone()).await;
    let of = ProcessName { role: "router", name: config.name.clone(), region: config.region.to_string() };
    let conditions = Conditions::register(&mut registry, of, &Condition::OF_ROUTERS);
    let watch = RouterWatch {
        conditions: conditions.clone(),
        routing: routing.clone(),
        follower: follower.clone(),
        data_dir: config.data_dir.clone(),
    };
    tokio::spawn(watch.run(background.clone()));

    let admin_state = AdminState {
        directory,
        routing: routing.clone(),
        keys: keys.clone(),
        peppers: secrets.peppers.clone(),
        region: config.region.clone(),
    };
    let stopping = stop.clone();
    let readiness = move || {
        let mut reasons = follower.reasons();
        if stopping.is_cancelled() {
            reasons.push("stopping: requests under way are finished, and no others are taken".to_owned());
        }
        reasons
    };
    let plaintext = Plaintext::of(&config.listeners());
    let admin =
        cellar_server::admin_routes(registry, &plaintext, &conditions, readiness).merge(admin::routes(admin_state));
    let admin = admin.merge(telemetry::log_level_routes(telemetry.level(), keys.clone()));
    let admin = tokio::spawn(cellar_server::serve_plain(admin_listener, admin, background.clone()));

    let enrolments = Enrolments::new(routing.clone());
    let forwarder = Forwarder::new(routing.clone(), enrolments.clone(), config.clock == ClockSetting::Virtual);
    let api = QuotaApi::new(forwarder, keys.clone(), http_metrics);
    let front = Front {
        requests: Requests::new(routing.clone(), enrolments),
        keys,
        peppers: secrets.peppers,
        stale: StalePreferences::new(),
        region: config.region.clone(),
        proxies: config.trusted_proxies.clone(),
        by_address: Arc::new(Attempts::new(config.address_failures())),
    };
    let (rest, served) = forward::routes(front).merge(api.routes()).split_for_parts();
    let rest =
        rest.merge(cellar_server::contract_routes(&served)).layer(axum::middleware::from_fn(forward::time_answers));
    tracing::info!(router = config.name, region = %config.region, listen = %config.listen, "serving");
    cellar_server::serve(listener, Some(api), rest, RequestTracing::door(telemetry.tracer()), stop).await?;

    tracing::info!("stopping");
    background.cancel();
    routing.save();
    let _ = admin.await;
    Ok(())
}
