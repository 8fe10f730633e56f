//! The engine: checks in, verdicts out, by way of the shards.

use crate::clock::Clock;
use crate::closing::{self, Again, LookUps};
use crate::config::QuotaConfig;
use crate::decisions::{Decisions, Remembered};
use crate::error::QuotaError;
use crate::journal::Journal;
use crate::membership::{Membership, Place};
use crate::metrics::QuotaMetrics;
use crate::moments::Moments;
use crate::noticed::QuotaFacts;
use crate::patches::ShardWriter;
use crate::rollout::Stops;
use crate::seen::Seen;
use crate::shard::{Ask, Shard, ShardId, ShardParts};
use crate::standing::{NotHere, Standing, Visit};
use crate::store::person::PersonBooks;
use crate::store::postgres::PostgresStore;
use crate::store::servers::Servers;
use crate::store::{Audit, Ledger, returned};
use crate::tiers::TierSet;
use crate::witnesses::Witnesses;
use cellar_model::wire::{CellInstance, CellShard, ProcessExplanations};
use cellar_model::{CellName, Check, Fence, Micros, Refusal, RequestKey, TryAgain, UserId, Verdict, Version};
use cellar_policy_host::Host;
use cellar_trace::Tracer;
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

/// Audits that may ask a shard at once.
const AUDITS_MAX: usize = 4;

