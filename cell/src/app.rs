//! The cell put together: every dependency, every listener.

use crate::accounts::{self, Accounts, Dependencies};
use crate::admin::{self, AdminState};
use crate::admissions::Admissions;
use crate::audits::Audits;
use crate::catalog::CatalogFollower;
use crate::conditions::CellWatch;
use crate::config::{CellConfig, CellSecrets};
use crate::decide::{self, DecideState, Engine};
use crate::lives::Lives;
use crate::lock::FolderLock;
use crate::peers::Peers;
use crate::public::{self, Door, PublicSignUp, Sessions};
use crate::usage;
use crate::visits::{self, Visits};
use anyhow::Context;
use axum::extract::DefaultBodyLimit;
use axum::routing::post;
use cellar_directory::{CellBeat, Documents, OpenDirectory};
use cellar_metrics::Pools;
use cellar_model::{Scope, Secret};
use cellar_policy_host::{Host, HostLimits};
use cellar_quota::{Clock, ClockMode, Quota, QuotaConfig, QuotaMetrics};
use cellar_server::config::ClockSetting;
use cellar_server::telemetry::{self, RequestTracing};
use cellar_server::{Attempts, Condition, Conditions, HttpMetrics, Keys, MacKeyring, Plaintext, ProcessName, QuotaApi};
use prometheus_client::registry::Registry;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// A statement or a lock longer than this has gone wrong; idle transactions hold up turns.
const POSTGRES_LIMITS: [(&str, &str); 4] = [
    ("statement_timeout", "5s"),
    ("lock_timeout", "2s"),
    ("idle_in_transaction_session_timeout", "2s"),
    // "It exists already" is what we asked for.
    ("client_min_messages", "warning"),
];
/// For a connection of the pool: longer than this and the caller's deadline has passed.
const ACQUIRE_MAX: Duration = Duration::from_secs(2);
/// Connections to the directory: sign-ups and the catalog's polls.
const DIRECTORY_POOL_MAX: u32 = 4;
/// How often the cell tells the directory that it lives.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// How soon a fault test's clock moves.
const SKEW_LOOK: Duration = Duration::from_millis(50);

/// Brings the cell's Postgres to the newest schema.
pub(crate) async fn migrate(config: &CellConfig) -> anyhow::Result<()> {
    let secrets = config.secrets()?;
    let options: PgConnectOptions = secrets.postgres_url.reveal().parse().context("postgres_url_file holds no URL")?;
    let pool = PgPoolOptions::new().max_connections(1).connect_with(options).await.context("the cell's Postgres")?;
    sqlx::migrate!("../migrations/postgres/cell").run(&pool).await.context("migrating the cell's Postgres")?;
    println!("the schema of cell {} is the newest", config.name);
    Ok(())
}

