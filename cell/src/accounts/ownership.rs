//! Whether this cell serves a user: by an OWNED row, and by nothing else.

use super::generations::Generation;
use super::{Accounts, AccountsError, CACHE_ABSENT, statements};
use cellar_model::{CellName, Epoch, ProblemType, UserId};
use cellar_trace::store;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared, join_all};
use lru::LruCache;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;

/// Users whose OWNED row is remembered: some 15 MB.
const REMEMBERED_MAX: NonZeroUsize = NonZeroUsize::new(100_000).expect("not zero");

/// Of the standard path's connections, those that may look for users at once.
const LOOK_UPS_MAX: usize = 2;

/// Users found OWNED, as of a generation.
pub(super) struct OwnedUsers(Mutex<LruCache<UserId, (Generation, Epoch)>>);

impl OwnedUsers {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(REMEMBERED_MAX)))
    }

    fn get(&self, user: &UserId, now: Generation) -> Option<Epoch> {
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        users.get(user).filter(|(then, _)| *then == now).map(|(_, epoch)| *epoch)
    }

    fn put(&self, user: &UserId, read_at: Generation, epoch: Epoch) {
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        users.put(user.clone(), (read_at, epoch));
    }
}

type Rows = HashMap<String, Arc<OwnershipRow>>;
type LookUpOfAll = Shared<BoxFuture<'static, Result<Arc<Rows>, Arc<AccountsError>>>>;
type LookUp = Shared<BoxFuture<'static, Result<Option<Arc<OwnershipRow>>, Arc<AccountsError>>>>;

/// Questions under way about users whom nobody remembers. Few at once: who scans ids must leave connections to
/// those whom he looks for.
pub(super) struct LookUps {
    under_way: Mutex<HashMap<(UserId, Generation), LookUp>>,
    places: Semaphore,
}

