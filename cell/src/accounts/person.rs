//! What a profile and the preferences are answered from: one hash of the cache, or one query.

use super::generations::Generation;
use super::merge_patch::apply;
use super::waiting::Patch;
use super::{Accounts, AccountsError, CACHE_ABSENT, CACHE_USER, statements};
use cellar_model::{Micros, ProblemType, UserId, header};
use cellar_quota::PatchSeq;
use cellar_trace::store;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use http::{HeaderName, HeaderValue};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The cached fields, in this order.
const FIELDS: [&str; 8] =
    ["generation", "email", "name", "tier", "created_at_us", "version", "preferences", "preferences_version"];

/// A user as shown to the user. Never a password hash, never a secret.
#[derive(Clone)]
pub(super) struct Person {
    pub(super) email: Option<String>,
    pub(super) name: Option<String>,
    pub(super) tier: String,
    pub(super) created_at: Micros,
    pub(super) version: i64,
    /// A JSON object.
    pub(super) preferences: String,
    pub(super) preferences_version: i64,
    /// The last of the patches in `preferences` that Postgres does not have yet.
    pub(super) patched: Option<PatchSeq>,
}

impl Person {
    /// What tells one state of the preferences from every other.
    pub(super) fn preferences_counters(&self) -> Vec<i64> {
        let waiting = self.patched.map(|seq| [seq.fence.0 as i64, seq.n as i64]);
        std::iter::once(self.preferences_version).chain(waiting.into_iter().flatten()).collect()
    }

    /// With what waits for Postgres.
    fn patched(&self, waiting: &[Arc<Patch>]) -> Result<Self, AccountsError> {
        let mut all = serde_json::from_str(&self.preferences).map_err(|_| AccountsError::Corrupt("preference"))?;
        apply(&mut all, &waiting.iter().map(|patch| &patch.change).collect::<Vec<_>>());
        let preferences = serde_json::Value::Object(all).to_string();
        Ok(Self { preferences, patched: waiting.last().map(|patch| patch.seq), ..self.clone() })
    }
}

#[derive(sqlx::FromRow)]
struct PersonRow {
    email: Option<String>,
    name: Option<String>,
    tier_id: String,
    state: String,
    version: i64,
    created_at_us: i64,
    preferences_version: i64,
    preferences: String,
}

type Load = Shared<BoxFuture<'static, Result<Arc<Person>, Arc<AccountsError>>>>;

/// Loads under way. Whoever misses while one is under way waits for it, unless the user has changed
/// since it began: then the generation is another, and so is the load.
#[derive(Default)]
pub(super) struct Flights(Mutex<HashMap<(UserId, Generation), Load>>);

impl Flights {
    fn lock(&self) -> MutexGuard<'_, HashMap<(UserId, Generation), Load>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Accounts {
    /// The user, who is owned here and not blocked.
    pub(super) async fn person(&self, user: &UserId) -> Result<Arc<Person>, AccountsError> {
        self.owned(user).await?;
        // What waits first, the generation then: what is applied meanwhile is in one of the two.
        let waiting = self.still_waiting(user).await?;
        let base = self.base(user).await?;
        if waiting.is_empty() { Ok(base) } else { Ok(Arc::new(base.patched(&waiting)?)) }
    }

    /// The user without what waits for Postgres.
    pub(super) async fn base(&self, user: &UserId) -> Result<Arc<Person>, AccountsError> {
        let generation = self.0.generations.current(user);
        if self.0.blocked.has(user, generation) {
            self.0.hits.get_or_create(&CACHE_ABSENT).inc();
            return Err(ProblemType::Blocked.into());
        }
        let key = self.0.cache.key("user", user.as_str());
        let cached = self.0.cache.read(&key, FIELDS).await;
        if let Some(person) = cached.and_then(|fields| parse(fields, generation)) {
            self.0.hits.get_or_create(&CACHE_USER).inc();
            return Ok(Arc::new(person));
        }
        self.0.misses.get_or_create(&CACHE_USER).inc();
        self.load_once(user, generation).await
    }