/// Serves until a signal says stop.
pub(crate) async fn run(config: CellConfig) -> anyhow::Result<()> {
    let telemetry = telemetry::init("cellar-cell", config.name.as_str(), &config.telemetry())?;
    let _lock = FolderLock::take(&config.data_dir)?;
    let lives = config.instance_endpoint.is_some().then(|| Lives::begin(&config.data_dir)).transpose()?;
    let signal = cellar_server::stop_on_signals()?;
    let (secrets, signatures) = (config.secrets()?, config.signatures()?);
    // Sockets first: a port that is taken is found before a turn is.
    let listener = cellar_server::bind(config.listen).await?;
    let admin_listener = cellar_server::bind(config.admin_listen).await?;

    let quota_pool = pool(&secrets.postgres_url, config.quota_pool_max)?;
    let standard_pool = pool(&secrets.postgres_url, config.standard_pool_max)?;
    let directory = OpenDirectory::lazy(&secrets.directory_url, DIRECTORY_POOL_MAX)?;
    let host = Host::new(HostLimits::default())?;
    let folder = config.data_dir.join("catalog");
    let catalog = CatalogFollower::new(directory.clone(), host.clone(), config.name.clone(), folder, signatures);
    let peers = Peers::new();
    tokio::join!(catalog.start(), peers.follow(directory.clone(), &config.data_dir));
    let mac_keys = MacKeyring::from(secrets.mac_keys.clone());
    mac_keys.follow(config.mac_key_file.clone());
    let keys = follow_keys(&catalog, mac_keys.clone());

    let mut registry = Registry::default();
    let overflow = cellar_server::register_process(&mut registry, &config.data_dir);
    let http_metrics = HttpMetrics::register(&mut registry);
    telemetry.register(&mut registry);
    catalog.metrics().register(&mut registry);
    register_pools(&mut registry, [("quota", &quota_pool), ("standard", &standard_pool)], &directory);
    let quota_metrics = QuotaMetrics::register(&mut registry, &overflow, config.shards);
    cellar_quota::rollout::register(&mut registry, &overflow, catalog.tiers(), &quota_metrics);
    let audits = Audits::register(&mut registry);
    let mut quota_config = quota_config(&config, &secrets, lives.as_ref());
    quota_config.tracer = telemetry.tracer();
    let background = CancellationToken::new();
    if let Some(file) = config.clock_skew_file.clone() {
        tokio::spawn(skew_clock(quota_config.clock.clone(), file, background.clone()));
    }
    let quota = Quota::start(quota_config, quota_pool, host, catalog.tiers(), quota_metrics).await?;
    if let Some(lives) = &lives {
        lives.told(&config.data_dir)?;
    }
    let beside = Beside { mac_keys: &mac_keys, pool: &standard_pool, directory: &directory, quota: &quota };
    let accounts = accounts(&config, &secrets, &catalog, peers, &beside)?;
    accounts.register(&mut registry);
    let conditions = Conditions::register(&mut registry, process_name(&config), &Condition::OF_CELLS);
    let (watched, folder) = (catalog.clone(), config.data_dir.clone());
    let watch = CellWatch::new(conditions.clone(), quota.clone(), accounts.clone(), watched, folder);

    tokio::spawn(beat(config.clone(), directory.clone(), background.clone()));
    tokio::spawn(watch.run(background.clone()));
    let activity = tokio::spawn({
        let (accounts, background) = (accounts.clone(), background.clone());
        async move { accounts.run(background).await }
    });

    let admin_state = AdminState {
        quota: quota.clone(),
        audits,
        accounts: accounts.clone(),
        catalog: catalog.clone(),
        directory,
        keys: keys.clone(),
        region: config.region.clone(),
        public: config.public,
        session_lasts_h: config.session_lasts_h,
    };
    let readiness = readiness(&catalog, quota.clone(), signal.clone());
    let plaintext = Plaintext::of(&config.listeners());
    let admin =
        cellar_server::admin_routes(registry, &plaintext, &conditions, readiness).merge(admin::routes(admin_state));
    let admin = admin.merge(telemetry::log_level_routes(telemetry.level(), keys.clone()));
    let admin = tokio::spawn(cellar_server::serve_plain(admin_listener, admin, background.clone()));

    let one_of_several = config.instance_endpoint.is_some();
    let visits = one_of_several.then(|| Visits::new(quota.clone(), accounts.clone(), config.shards));
    let admissions = Admissions::new(quota.clone(), accounts.clone(), visits.clone());
    let engine = Engine { admissions, public: config.public };
    let state = DecideState {
        engine: engine.clone(),
        quota: quota.clone(),
        metrics: http_metrics.clone(),
        accounts: accounts.clone(),
    };
    tracing::info!(cell = %config.name, listen = %config.listen, "serving");
    // The listener closes once the cell's other processes have this one's shards.
    let stop = CancellationToken::new();
    tokio::spawn({
        let (quota, stop) = (quota.clone(), stop.clone());
        async move {
            signal.cancelled().await;
            quota.leave().await;
            stop.cancel();
        }
    });
    if config.public {
        let api = QuotaApi::new(engine, keys.clone(), http_metrics);
        let (rest, served) = public_routes(&config, state, accounts, keys).merge(api.routes()).split_for_parts();
        let rest = rest.merge(cellar_server::contract_routes(&served));
        let rest = rest.layer(DefaultBodyLimit::max(cellar_server::limits::BODY_MAX));
        cellar_server::serve(listener, Some(api), rest, RequestTracing::door(telemetry.tracer()), stop).await?;
    } else {
        let mut routes = router_routes(state, accounts);
        if let Some(visits) = visits {
            routes = routes.layer(axum::middleware::from_fn_with_state(visits, visits::visit));
        }
        let tracing = RequestTracing::behind_router(telemetry.tracer());
        cellar_server::serve_counted(listener, routes, http_metrics, tracing, stop).await?;
    }

    tracing::info!("stopping: draining the ledger");
    quota.shutdown().await;
    background.cancel();
    let _ = activity.await;
    let _ = admin.await;
    Ok(())
}

