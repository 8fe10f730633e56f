//! The engine: checks in, verdicts out, by way of the shards.

use crate::closing::{self, Again, LookUps};
use crate::config::QuotaConfig;
use crate::error::QuotaError;
use crate::metrics::QuotaMetrics;
use crate::shard::{Ask, Shard, ShardId, ShardParts};
use crate::store::postgres::PostgresStore;
use crate::store::servers::Servers;
use crate::store::{Audit, Ledger, returned};
use crate::tiers::TierSet;
use cellar_model::{Check, Fence, Refusal, TryAgain, UserId, Verdict, Version};
use cellar_policy_host::Host;
use sqlx::PgPool;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Decides quota questions for the users of one cell.
///
/// **Contract:** every check gets exactly one verdict, in the order of the checks. An admission has
/// been committed when it is returned; a denial has written nothing; `TryAgain` says neither.
#[derive(Clone)]
pub struct Quota {
    inner: Arc<Inner>,
}

struct Inner {
    shards: Vec<mpsc::Sender<Ask>>,
    undrained: Vec<Arc<AtomicU64>>,
    tasks: std::sync::Mutex<Vec<JoinHandle<()>>>,
    stop: CancellationToken,
    metrics: QuotaMetrics,
    ledger: Ledger,
    audit: Audit,
    /// By shard.
    postgres: Vec<PostgresStore>,
    look_ups: LookUps,
}