    async fn load_once(&self, user: &UserId, generation: Generation) -> Result<Arc<Person>, AccountsError> {
        let load = {
            let mut flights = self.0.flights.lock();
            let flight = (user.clone(), generation);
            let start = || self.start_load(flight.clone());
            flights.entry(flight.clone()).or_insert_with(start).clone()
        };
        // Also who waits for another's load sees where his time went.
        store("postgresql", load, |load| load.is_err().then_some("error")).await.map_err(AccountsError::Shared)
    }

    /// A load of its own task, which ends and takes itself off the list whoever has given up.
    fn start_load(&self, flight: (UserId, Generation)) -> Load {
        let accounts = self.clone();
        let task = tokio::spawn(async move {
            let loaded = accounts.load(&flight.0, flight.1).await;
            accounts.0.flights.lock().remove(&flight);
            loaded.map_err(Arc::new)
        });
        // A load that panicked is one that failed.
        let failed = |_| Err(Arc::new(AccountsError::Corrupt("user")));
        task.map(move |ended| ended.unwrap_or_else(failed)).boxed().shared()
    }

    async fn load(&self, user: &UserId, generation: Generation) -> Result<Arc<Person>, AccountsError> {
        let row: Option<PersonRow> = self
            .0
            .postgres
            .ask(async {
                let query = sqlx::query_as(statements::PERSON).bind(user.as_str());
                Ok(query.fetch_optional(&self.0.given.pool).await?)
            })
            .await?;
        let row = row.ok_or_else(|| self.left(user))?;
        match row.state.as_str() {
            "active" => {}
            "blocked" => {
                self.0.blocked.put(user.clone(), generation);
                return Err(ProblemType::Blocked.into());
            }
            _ => return Err(ProblemType::UnknownUser.into()),
        }
        let person = Person {
            email: row.email,
            name: row.name,
            tier: row.tier_id,
            created_at: Micros(u64::try_from(row.created_at_us).unwrap_or_default()),
            version: row.version,
            preferences: row.preferences,
            preferences_version: row.preferences_version,
            patched: None,
        };
        let key = self.0.cache.key("user", user.as_str());
        if self.0.generations.current(user) == generation {
            self.0.cache.write(&key, &fields(&person, generation), u64::MAX).await;
        }
        Ok(Arc::new(person))
    }

    /// `Cellar-Degraded`, where Postgres had no part in what is shown.
    pub(super) fn degraded(&self, person: &Person) -> Option<[(HeaderName, HeaderValue); 1]> {
        let from = match person.patched {
            Some(_) => "journal",
            None if self.0.postgres.is_away() => "cache",
            None => return None,
        };
        self.0.journal.degraded.get_or_create(&[("from", from)]).inc();
        Some([(HeaderName::from_static(header::DEGRADED), HeaderValue::from_static(from))])
    }

    /// A change of the user's rows is committed: what was cached before is worthless from here on,
    /// and its memory is freed if the cache can be reached.
    pub(super) async fn changed(&self, user: &UserId) {
        self.forget(user);
        self.0.cache.remove(&self.0.cache.key("user", user.as_str())).await;
    }
}

fn fields(person: &Person, generation: Generation) -> [(&'static str, String); 8] {
    let values = [
        generation.to_text(),
        // No e-mail is empty.
        person.email.clone().unwrap_or_default(),
        // JSON, to tell no name from an empty one.
        serde_json::json!(person.name).to_string(),
        person.tier.clone(),
        person.created_at.0.to_string(),
        person.version.to_string(),
        person.preferences.clone(),
        person.preferences_version.to_string(),
    ];
    let mut names = FIELDS.into_iter();
    values.map(|value| (names.next().unwrap_or_default(), value))
}

fn parse(fields: [String; 8], now: Generation) -> Option<Person> {
    let [generation, email, name, tier, created, version, preferences, preferences_version] = fields;
    if generation != now.to_text() {
        return None;
    }
    Some(Person {
        email: Some(email).filter(|email| !email.is_empty()),
        name: serde_json::from_str(&name).ok()?,
        tier,
        created_at: Micros(created.parse().ok()?),
        version: version.parse().ok()?,
        preferences,
        preferences_version: preferences_version.parse().ok()?,
        patched: None,
    })
}
