//! Whether this cell serves a user: by an OWNED row, and by nothing else.

use super::generations::Generation;
use super::{Accounts, AccountsError, statements};
use cellar_model::{CellName, Epoch, ProblemType, UserId};
use lru::LruCache;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

/// Users whose OWNED row is remembered: some 15 MB.
const REMEMBERED_MAX: NonZeroUsize = NonZeroUsize::new(100_000).expect("not zero");

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

    /// The same of each, in order: one question to Postgres about all that are not remembered.
    pub(super) async fn owned_all(&self, users: &[&UserId]) -> Vec<Result<Epoch, AccountsError>> {
        let generations: Vec<Generation> = users.iter().map(|user| self.0.generations.current(user)).collect();
        let remembered = |(user, generation): (&&UserId, &Generation)| self.0.owned.get(user, *generation);
        let known: Vec<Option<Epoch>> = users.iter().zip(&generations).map(remembered).collect();
        let unknown = users.iter().zip(&known).filter(|(_, known)| known.is_none());
        let unknown: Vec<&str> = unknown.map(|(user, _)| user.as_str()).collect();
        let rows = if unknown.is_empty() { Ok(HashMap::new()) } else { self.read_ownerships(&unknown).await };
        let rows = rows.map_err(Arc::new);
        let places = users.iter().zip(generations).zip(known);
        let judged = places.map(|((user, generation), known)| {
            if let Some(epoch) = known {
                return Ok(epoch);
            }
            let rows = rows.as_ref().map_err(|error| AccountsError::Shared(error.clone()))?;
            let epoch = self.judge(rows.get(user.as_str()))?;
            self.0.owned.put(user, generation, epoch);
            Ok(epoch)
        });
        judged.collect()
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