/// What routers ask.
fn router_routes(state: DecideState, accounts: Accounts) -> axum::Router {
    let quota =
        OpenApiRouter::new().routes(routes!(decide::quota)).routes(routes!(usage::usage)).with_state(state.clone());
    let (routes, _openapi) = accounts::routes(accounts).merge(quota).split_for_parts();
    let decide = axum::Router::new().route("/cell/v1/decide", post(decide::decide)).with_state(state);
    routes.merge(decide).layer(DefaultBodyLimit::max(cellar_server::limits::BODY_MAX))
}

/// What callers ask of a cell without a router. `/cell/v1` is not served there.
fn public_routes(config: &CellConfig, state: DecideState, accounts: Accounts, keys: Keys) -> OpenApiRouter {
    let sign_up = PublicSignUp { accounts: accounts.clone(), region: config.region.clone() };
    let sign_up = OpenApiRouter::new().routes(routes!(public::sign_up)).with_state(sign_up);
    let quota = OpenApiRouter::new().routes(routes!(decide::quota)).routes(routes!(usage::usage)).with_state(state);
    let named = axum::middleware::from_fn_with_state(accounts.clone(), public::name_user);
    let named = accounts::named_routes(accounts.clone()).layer(named);
    let by_address = Arc::new(Attempts::new(config.address_failures()));
    let door = |scopes, sessions| {
        let (keys, proxies, by_address) = (keys.clone(), config.trusted_proxies.clone(), by_address.clone());
        let door = Door { keys, scopes, sessions, proxies, by_address };
        axum::middleware::from_fn_with_state(door, public::admit)
    };
    let users = accounts::public_routes(accounts).layer(door(&[Scope::Users], Sessions::ComeIn));
    let others = named.merge(sign_up).layer(door(&[Scope::Users], Sessions::StayOut));
    let quota = quota.layer(door(&[Scope::Quota, Scope::Users], Sessions::ComeIn));
    users.merge(others).merge(quota)
}

fn pool(url: &Secret, max: u32) -> anyhow::Result<PgPool> {
    let options: PgConnectOptions = url.reveal().parse().context("postgres_url_file holds no URL")?;
    let pool = PgPoolOptions::new().max_connections(max).acquire_timeout(ACQUIRE_MAX);
    Ok(pool.connect_lazy_with(options.options(POSTGRES_LIMITS)))
}

fn quota_config(config: &CellConfig, secrets: &CellSecrets, lives: Option<&Lives>) -> QuotaConfig {
    let mode = match config.clock {
        ClockSetting::Wall => ClockMode::Wall,
        ClockSetting::Virtual => ClockMode::Virtual,
    };
    let clock = Clock::new(mode);
    let mut quota = QuotaConfig::new(config.name.clone(), config.shards, secrets.redis_quota_url.clone(), clock);
    quota.allow_unsafe_ack = config.allow_unsafe_ack;
    quota.journal = Some(config.data_dir.join("allowed.journal"));
    quota.retention_months = config.retention_months;
    if let Some(lives) = lives {
        quota.endpoint = config.instance_endpoint.clone();
        quota.life = lives.this.clone();
        quota.earlier_lives = lives.earlier.clone();
    }
    quota
}

/// What accounts share with the rest of the cell.
#[derive(Clone, Copy)]
struct Beside<'b> {
    mac_keys: &'b MacKeyring,
    pool: &'b PgPool,
    directory: &'b OpenDirectory,
    quota: &'b Quota,
}

