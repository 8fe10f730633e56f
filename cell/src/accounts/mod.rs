//! Accounts of the users whose home this cell is: sign-up, sessions, profile, preferences.
//!
//! Postgres is the truth. What is cached carries the generation its user had when it was read, so
//! that a change is in force for every request that starts after its answer, whether or not the
//! cache could be told.

mod absences;
mod activity;
mod asked;
mod audited;
mod backfill;
mod brought;
mod brought_hash;
mod cache;
mod caller;
mod change;
mod claims;
mod details;
mod due;
mod email;
mod enrol;
mod erase;
mod error;
mod etag;
mod export;
mod exported;
mod forwards;
mod forwards_due;
mod generations;
mod intents;
mod journal;
mod lanes;
mod log_in;
mod merge_patch;
mod named;
mod origin;
mod ownership;
mod password;
mod passwords;
mod person;
mod postgres_reach;
mod preferences;
mod profile;
mod reaper;
mod routes;
mod session_check;
mod session_life;
mod sessions;
mod sign_up;
mod statements;
mod terms;
#[cfg(test)]
mod tests;
mod user_routes;
mod waiting;

pub(crate) use caller::Caller;
pub(crate) use error::AccountsError;
pub(crate) use routes::{public_routes, routes};
pub(crate) use session_life::SessionLife;
pub(crate) use user_routes::named_routes;

use crate::peers::Peers;
use absences::Absences;
use activity::Activity;
use cache::Cache;
use cellar_directory::{OpenDirectory, Peppers};
use cellar_metrics::LATENCY_BOUNDS_S;
use cellar_model::{CellName, RegionName, TierName, UserId};
use cellar_quota::Quota;
use cellar_server::{AttemptLimit, Attempts, MacKeyring};
use generations::Generations;
use journal::JournalMetrics;
use lanes::Lanes;
use ownership::{LookUps, OwnedUsers};
use passwords::Passwords;
use person::Flights;
use postgres_reach::PostgresReach;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use sqlx::PgPool;
use std::sync::Arc;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use waiting::Waiting;

/// What accounts need of the cell.
pub(crate) struct Dependencies {
    /// The standard path's pool, apart from that of quotas.
    pub(crate) pool: PgPool,
    pub(crate) cache: redis::Client,
    pub(crate) directory: OpenDirectory,
    pub(crate) peppers: Peppers,
    pub(crate) mac_keys: MacKeyring,
    pub(crate) session_life: SessionLife,
    /// Log-ins by password of one account that may fail.
    pub(crate) account_failures: AttemptLimit,
    pub(crate) cell: CellName,
    pub(crate) region: RegionName,
    pub(crate) peers: Peers,
    /// The engine, whose records follow what accounts say, and whose Redis keeps what is written while Postgres is
    /// away; none in tests of accounts alone.
    pub(crate) quota: Option<Quota>,
    /// Whether there is a tier of this name now.
    pub(crate) tier_exists: Box<dyn Fn(&TierName) -> bool + Send + Sync>,
    /// No router stands before this cell: who is not here is unknown, not misdirected.
    pub(crate) public: bool,
}

/// Accounts of one cell. Clones are the same.
#[derive(Clone)]
pub(crate) struct Accounts(Arc<Inner>);

struct Inner {
    given: Dependencies,
    cache: Cache,
    generations: Generations,
    owned: OwnedUsers,
    look_ups: LookUps,
    /// Ids of nobody here, blocked accounts, and sessions that are over: apart from all that is real.
    absent: Absences<UserId>,
    blocked: Absences<UserId>,
    ended: Absences<session_check::Ended>,
    flights: Flights,
    lanes: Lanes,
    postgres: PostgresReach,
    waiting: Waiting,
    journal: JournalMetrics,
    passwords: Passwords,
    account_attempts: Attempts,
    /// Users who are being brought from elsewhere.
    bringing: Semaphore,
    /// Log-ins by password that were refused without a look at the password.
    limited: Counter,
    activity: Activity,
    reaped: reaper::Reaped,
    backfilled: backfill::Backfilled,
    abandoned: reaper::Abandoned,
    forwards_told: forwards_due::ForwardsTold,
    owed: due::Owed,
    /// From the start of what ends sessions to the moment it is in force.
    revocations: Histogram,
    hits: Family<[(&'static str, &'static str); 1], Counter>,
    misses: Family<[(&'static str, &'static str); 1], Counter>,
}

