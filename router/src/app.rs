//! The router put together: every dependency, every listener.

use crate::admin;
use crate::config::RouterConfig;
use crate::decide::Forwarder;
use crate::follow;
use crate::metrics::RouterMetrics;
use crate::remembered::Remembered;
use crate::routes;
use crate::trail::LookUps;
use crate::world::World;
use anyhow::Context;
use cellar_directory::{Catalog, Pepper, PostgresDirectory};
use cellar_model::{CellName, Epoch, UserId};
use cellar_server::{HttpMetrics, Keys, QuotaApi};
use prometheus_client::registry::Registry;
use std::num::NonZeroUsize;
use std::sync::{Arc, PoisonError, RwLock};
use tokio_util::sync::CancellationToken;

/// Users off the ring that are remembered: some 80 MB when full.
const EXCEPTIONS_MAX: NonZeroUsize = NonZeroUsize::new(500_000).expect("not zero");
/// E-mails (as hashes) whose user is remembered: some 15 MB when full.
const EMAILS_MAX: NonZeroUsize = NonZeroUsize::new(100_000).expect("not zero");

/// What every request needs. Behind an `Arc`, shared by all.
pub(crate) struct App {
    pub(crate) config: RouterConfig,
    pub(crate) directory: PostgresDirectory,
    pub(crate) pepper: Pepper,
    pub(crate) keys: Keys,
    pub(crate) http_metrics: HttpMetrics,
    pub(crate) metrics: RouterMetrics,
    /// Users known to live off the ring.
    pub(crate) exceptions: Remembered<UserId, (CellName, Epoch)>,
    /// By the hash of an e-mail, in hex.
    pub(crate) emails: Remembered<String, UserId>,
    pub(crate) look_ups: LookUps,
    world: RwLock<Option<Arc<World>>>,
    catalog: RwLock<Arc<Catalog>>,
}

pub(crate) type Shared = Arc<App>;

impl App {
    pub(crate) fn new(config: RouterConfig, registry: &mut Registry) -> anyhow::Result<Shared> {
        let secrets = config.secrets()?;
        std::fs::create_dir_all(&config.data_dir)
            .with_context(|| format!("the data folder {} cannot be made", config.data_dir.display()))?;
        let directory = PostgresDirectory::lazy(&secrets.directory_url, config.directory_pool_max)?;
        let exceptions = Remembered::load(config.data_dir.join("exceptions.jsonl"), EXCEPTIONS_MAX);
        let emails = Remembered::load(config.data_dir.join("emails.jsonl"), EMAILS_MAX);
        Ok(Arc::new(Self {
            directory,
            pepper: secrets.pepper,
            keys: Keys::new(secrets.mac_keys),
            http_metrics: HttpMetrics::register(registry),
            metrics: RouterMetrics::register(registry),
            exceptions,
            emails,
            look_ups: LookUps::default(),
            world: RwLock::default(),
            catalog: RwLock::default(),
            config,
        }))
    }

    /// The topology in use; none before the first has come.
    pub(crate) fn world(&self) -> Option<Arc<World>> {
        self.world.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_world(&self, world: World) {
        *self.world.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(world));
    }

    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        self.catalog.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_catalog(&self, catalog: Catalog) {
        self.keys.replace(&catalog.keys);
        *self.catalog.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(catalog);
    }

    /// Why this router cannot serve; empty when it can.
    pub(crate) fn unready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.world().is_none() {
            reasons.push("no topology: neither the directory nor the disk had one".to_owned());
        }
        if self.keys.is_empty() {
            reasons.push("no keys: the catalog has not come yet".to_owned());
        }
        reasons
    }
}

/// Serves until a signal says stop.
pub(crate) async fn run(config: RouterConfig) -> anyhow::Result<()> {
    let _telemetry =
        cellar_server::telemetry::init("cellar-router", config.log_json, config.otlp_endpoint.as_deref())?;
    let stop = cellar_server::stop_on_signals()?;
    // Sockets first: a port that is taken is found before anything else is done.
    let listener = cellar_server::bind(config.listen).await?;
    let admin_listener = cellar_server::bind(config.admin_listen).await?;
    let mut registry = Registry::default();
    let app = App::new(config, &mut registry)?;
    if !app.config.on_loopback() {
        tracing::warn!("listening beyond loopback without TLS, as allow_plaintext says");
        app.metrics.plaintext.set(1);
    }
    let background = CancellationToken::new();
    let following = follow::start(&app, background.clone()).await;

    let ready = app.clone();
    let admin = cellar_server::admin_routes(registry, move || ready.unready()).merge(admin::routes(app.clone()));
    let admin = tokio::spawn(cellar_server::serve_plain(admin_listener, admin, background.clone()));

    let api = QuotaApi::new(Forwarder::new(app.clone()), app.keys.clone(), app.http_metrics.clone());
    let (rest, _openapi) = routes::routes(app.clone()).merge(api.routes()).split_for_parts();
    tracing::info!(router = app.config.name, listen = %app.config.listen, "serving");
    cellar_server::serve(listener, Some(api), rest, stop).await?;

    tracing::info!("stopping");
    background.cancel();
    let _ = following.await;
    let _ = admin.await;
    Ok(())
}