impl LookUps {
    pub(super) fn new() -> Self {
        Self { under_way: Mutex::default(), places: Semaphore::new(LOOK_UPS_MAX) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(UserId, Generation), LookUp>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct OwnershipRow {
    user_id: String,
    pub(super) state: String,
    pub(super) epoch: i64,
    pub(super) home: String,
}

impl Accounts {
    /// The epoch at which this cell owns the user; else what a router needs to find who does.
    pub(super) async fn owned(&self, user: &UserId) -> Result<Epoch, AccountsError> {
        self.owned_all(&[user]).await.pop().unwrap_or_else(|| Err(self.not_here()))
    }

    /// The same of each, in order: one question to Postgres about all that are not remembered, and about whom nobody
    /// else is asking just now.
    pub(super) async fn owned_all(&self, users: &[&UserId]) -> Vec<Result<Epoch, AccountsError>> {
        let generations: Vec<Generation> = users.iter().map(|user| self.0.generations.current(user)).collect();
        let remembered = |(user, generation): (&&UserId, &Generation)| {
            let known = self.0.owned.get(user, *generation).map(Ok);
            known.or_else(|| self.0.absent.has(user, *generation).then(|| Err(self.not_here())))
        };
        let mut known: Vec<Option<Result<Epoch, AccountsError>>> =
            users.iter().zip(&generations).map(remembered).collect();
        self.0
            .hits
            .get_or_create(&CACHE_ABSENT)
            .inc_by(known.iter().flatten().filter(|known| known.is_err()).count() as u64);
        let unknown: Vec<usize> = (0..users.len()).filter(|n| known[*n].is_none()).collect();
        if !unknown.is_empty() {
            let asked = unknown.iter().map(|n| (users[*n].clone(), generations[*n])).collect();
            let asking = join_all(self.look_up(asked));
            let found = store("postgresql", asking, |found| found.iter().any(Result::is_err).then_some("error")).await;
            for (n, found) in unknown.into_iter().zip(found) {
                let found = found.map_err(AccountsError::Shared);
                known[n] = Some(found.and_then(|row| self.remember(users[n], generations[n], row.as_deref())));
            }
        }
        known.into_iter().map(|known| known.unwrap_or_else(|| Err(self.not_here()))).collect()
    }

    fn remember(&self, user: &UserId, read_at: Generation, row: Option<&OwnershipRow>) -> Result<Epoch, AccountsError> {
        let judged = self.judge(row);
        match (&judged, row) {
            (Ok(epoch), _) => self.0.owned.put(user, read_at, *epoch),
            (Err(_), None) => self.0.absent.put(user.clone(), read_at),
            // Who is on the way, or elsewhere, may be here again at any moment.
            (Err(_), Some(_)) => {}
        }
        judged
    }

    /// Asks about each, in order, unless somebody is asking already.
    fn look_up(&self, asked: Vec<(UserId, Generation)>) -> Vec<LookUp> {
        let look_ups = &self.0.look_ups;
        let mut under_way = look_ups.lock();
        let mut new: Vec<(UserId, Generation)> =
            asked.iter().filter(|one| !under_way.contains_key(one)).cloned().collect();
        new.sort_unstable_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
        new.dedup();
        if !new.is_empty() {
            let rows = self.start_look_up(new.clone());
            for one in new {
                let (rows, user) = (rows.clone(), one.0.clone());
                let row = async move { rows.await.map(|rows| rows.get(user.as_str()).cloned()) };
                under_way.insert(one, row.boxed().shared());
            }
        }
        asked.iter().filter_map(|one| under_way.get(one).cloned()).collect()
    }

    /// One question of its own task, which ends and takes itself off the list whoever has given up.
    fn start_look_up(&self, asked: Vec<(UserId, Generation)>) -> LookUpOfAll {
        self.0.misses.get_or_create(&CACHE_ABSENT).inc_by(asked.len() as u64);
        let accounts = self.clone();
        let task = tokio::spawn(async move {
            let read = async {
                // It is never closed.
                let _place = accounts.0.look_ups.places.acquire().await;
                let ids: Vec<&str> = asked.iter().map(|(user, _)| user.as_str()).collect();
                accounts.0.postgres.ask(accounts.read_ownerships(&ids)).await
            };
            let rows = read.await;
            let mut under_way = accounts.0.look_ups.lock();
            asked.iter().for_each(|one| {
                under_way.remove(one);
            });
            let shared = |rows: HashMap<String, OwnershipRow>| {
                Arc::new(rows.into_iter().map(|(id, row)| (id, Arc::new(row))).collect())
            };
            rows.map(shared).map_err(Arc::new)
        });
        // One that panicked is one that failed.
        let failed = |_| Err(Arc::new(AccountsError::Corrupt("ownership")));
        task.map(move |ended| ended.unwrap_or_else(failed)).boxed().shared()
    }

    pub(super) async fn read_ownerships(&self, users: &[&str]) -> Result<HashMap<String, OwnershipRow>, AccountsError> {
        let rows: Vec<OwnershipRow> =
            sqlx::query_as(statements::OWNERSHIPS).bind(users).fetch_all(&self.0.given.pool).await?;
        Ok(rows.into_iter().map(|row| (row.user_id.clone(), row)).collect())
    }

    pub(super) fn judge(&self, row: Option<&OwnershipRow>) -> Result<Epoch, AccountsError> {
        let Some(row) = row else {
            return Err(self.not_here());
        };
        let epoch = Epoch::from_i64(row.epoch);
        match row.state.as_str() {
            "OWNED" => Ok(epoch),
            "FROZEN" => Err(ProblemType::Moving.into()),
            "ERASED" => Err(ProblemType::UnknownUser.into()),
            // FORWARD names the home; RECEIVING and READY the source, which still serves.
            _ => {
                let home = CellName::new(&row.home).map_err(|_| AccountsError::Corrupt("home"))?;
                Err(AccountsError::Misdirected(Some((home, epoch))))
            }
        }
    }

    /// A user this cell has never heard of. Where a router stands before it, that may be the
    /// router's mistake.
    pub(super) fn not_here(&self) -> AccountsError {
        if self.0.given.public { ProblemType::UnknownUser.into() } else { AccountsError::Misdirected(None) }
    }

    /// A write found no OWNED row to hold: the user left between the check and the write.
    pub(super) fn left(&self, user: &UserId) -> AccountsError {
        self.forget(user);
        self.not_here()
    }
}
