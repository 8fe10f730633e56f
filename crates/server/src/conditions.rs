//! What is wrong with a process now: a fixed set of named conditions, each with since when, and in figures.
//!
//! One is entered at once and left only after it has not been seen for a while, so that what comes and goes is one
//! condition and not a hundred. Waiting is counted by the monotonic clock; the wall clock is for people.

use axum::Router;
use axum::routing::get;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::Serialize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often a process looks at itself.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);
/// For so long one has not been seen before it is left: some looks, so that one good answer between two bad ones
/// ends nothing.
const QUIET: Duration = Duration::from_secs(5);
/// Of those that are seen only when somebody asks: between two requests all seems well.
const QUIET_ASKED: Duration = Duration::from_secs(30);
/// A sentence is read by a person, at three in the morning.
const WHAT_CHARS_MAX: usize = 400;

/// Its name is its metric's label and its runbook's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    RedisAway,
    ShardClosed,
    PostgresAway,
    DirectoryAway,
    CacheAway,
    ClockDisputed,
    PolicyFaulting,
    DiskFull,
    Overloaded,
    CatalogUnfit,
    CellAway,
    NoTopology,
    NoCatalog,
}

impl Condition {
    /// Of a cell's process.
    pub const OF_CELLS: [Condition; 10] = [
        Condition::RedisAway,
        Condition::ShardClosed,
        Condition::PostgresAway,
        Condition::DirectoryAway,
        Condition::CacheAway,
        Condition::ClockDisputed,
        Condition::PolicyFaulting,
        Condition::DiskFull,
        Condition::Overloaded,
        Condition::CatalogUnfit,
    ];
    /// Of a router.
    pub const OF_ROUTERS: [Condition; 5] = [
        Condition::DirectoryAway,
        Condition::CellAway,
        Condition::NoTopology,
        Condition::NoCatalog,
        Condition::DiskFull,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Condition::RedisAway => "redis-away",
            Condition::ShardClosed => "shard-closed",
            Condition::PostgresAway => "postgres-away",
            Condition::DirectoryAway => "directory-away",
            Condition::CacheAway => "cache-away",
            Condition::ClockDisputed => "clock-disputed",
            Condition::PolicyFaulting => "policy-faulting",
            Condition::DiskFull => "disk-full",
            Condition::Overloaded => "overloaded",
            Condition::CatalogUnfit => "catalog-unfit",
            Condition::CellAway => "cell-away",
            Condition::NoTopology => "no-topology",
            Condition::NoCatalog => "no-catalog",
        }
    }

    fn quiet(self) -> Duration {
        match self {
            Condition::PolicyFaulting | Condition::Overloaded => QUIET_ASKED,
            _ => QUIET,
        }
    }
}

/// What a look found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// A sentence with figures. Nothing of a person stands in it.
    pub what: String,
    /// Users are refused because of it; else they are served, less well.
    pub failing: bool,
}

impl Seen {
    pub fn degraded(what: impl Into<String>) -> Option<Self> {
        Some(Self { what: what.into(), failing: false })
    }

    pub fn failing(what: impl Into<String>) -> Option<Self> {
        Some(Self { what: what.into(), failing: true })
    }
}

/// Who is in these conditions.
#[derive(Clone, Debug, Serialize)]
pub struct ProcessName {
    pub role: &'static str,
    /// Of the router, or of the cell.
    pub name: String,
    pub region: String,
}

/// Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Conditions(Arc<Inner>);

struct Inner {
    of: ProcessName,
    since: Instant,
    /// In the order of the role's list, which nothing is added to.
    held: Mutex<Vec<(Condition, Option<Held>)>>,
    gauges: Family<[(&'static str, &'static str); 1], Gauge>,
}

struct Held {
    /// Milliseconds since the epoch, for people.
    since_ms: u64,
    since: Instant,
    seen: Instant,
    what: Seen,
}

/// One condition, as `/conditions` says it.
#[derive(Clone, Debug, Serialize)]
pub struct InForce {
    pub name: &'static str,
    pub since_ms: u64,
    pub for_s: f64,
    pub what: String,
    pub failing: bool,
    /// The file's stem in `docs/operations/runbooks`.
    pub runbook: &'static str,
}

#[derive(Serialize)]
struct Document {
    process: ProcessName,
    up_s: f64,
    ready: bool,
    reasons: Vec<String>,
    conditions: Vec<InForce>,
}

impl Conditions {
    /// Of `of`, which can be in `known` and no other; registers `cellar_condition`, each at 0.
    pub fn register(registry: &mut Registry, of: ProcessName, known: &[Condition]) -> Self {
        let gauges: Family<[(&'static str, &'static str); 1], Gauge> = Family::default();
        for condition in known {
            gauges.get_or_create(&[("condition", condition.name())]).set(0);
        }
        let help = "1 while this process is in the condition; what it is, /conditions says";
        registry.register("cellar_condition", help, gauges.clone());
        let held = known.iter().map(|condition| (*condition, None)).collect();
        Self(Arc::new(Inner { of, since: Instant::now(), held: Mutex::new(held), gauges }))
    }

    /// Takes what a look found of `condition`. A condition that the role does not have is none.
    pub fn tell(&self, condition: Condition, seen: Option<Seen>) {
        self.tell_at(condition, seen, Instant::now());
    }