fn accounts(
    config: &CellConfig,
    secrets: &CellSecrets,
    catalog: &Arc<CatalogFollower<OpenDirectory>>,
    peers: Peers,
    beside: &Beside<'_>,
) -> anyhow::Result<Accounts> {
    let (tiers, Beside { mac_keys, pool, directory, quota }) = (catalog.tiers(), *beside);
    Ok(Accounts::new(Dependencies {
        pool: pool.clone(),
        cache: redis::Client::open(secrets.redis_cache_url.reveal()).context("redis_cache_url_file holds no URL")?,
        directory: directory.clone(),
        peppers: secrets.peppers.clone(),
        mac_keys: mac_keys.clone(),
        session_life: config.session_life()?,
        account_failures: config.account_failures(),
        cell: config.name.clone(),
        region: config.region.clone(),
        peers,
        quota: Some(quota.clone()),
        tier_exists: Box::new(move |tier| tiers.borrow().get(tier).is_some()),
        public: config.public,
    }))
}

/// The front door's keys, as the catalog changes.
fn follow_keys(catalog: &Arc<CatalogFollower<OpenDirectory>>, mac_keys: MacKeyring) -> Keys {
    let keys = Keys::new(mac_keys);
    let mut followed = catalog.keys();
    keys.replace(&followed.borrow_and_update());
    let replaced = keys.clone();
    tokio::spawn(async move {
        while followed.changed().await.is_ok() {
            let documents = followed.borrow_and_update().clone();
            replaced.replace(&documents);
        }
    });
    keys
}

fn process_name(config: &CellConfig) -> ProcessName {
    ProcessName { role: "cell", name: config.name.to_string(), region: config.region.to_string() }
}

/// Why this process cannot serve.
fn readiness(
    catalog: &Arc<CatalogFollower<OpenDirectory>>,
    quota: Quota,
    stopping: CancellationToken,
) -> impl Fn() -> Vec<String> + Clone + Send + Sync + use<> {
    let (tiers, catalog) = (catalog.tiers(), catalog.clone());
    move || {
        let mut reasons = Vec::new();
        if tiers.borrow().names().next().is_none() {
            reasons.push(catalog.why_no_tier());
        }
        let facts = quota.facts();
        let (shards, waking) = (facts.shards, facts.never_opened);
        // Some of them closed is a condition: the users of the others are served.
        if shards > 0 && facts.closed == shards {
            reasons
                .push(format!("all {shards} shards are closed: no store takes their commits, or turns are under way"));
        } else if waking > 0 {
            reasons.push(format!("{waking} of {shards} shards have not opened yet"));
        }
        if stopping.is_cancelled() {
            reasons.push("stopping: requests under way are finished, and no others are taken".to_owned());
        }
        reasons
    }
}

/// Sets the wall clock as the file says, whenever it says something else.
async fn skew_clock(clock: Clock, file: PathBuf, stop: CancellationToken) {
    while !stop.is_cancelled() {
        if let Ok(text) = tokio::fs::read_to_string(&file).await
            && let Ok(by_ms) = text.trim().parse()
        {
            clock.skew(by_ms);
        }
        tokio::time::sleep(SKEW_LOOK).await;
    }
}

/// Tells the directory that this cell lives, and where. Nothing is decided by it.
async fn beat(config: CellConfig, directory: OpenDirectory, stop: CancellationToken) {
    let clock = Clock::new(ClockMode::Wall);
    let endpoints = vec![format!("http://{}", config.listen), format!("http://{}", config.admin_listen)];
    loop {
        let beat = CellBeat {
            cell: config.name.clone(),
            incarnation: config.incarnation,
            endpoints: endpoints.clone(),
            shard_map: serde_json::json!({ "shards": config.shards }),
            heartbeat: clock.now(),
        };
        if let Err(error) = directory.put_cell(&beat).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "the directory does not take the heartbeat");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(HEARTBEAT) => {}
        }
    }
}

/// `db_connection_pool_in_use` and `_max`, by pool.
fn register_pools(registry: &mut Registry, postgres: [(&'static str, &PgPool); 2], directory: &OpenDirectory) {
    let of_directory = directory.clone();
    let mut pools = Pools::new().with("directory", move || of_directory.pool_use());
    for (name, pool) in postgres {
        let pool = pool.clone();
        let used = move || (pool.size().saturating_sub(pool.num_idle() as u32), pool.options().get_max_connections());
        pools = pools.with(name, used);
    }
    pools.register(registry);
}
