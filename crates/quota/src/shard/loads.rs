//! Loads and look-ups: records and first answers fetched for users who are not in memory.
//!
//! What Redis has is loaded from Redis alone: while Postgres is silent, nobody who is served without it
//! waits behind a look-up in it.

use super::Shard;
use super::calls::{LOADS_MAX, replay};
use super::serve::Serving;
use super::turn::OpenStore;
use crate::error::StoreError;
use crate::outcome::Outcome;
use crate::record::{Head, Record, RecordBody, RecordError};
use crate::store::postgres::{Loaded, PostgresStore};
use crate::store::redis::RedisStore;
use cellar_model::{Epoch, Fence, KeyId, Refusal, TryAgain, UserId, Verdict, Version};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::time::Instant;

pub(super) struct LoadDone {
    users: Vec<UserId>,
    keys: HashSet<KeyId>,
    result: Result<Fetched, StoreError>,
    from_postgres: bool,
    began: Instant,
}

/// What was brought: records, or why there is none, and first answers of keys.
#[derive(Default)]
struct Fetched {
    records: HashMap<UserId, Result<Record, Refusal>>,
    known: HashMap<KeyId, Option<Outcome>>,
    /// Of these Redis has no record that counts: Postgres is to be asked.
    absent: HashSet<UserId>,
}

impl Shard {
    /// Fetches records, from Redis where it takes the commits.
    pub(super) fn start_load(&mut self, serving: &mut Serving, users: Vec<UserId>) {
        let OpenStore::Redis { redis, valid_from, .. } = &serving.open.store else {
            self.start_look_up(serving, users.into_iter().map(|user| (user, None)).collect(), Vec::new());
            return;
        };
        let (mut redis, valid_from, began) = (redis.clone(), *valid_from, Instant::now());
        serving.loads.push(Box::pin(async move {
            let result = from_redis(&mut redis, valid_from, &users).await;
            LoadDone { users, keys: HashSet::new(), result, from_postgres: false, began }
        }));
    }

    /// Asks Postgres: for its answers to `keys`, and for records that are neither given nor in Redis. One too
    /// many while it does not answer is refused at once.
    pub(super) fn start_look_up(
        &mut self,
        serving: &mut Serving,
        users: Vec<(UserId, Option<Record>)>,
        keys: Vec<KeyId>,
    ) {
        if !serving.postgres_answers && serving.look_ups.len() >= LOADS_MAX {
            for (user, record) in users {
                for ask in serving.users.release(&user, record) {
                    ask.answer(Verdict::try_again(TryAgain::StoreDown));
                }
            }
            return;
        }
        let postgres = self.parts.postgres.clone();
        let redis = match &serving.open.store {
            // Those of a load have been asked for there.
            OpenStore::Redis { redis, valid_from, .. } if !keys.is_empty() => Some((redis.clone(), *valid_from)),
            _ => None,
        };
        let began = Instant::now();
        serving.look_ups.push(Box::pin(async move {
            let names = users.iter().map(|(user, _)| user.clone()).collect();
            let result = async {
                let known = if keys.is_empty() { HashMap::new() } else { postgres.find_keys(&keys).await? };
                let records = fetch(redis, &postgres, users).await?;
                Ok(Fetched { records, known, absent: HashSet::new() })
            };
            let (keys, result) = (keys.iter().copied().collect(), result.await);
            LoadDone { users: names, keys, result, from_postgres: true, began }
        }));
    }