impl Quota {
    /// Starts the shards' loops; each opens when its turn has gone through.
    ///
    /// # Errors
    /// When the cell was made with another number of shards, its Postgres cannot be asked, or the URL of its
    /// Redis cannot be read.
    pub async fn start(
        config: QuotaConfig,
        pool: PgPool,
        host: Host,
        tiers: watch::Receiver<Arc<TierSet>>,
        metrics: QuotaMetrics,
    ) -> Result<Self, QuotaError> {
        let servers = Arc::new(Servers::of(&config.redis_url)?);
        let made = PostgresStore::make_shards(&pool, config.shards).await.map_err(QuotaError::Postgres)?;
        if made != i64::from(config.shards) {
            return Err(QuotaError::ShardCount { made, configured: config.shards });
        }
        let audit = Audit::new(pool.clone(), servers.clone(), config.shards);
        let owner: Arc<str> = hex::encode(rand::random::<[u8; 12]>()).into();
        let (config, stop) = (Arc::new(config), CancellationToken::new());
        let (mut shards, mut counts, mut tasks) = (Vec::new(), Vec::new(), Vec::new());
        let postgres: Vec<PostgresStore> =
            ShardId::all(config.shards).map(|id| PostgresStore::new(pool.clone(), id)).collect();
        let look_ups = LookUps::new(config.clock.clone());
        for id in ShardId::all(config.shards) {
            let (sender, inbox) = mpsc::channel(config.queue_max);
            let undrained = Arc::new(AtomicU64::new(0));
            let parts = ShardParts {
                id,
                owner: owner.clone(),
                config: config.clone(),
                servers: servers.clone(),
                postgres: PostgresStore::new(pool.clone(), id),
                host: host.clone(),
                tiers: tiers.clone(),
                metrics: metrics.clone(),
                undrained: undrained.clone(),
                stop: stop.clone(),
            };
            tasks.push(tokio::spawn(Shard::new(parts, inbox).run()));
            shards.push(sender);
            counts.push(undrained);
        }
        let ledger = Ledger::new(pool.clone());
        if let Some(keep) = config.retention_months {
            tasks.push(tokio::spawn(drop_months(ledger.clone(), keep, stop.clone())));
        }
        tasks.push(tokio::spawn(expire_keys(pool, stop.clone())));
        tasks.push(tokio::spawn(returned::look_after(servers, postgres.clone(), stop.clone())));
        let inner =
            Inner { shards, undrained: counts, tasks: tasks.into(), stop, metrics, ledger, audit, postgres, look_ups };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Decides `checks`, in their order.
    #[tracing::instrument(name = "quota.decide", level = "debug", skip_all, fields(checks = checks.len()))]
    pub async fn decide(&self, checks: Vec<Check>) -> Vec<Verdict> {
        let now = Instant::now();
        let mut closings: Vec<(usize, Again)> = Vec::new();
        let asked: Vec<_> = checks
            .into_iter()
            .enumerate()
            .map(|(n, mut check)| {
                let (reply, answer) = oneshot::channel();
                let deadline = now + check.deadline.duration();
                if check.operation.closes().is_some() {
                    closing::put_key(&mut check);
                    closings.push((n, Again { check: check.clone(), deadline }));
                }
                let ask = Ask { check, deadline, reply, looked_up: false, found: None };
                (self.send(ask).then_some(answer), deadline)
            })
            .collect();
        let mut verdicts = Vec::with_capacity(asked.len());
        for (answer, deadline) in asked {
            verdicts.push(heard(answer, deadline).await);
        }
        if !closings.is_empty() {
            self.look_up(&mut verdicts, closings).await;
        }
        verdicts
    }

    /// False: its shard's inbox is full.
    fn send(&self, ask: Ask) -> bool {
        self.inner.shards[self.shard(&ask.check.user)].try_send(ask).is_ok()
    }

    fn shard(&self, user: &UserId) -> usize {
        usize::from(user.placement_key().point().shard(self.inner.shards.len() as u16))
    }

    /// Asks the ledger about the charges that the shards do not know to be open, and the shards again.
    async fn look_up(&self, verdicts: &mut [Verdict], closings: Vec<(usize, Again)>) {
        let mut again = Vec::new();
        for (n, closing) in closings {
            if let Verdict::Refused(Refusal::Undrained { fence, version }) = verdicts[n] {
                again.push(async move { (n, self.close(closing, (fence, version)).await) });
            }
        }
        for (n, verdict) in futures::future::join_all(again).await {
            verdicts[n] = verdict;
        }
    }

    async fn close(&self, again: Again, as_of: (Fence, Version)) -> Verdict {
        let Some(charge) = again.check.operation.closes() else { return Verdict::try_again(TryAgain::Unknown) };
        let (postgres, deadline) = (&self.inner.postgres[self.shard(&again.check.user)], again.deadline);
        match self.inner.look_ups.find(postgres, &again.check, charge, as_of, deadline).await {
            Ok(found) => {
                let (reply, answer) = oneshot::channel();
                heard(self.send(again.ask(found, reply)).then_some(answer), deadline).await
            }
            Err(verdict) => verdict,
        }
    }

    /// Shards that take no commits now.
    pub fn closed_shards(&self) -> usize {
        let shards = 0..self.inner.shards.len() as u16;
        shards.filter(|shard| self.inner.metrics.shard(ShardId(*shard)).open.get() == 0).count()
    }

    /// Ledger entries that Postgres does not hold yet.
    pub fn undrained(&self) -> u64 {
        self.inner.undrained.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    pub fn ledger(&self) -> &Ledger {
        &self.inner.ledger
    }

    pub fn audit(&self) -> &Audit {
        &self.inner.audit
    }

    /// Takes no more checks, drains what is held, and ends the shards' loops.
    pub async fn shutdown(&self) {
        self.inner.stop.cancel();
        let tasks = self.inner.tasks.lock().map(|mut tasks| std::mem::take(&mut *tasks)).unwrap_or_default();
        for task in tasks {
            // A shard that panicked has said so; its successor reads the stream.
            let _ = task.await;
        }
    }
}

/// Between looks for months that may go.
const DROP_MONTHS_EVERY: Duration = Duration::from_secs(600);

async fn drop_months(ledger: Ledger, keep: u32, stop: CancellationToken) {
    loop {
        match ledger.drop_due(keep).await {
            Ok(months) if !months.is_empty() => tracing::info!(?months, "exported months of the ledger are dropped"),
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "months of the ledger cannot be dropped yet");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(DROP_MONTHS_EVERY) => {}
        }
    }
}

/// Between looks for idempotency keys past their window.
const EXPIRE_KEYS_EVERY: Duration = Duration::from_secs(1);

/// Keeps the table of idempotency keys as small as their windows allow, beside the serving of checks.
async fn expire_keys(pool: PgPool, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(EXPIRE_KEYS_EVERY) => {}
        }
        // One that fails is made up for by the next.
        while !stop.is_cancelled() && PostgresStore::expire_keys(&pool).await.unwrap_or(false) {}
    }
}

/// A shard's answer; none: it did not take the question.
async fn heard(answer: Option<oneshot::Receiver<Verdict>>, deadline: Instant) -> Verdict {
    let Some(answer) = answer else { return Verdict::try_again(TryAgain::Overloaded) };
    match tokio::time::timeout_at(deadline, answer).await {
        Ok(Ok(verdict)) => verdict,
        // Dropped on the way: the call it was in has no answer.
        Ok(Err(_)) => Verdict::try_again(TryAgain::Unknown),
        Err(_) => Verdict::try_again(TryAgain::Deadline),
    }
}