struct Inner {
    shards: Vec<mpsc::Sender<Ask>>,
    undrained: Vec<Arc<AtomicU64>>,
    tasks: std::sync::Mutex<Vec<JoinHandle<()>>>,
    stop: CancellationToken,
    metrics: QuotaMetrics,
    ledger: Ledger,
    audit: Audit,
    person: PersonBooks,
    /// By shard.
    postgres: Vec<PostgresStore>,
    look_ups: LookUps,
    clock: Clock,
    membership: Membership,
    /// By shard.
    standings: Vec<Arc<Standing>>,
    decisions: Decisions,
    /// Asked again by who explains.
    host: Host,
    cell: CellName,
    tracer: Tracer,
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
        // Before anything is decided by it.
        let mut witnesses = Witnesses::new(
            config.clock.clone(),
            servers.clone(),
            pool.clone(),
            metrics.clock_disputed.clone(),
            metrics.noticed.clone(),
        );
        witnesses.look().await;
        let mut stops = Stops::new(pool.clone(), tiers.clone());
        stops.look().await;
        metrics.undrained_max.set(i64::try_from(config.undrained_max).unwrap_or(i64::MAX));
        let owner: Arc<str> = config.life.as_str().into();
        let membership = Membership::join(pool.clone(), &config, owner.clone()).await?;
        let (config, stop) = (Arc::new(config), CancellationToken::new());
        let (mut shards, mut counts, mut tasks, mut standings) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut memories = Vec::new();
        let postgres: Vec<PostgresStore> =
            ShardId::all(config.shards).map(|id| PostgresStore::new(pool.clone(), id)).collect();
        let look_ups = LookUps::new(config.clock.clone());
        let journal = config.journal.as_deref().map(|path| Journal::open(path, metrics.journaled.clone()));
        let journal = journal.transpose().map_err(QuotaError::Journal)?;
        for id in ShardId::all(config.shards) {
            let (sender, inbox) = mpsc::channel(config.queue_max);
            let undrained = Arc::new(AtomicU64::new(0));
            let standing = Arc::new(Standing::default());
            let parts = ShardParts {
                id,
                owner: owner.clone(),
                config: config.clone(),
                servers: servers.clone(),
                postgres: PostgresStore::new(pool.clone(), id),
                host: host.clone(),
                tiers: tiers.clone(),
                metrics: metrics.clone(),
                journal: journal.clone(),
                undrained: undrained.clone(),
                membership: membership.clone(),
                standing: standing.clone(),
                stop: stop.clone(),
            };
            let (memory, recalls) = mpsc::channel(AUDITS_MAX);
            memories.push(memory);
            tasks.push(tokio::spawn(Shard::new(parts, inbox, recalls).run()));
            shards.push(sender);
            counts.push(undrained);
            standings.push(standing);
        }
        let audit = Audit::new(pool.clone(), servers.clone(), memories);
        let (ledger, person) = (Ledger::new(pool.clone()), PersonBooks::new(pool.clone()));
        if let Some(keep) = config.retention_months {
            tasks.push(tokio::spawn(drop_months(ledger.clone(), keep, stop.clone())));
        }
        tasks.push(tokio::spawn(witnesses.run(stop.clone())));
        tasks.push(tokio::spawn(stops.run(stop.clone())));
        tasks.push(tokio::spawn(expire_keys(pool, stop.clone())));
        if let Some(journal) = &journal {
            tasks.push(tokio::spawn(journal.clone().look_after(postgres.clone(), stop.clone())));
        }
        tasks.push(tokio::spawn(returned::look_after(servers, postgres.clone(), stop.clone())));
        tasks.push(tokio::spawn(membership.clone().run(stop.clone())));
        let inner = Inner {
            shards,
            undrained: counts,
            tasks: tasks.into(),
            stop,
            metrics,
            ledger,
            audit,
            person,
            postgres,
            look_ups,
            clock: config.clock.clone(),
            membership,
            standings,
            decisions: Decisions::default(),
            host,
            cell: config.cell.clone(),
            tracer: config.tracer.clone(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Decides `checks`, in their order.
    pub async fn decide(&self, checks: Vec<Check>) -> Vec<Verdict> {
        let now = Instant::now();
        let mut seen = Seen::new(self.inner.tracer.is_on());
        let mut closings: Vec<(usize, Again)> = Vec::new();
        let asked: Vec<_> = checks
            .into_iter()
            .enumerate()
            .map(|(n, mut check)| {
                let (reply, answer) = oneshot::channel();
                let deadline = now + check.deadline.duration();
                let watched = seen.watch(&mut check);
                if check.operation.closes().is_some() {
                    closing::put_key(&mut check);
                    closings.push((n, Again { check: check.clone(), deadline }));
                }
                let moments = Moments::new(now.into_std());
                let sampled = watched.as_ref().is_some_and(|watched| watched.origin.sampled);
                let moments = if sampled { moments.sampled() } else { moments };
                let remembered = Remembered::default();
                let ask = Ask { check, deadline, reply, moments, looked_up: false, found: None, remembered };
                self.send(ask);
                (answer, deadline, watched)
            })
            .collect();
        let mut verdicts = Vec::with_capacity(asked.len());
        for (answer, deadline, watched) in asked {
            let (verdict, moments) = heard(answer, deadline).await;
            if let Verdict::Refused(Refusal::TryAgain { reason: TryAgain::Overloaded }) = verdict {
                self.inner.metrics.noticed.overloaded();
            }
            if let Some(watched) = watched {
                let moments = moments.unwrap_or_else(|| Moments::new(now.into_std()));
                watched.tell(&self.inner.tracer, &moments, &verdict, now.into_std());
            }
            verdicts.push(verdict);
        }
        if !closings.is_empty() {
            self.look_up(&mut verdicts, closings).await;
        }
        verdicts
    }

    /// One whose shard's inbox is full is answered here.
    fn send(&self, mut ask: Ask) {
        let shard = self.shard(&ask.check.user);
        ask.remembered = Remembered::of(&ask.check, ask.moments.asked(), shard as u16, &self.inner.decisions);
        if let Err(full) = self.inner.shards[shard].try_send(ask) {
            full.into_inner().answer(Verdict::try_again(TryAgain::Overloaded));
        }
    }

    /// What this process remembers of a request, among its last decisions.
    pub fn explain(&self, request: RequestKey) -> ProcessExplanations {
        self.inner.decisions.explain(request, &self.inner.host, self.inner.cell.as_str())
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
                self.send(again.ask(found, reply));
                heard(answer, deadline).await.0
            }
            Err(verdict) => verdict,
        }
    }

    /// How the engine of this process stands now.
    pub fn facts(&self) -> QuotaFacts {
        let inner = &self.inner;
        let mine = ShardId::all(inner.shards.len() as u16).filter(|shard| inner.membership.is_mine(*shard));
        let mut facts = inner.metrics.noticed.facts();
        for shard in mine {
            let gauges = inner.metrics.shard(shard);
            let open = gauges.open.get() == 1;
            facts.shards += 1;
            facts.closed += usize::from(!open);
            facts.never_opened += usize::from(!self.has_opened(shard));
            facts.on_postgres += usize::from(open && gauges.on_postgres.get() == 1);
        }
        facts.undrained = inner.undrained.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        facts.clock_disputed = inner.metrics.clock_disputed.get() == 1;
        facts
    }

    /// The shards of the cell.
    pub fn shard_count(&self) -> u16 {
        self.inner.shards.len() as u16
    }

    pub fn shard_of(&self, user: &UserId) -> ShardId {
        ShardId(self.shard(user) as u16)
    }

    /// The shard's Redis, while this process is the shard's writer there; none while it is closed, or while
    /// Postgres takes the commits.
    pub fn writer(&self, shard: ShardId) -> Option<Arc<ShardWriter>> {
        self.inner.standings.get(usize::from(shard.0))?.writer()
    }