    /// `Some`: a turn is due. A connection that fails a load is no better for a commit.
    pub(super) fn finish_load(&mut self, serving: &mut Serving, done: LoadDone) -> Option<&'static str> {
        let now = Instant::now();
        for user in &done.users {
            for ask in serving.users.waiting_for(user) {
                ask.moments.loaded(done.from_postgres, done.began, now);
            }
        }
        let mut fetched = match done.result {
            Ok(fetched) => fetched,
            Err(error) => {
                tracing::warn!(shard = %self.parts.id, error = &error as &dyn std::error::Error, "load failed");
                for user in &done.users {
                    for ask in serving.users.release(user, None) {
                        ask.answer(Verdict::try_again(TryAgain::StoreDown));
                    }
                }
                let on_redis = matches!(
                    error,
                    StoreError::Unknown { store: "redis", .. } | StoreError::Refused { store: "redis", .. }
                );
                return on_redis.then_some("redis");
            }
        };
        let absent = std::mem::take(&mut fetched.absent);
        for user in done.users.iter().filter(|user| !absent.contains(*user)) {
            match fetched.records.remove(user) {
                Some(Ok(record)) => {
                    for mut ask in serving.users.release(user, Some(record)).into_iter().rev() {
                        match ask.check.key.and_then(|key| fetched.known.get(&key.id).map(|known| (key, known))) {
                            Some((key, Some(known))) => {
                                self.parts.metrics.replays.inc();
                                ask.answer(replay(known, key.body));
                            }
                            // Charged, and nobody can say what was answered.
                            Some((_, None)) => ask.answer(Verdict::try_again(TryAgain::NotReady)),
                            None => {
                                // One that came while the load was under way was not part of it.
                                ask.looked_up |= ask.check.key.is_some_and(|key| done.keys.contains(&key.id));
                                self.ready.push_front(ask);
                            }
                        }
                    }
                }
                refused => {
                    let refusal = match refused {
                        Some(Err(refusal)) => refusal,
                        _ => Refusal::TryAgain { reason: TryAgain::StoreDown },
                    };
                    for ask in serving.users.release(user, None) {
                        ask.answer(Verdict::Refused(refusal.clone()));
                    }
                }
            }
        }
        if self.nearly_full.load(Ordering::Relaxed) {
            for user in absent {
                for ask in serving.users.release(&user, None) {
                    ask.answer(Verdict::try_again(TryAgain::OutOfMemory));
                }
            }
        } else if !absent.is_empty() {
            self.start_look_up(serving, absent.into_iter().map(|user| (user, None)).collect(), Vec::new());
        }
        None
    }
}

/// Records in memory already, else from Redis (where they count since a fence), else from Postgres with
/// the ownership.
async fn fetch(
    redis: Option<(RedisStore, Fence)>,
    postgres: &PostgresStore,
    users: Vec<(UserId, Option<Record>)>,
) -> Result<HashMap<UserId, Result<Record, Refusal>>, StoreError> {
    let mut records = HashMap::with_capacity(users.len());
    let mut missing = Vec::new();
    for (user, record) in users {
        match record {
            Some(record) => {
                records.insert(user, Ok(record));
            }
            None => missing.push(user),
        }
    }
    let absent: Vec<UserId> = match redis {
        Some((mut redis, valid_from)) => {
            let fetched = from_redis(&mut redis, valid_from, &missing).await?;
            records.extend(fetched.records);
            fetched.absent.into_iter().collect()
        }
        None => missing,
    };
    if !absent.is_empty() {
        let mut loaded = postgres.load_users(&absent).await?;
        for user in absent {
            let found = loaded.remove(&user).unwrap_or(Loaded::Absent);
            let record = from_postgres(&user, found);
            records.insert(user, record);
        }
    }
    Ok(records)
}

async fn from_redis(redis: &mut RedisStore, valid_from: Fence, users: &[UserId]) -> Result<Fetched, StoreError> {
    let mut fetched = Fetched::default();
    for (user, bytes) in users.iter().zip(redis.records(users).await?) {
        match bytes.map(|bytes| Record::decode(&bytes)).transpose() {
            // A record of a life that is not believed is a miss, and a frozen one is for Postgres to
            // explain.
            Ok(Some(record)) if record.head.fence >= valid_from && !record.body.flags.frozen => {
                fetched.records.insert(user.clone(), Ok(record));
            }
            Ok(_) => _ = fetched.absent.insert(user.clone()),
            Err(error) => _ = fetched.records.insert(user.clone(), Err(unreadable(user, "redis", &error))),
        }
    }
    Ok(fetched)
}

/// Never decided on as if it were empty; only this user waits until somebody has looked.
fn unreadable(user: &UserId, store: &str, error: &RecordError) -> Refusal {
    tracing::error!(user = ?user, store, error = error as &dyn std::error::Error, "a record cannot be read");
    Refusal::TryAgain { reason: TryAgain::NotReady }
}

fn from_postgres(user: &UserId, loaded: Loaded) -> Result<Record, Refusal> {
    match loaded {
        Loaded::Owned { epoch, tier, blocked, record } => {
            let record = record.map_err(|error| unreadable(user, "postgres", &error))?;
            let mut record = record.unwrap_or_else(|| Record {
                head: Head { fence: Fence(0), epoch, version: Version(0) },
                body: RecordBody::new(tier.clone()),
            });
            record.head.epoch = record.head.epoch.max(epoch);
            // The row is the truth of both; a change of it that the record does not have yet is on its way.
            (record.body.flags.blocked, record.body.tier) = (blocked, tier);
            Ok(record)
        }
        Loaded::Frozen => Err(Refusal::Frozen),
        Loaded::Elsewhere { home, epoch } => Err(Refusal::Elsewhere { home: Some(home), epoch }),
        // No row, no service: whether there is such a user at all, the directory knows.
        Loaded::Absent => Err(Refusal::Elsewhere { home: None, epoch: Epoch(0) }),
    }
}