impl Accounts {
    pub(crate) fn new(given: Dependencies) -> Self {
        let accounts = Self(Arc::new(Inner {
            cache: Cache::new(given.cache.clone()),
            generations: Generations::new(),
            owned: OwnedUsers::new(),
            look_ups: LookUps::new(),
            absent: Absences::new(),
            blocked: Absences::new(),
            ended: Absences::new(),
            postgres: PostgresReach::new(),
            waiting: Waiting::new(),
            journal: JournalMetrics::default(),
            flights: Flights::default(),
            lanes: Lanes::new(),
            passwords: Passwords::new(),
            account_attempts: Attempts::new(given.account_failures),
            limited: Counter::default(),
            bringing: Semaphore::new(brought::BRINGING_MAX),
            activity: Activity::default(),
            reaped: reaper::Reaped::default(),
            backfilled: backfill::Backfilled::default(),
            abandoned: reaper::Abandoned::default(),
            forwards_told: forwards_due::ForwardsTold::default(),
            owed: due::Owed::default(),
            revocations: Histogram::new(LATENCY_BOUNDS_S),
            hits: Family::default(),
            misses: Family::default(),
            given,
        }));
        // Every named series stands at 0 from the start.
        for cache in [CACHE_USER, CACHE_SESSION, CACHE_ABSENT] {
            accounts.0.hits.get_or_create(&cache).inc_by(0);
            accounts.0.misses.get_or_create(&cache).inc_by(0);
        }
        accounts
    }

    /// Adds `cellar_cache_hits_total` and `cellar_cache_misses_total` by cache, and what reaper and
    /// backfill did.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("cellar_cache_hits", "Reads answered from the cache", self.0.hits.clone());
        registry.register("cellar_cache_misses", "Reads the cache could not answer", self.0.misses.clone());
        let limited = "Log-ins by password refused because too many of their account had failed";
        registry.register("cellar_log_ins_limited_by_account", limited, self.0.limited.clone());
        let help = "From the start of a log-out, a block, a change of password or an erasure to where it is in force";
        registry.register_with_unit("cellar_revocation_lag", help, Unit::Seconds, self.0.revocations.clone());
        self.0.postgres.register(registry);
        self.0.journal.register(registry);
        self.0.reaped.register(registry);
        self.0.backfilled.register(registry);
        self.0.forwards_told.register(registry);
        self.0.owed.register(registry);
    }

    /// Settles claims, tells other cells of users, pays what accounts owe, and writes noted activity behind, until cancelled; the last
    /// once more then.
    pub(crate) async fn run(&self, cancel: CancellationToken) {
        let activity = self.0.activity.run(&self.0.given.pool, cancel.clone());
        let due = self.pay_what_is_due(cancel.clone());
        let reach = self.0.postgres.run(&self.0.given.pool, cancel.clone());
        let waiting = self.apply_all_waiting(cancel.clone());
        tokio::join!(activity, due, reach, waiting, self.reap(cancel.clone()), self.tell_all_forwards(cancel));
    }

    /// Whether the cell's Postgres is known not to answer accounts.
    pub(crate) fn postgres_is_away(&self) -> bool {
        self.0.postgres.is_away()
    }

    pub(crate) async fn cache_answers(&self) -> bool {
        self.0.cache.answers().await
    }

    /// Nothing read about this user before now is answered with again. Call it after the commit, and
    /// before the answer, of whatever changes the user's rows: owner, tier, block, erase.
    pub(crate) fn forget(&self, user: &UserId) {
        self.0.generations.raise(user);
    }

    /// Nothing read before now is answered with again: another process may have changed it.
    pub(crate) fn forget_all(&self) {
        self.0.generations.raise_all();
    }
}

const CACHE_USER: [(&str, &str); 1] = [("cache", "user")];
const CACHE_SESSION: [(&str, &str); 1] = [("cache", "session")];
/// Who is not here, or blocked: hits by what is remembered, misses by ids that Postgres was asked for.
const CACHE_ABSENT: [(&str, &str); 1] = [("cache", "absent")];