    fn tell_at(&self, condition: Condition, seen: Option<Seen>, now: Instant) {
        let mut all = self.held();
        let Some((_, held)) = all.iter_mut().find(|(known, _)| *known == condition) else { return };
        let name = condition.name();
        match (&mut *held, seen) {
            (Some(held), Some(what)) => (held.seen, held.what) = (now, bounded(what)),
            (None, Some(what)) => {
                tracing::warn!(condition = name, what = what.what, "the process is degraded");
                *held = Some(Held { since_ms: wall_ms(), since: now, seen: now, what: bounded(what) });
                self.gauge(name).set(1);
            }
            (Some(of), None) if now.saturating_duration_since(of.seen) >= condition.quiet() => {
                let for_s = now.saturating_duration_since(of.since).as_secs_f64();
                tracing::info!(condition = name, for_s, "the process is as it should be again");
                *held = None;
                self.gauge(name).set(0);
            }
            (_, None) => {}
        }
    }

    /// Those it is in now.
    pub fn in_force(&self) -> Vec<InForce> {
        let all = self.held();
        let all = all.iter().filter_map(|(condition, held)| Some((condition.name(), held.as_ref()?)));
        let shown = all.map(|(name, held)| InForce {
            name,
            since_ms: held.since_ms,
            for_s: held.since.elapsed().as_secs_f64(),
            what: held.what.what.clone(),
            failing: held.what.failing,
            runbook: name,
        });
        shown.collect()
    }

    /// As lines of `/readyz`.
    pub(crate) fn remarks(&self) -> Vec<String> {
        let line = |one: InForce| format!("{} for {:.0} s: {}", one.name, one.for_s, one.what);
        self.in_force().into_iter().map(line).collect()
    }

    /// `GET /conditions`.
    pub(crate) fn routes(&self, ready: impl Fn() -> Vec<String> + Clone + Send + Sync + 'static) -> Router {
        let all = self.clone();
        let answer = move || {
            let reasons = ready();
            let document = Document {
                process: all.0.of.clone(),
                up_s: all.0.since.elapsed().as_secs_f64(),
                ready: reasons.is_empty(),
                reasons,
                conditions: all.in_force(),
            };
            async move { axum::Json(document) }
        };
        Router::new().route("/conditions", get(answer))
    }

    fn gauge(&self, name: &'static str) -> Gauge {
        self.0.gauges.get_or_create(&[("condition", name)]).clone()
    }

    fn held(&self) -> MutexGuard<'_, Vec<(Condition, Option<Held>)>> {
        // Nothing that holds it can panic half way.
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bounded(mut seen: Seen) -> Seen {
    if let Some((end, _)) = seen.what.char_indices().nth(WHAT_CHARS_MAX) {
        seen.what.truncate(end);
        seen.what.push('…');
    }
    seen
}

#[expect(clippy::disallowed_methods, reason = "it is shown to people, and nothing is decided by it")]
fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditions() -> (Conditions, Registry) {
        let mut registry = Registry::default();
        let of = ProcessName { role: "cell", name: "eu-1".into(), region: "eu".into() };
        (Conditions::register(&mut registry, of, &Condition::OF_CELLS), registry)
    }

    fn names(conditions: &Conditions) -> Vec<&'static str> {
        conditions.in_force().iter().map(|one| one.name).collect()
    }

    #[test]
    fn one_is_entered_at_once_and_left_only_after_a_quiet_time() {
        let (conditions, _) = conditions();
        let mut now = Instant::now();
        conditions.tell_at(Condition::RedisAway, Seen::degraded("4 of 4 shards"), now);
        assert_eq!(names(&conditions), ["redis-away"]);
        let since_ms = conditions.in_force()[0].since_ms;
        for _ in 0..20 {
            now += QUIET - Duration::from_millis(1);
            conditions.tell_at(Condition::RedisAway, None, now);
            assert_eq!(names(&conditions), ["redis-away"], "it comes and goes");
            conditions.tell_at(Condition::RedisAway, Seen::degraded("1 of 4 shards"), now);
        }
        let shown = &conditions.in_force()[0];
        assert_eq!((shown.since_ms, shown.what.as_str()), (since_ms, "1 of 4 shards"));
        conditions.tell_at(Condition::RedisAway, None, now + QUIET);
        assert!(names(&conditions).is_empty());
    }

    #[test]
    fn every_condition_of_the_role_has_a_series_from_the_start_and_no_other_ever_gets_one() {
        let (conditions, registry) = conditions();
        let series = || {
            let mut text = String::new();
            prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
            text.lines().filter(|line| line.starts_with("cellar_condition{")).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(series().len(), Condition::OF_CELLS.len());
        assert!(series().iter().all(|line| line.ends_with(" 0")));
        conditions.tell(Condition::CellAway, Seen::failing("of a router"));
        assert!(names(&conditions).is_empty());
        conditions.tell(Condition::DiskFull, Seen::degraded("x".repeat(10 * WHAT_CHARS_MAX)));
        assert_eq!(series().len(), Condition::OF_CELLS.len());
        assert!(series().contains(&r#"cellar_condition{condition="disk-full"} 1"#.to_owned()));
        assert_eq!(conditions.in_force()[0].what.chars().count(), WHAT_CHARS_MAX + 1);
    }
}