    /// Whether this process has served the shard at all since it started.
    pub fn has_opened(&self, shard: ShardId) -> bool {
        self.inner.standings.get(usize::from(shard.0)).is_some_and(|standing| standing.has_opened())
    }

    /// A visit of who is answered about `user` without a commit: while it holds, no other process changes
    /// what this one knows. Waits a moment for a shard that is being taken over.
    pub async fn visit(&self, user: &UserId) -> Result<Visit, NotHere> {
        let shard = self.shard(user);
        let (standing, until) = (&self.inner.standings[shard], Instant::now() + VISIT_WAIT_MAX);
        loop {
            if let Some(visit) = standing.visit() {
                return Ok(visit);
            }
            // A shard that is still served waits for a store's word, whoever is to have it next.
            if !standing.is_open()
                && let Place::Other(endpoint) = self.inner.membership.place(ShardId(shard as u16))
            {
                return Err(NotHere::OtherInstance(endpoint));
            }
            if Instant::now() >= until {
                return Err(NotHere::Unconfirmed);
            }
            tokio::time::sleep(VISIT_POLL).await;
        }
    }

    /// Lets the cell's other processes take all shards, and serves on until they have. At once if there is
    /// no other. Call it before the listener closes.
    pub async fn leave(&self) {
        let membership = &self.inner.membership;
        if !membership.is_on() {
            return;
        }
        membership.leave().await;
        let until = Instant::now() + LEAVE_MAX;
        while self.inner.standings.iter().any(|standing| standing.is_open()) {
            if !membership.members().has_others() {
                return;
            }
            if Instant::now() >= until {
                tracing::warn!("stopping with shards that no other process has taken");
                return;
            }
            tokio::time::sleep(VISIT_POLL).await;
        }
        tokio::time::sleep(LINGER).await;
    }

    /// The lives of the cell's processes; none where it is one process.
    pub async fn instances(&self) -> Result<Vec<CellInstance>, QuotaError> {
        Ok(self.inner.membership.all(self.inner.shards.len() as u16).await?)
    }

    /// An operator's word that a life of a process is over. False: nobody has heard of it.
    pub async fn fence_instance(&self, life: &str) -> Result<bool, QuotaError> {
        Ok(self.inner.membership.fence(&[life.to_owned()]).await? > 0)
    }

    /// The cell's shards, whoever has them.
    pub async fn shards(&self) -> Result<Vec<CellShard>, QuotaError> {
        let inner = &self.inner;
        let mine = |shard: ShardId| {
            let shard = usize::from(shard.0);
            let here = !inner.membership.is_on() || inner.standings.get(shard)?.is_open();
            here.then(|| inner.undrained.get(shard).map(|count| count.load(Ordering::Relaxed))).flatten()
        };
        inner.audit.shards(mine).await
    }

    /// Ledger entries of the whole cell that Postgres does not hold yet.
    pub async fn undrained(&self) -> Result<u64, QuotaError> {
        if !self.inner.membership.is_on() {
            return Ok(self.inner.undrained.iter().map(|count| count.load(Ordering::Relaxed)).sum());
        }
        Ok(self.shards().await?.iter().map(|shard| shard.undrained).sum())
    }

    /// Policy time.
    pub fn now(&self) -> Micros {
        self.inner.clock.now()
    }

    pub fn ledger(&self) -> &Ledger {
        &self.inner.ledger
    }

    pub(crate) fn person(&self) -> &PersonBooks {
        &self.inner.person
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

/// For how long a visit waits for its shard: a hand-over takes some milliseconds, and at most the last
/// owner's reading lease.
const VISIT_WAIT_MAX: Duration = Duration::from_millis(1_500);
const VISIT_POLL: Duration = Duration::from_millis(10);
/// For how long a process that leaves serves on while others take its shards.
const LEAVE_MAX: Duration = Duration::from_secs(10);
/// And for how long it sends on whoever has not learned yet where its shards are.
const LINGER: Duration = Duration::from_secs(1);

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

/// A shard's answer, and what it took.
async fn heard(answer: oneshot::Receiver<(Verdict, Moments)>, deadline: Instant) -> (Verdict, Option<Moments>) {
    match tokio::time::timeout_at(deadline, answer).await {
        Ok(Ok((verdict, moments))) => (verdict, Some(moments)),
        // Dropped on the way: the call it was in has no answer.
        Ok(Err(_)) => (Verdict::try_again(TryAgain::Unknown), None),
        Err(_) => (Verdict::try_again(TryAgain::Deadline), None),
    }
}
