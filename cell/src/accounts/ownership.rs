//! Whether this cell serves a user: by an OWNED row, and by nothing else.

use super::generations::Generation;
use super::{Accounts, AccountsError, statements};
use cellar_model::{CellName, Epoch, ProblemType, UserId};
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

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
    pub(super) state: String,
    pub(super) epoch: i64,
    pub(super) home: String,
}

impl Accounts {
    /// The epoch at which this cell owns the user; else what a router needs to find who does.
    pub(super) async fn owned(&self, user: &UserId) -> Result<Epoch, AccountsError> {
        let generation = self.0.generations.current(user);
        if let Some(epoch) = self.0.owned.get(user, generation) {
            return Ok(epoch);
        }
        let row: Option<OwnershipRow> =
            sqlx::query_as(statements::OWNERSHIP).bind(user.as_str()).fetch_optional(&self.0.given.pool).await?;
        let epoch = self.judge(row)?;
        self.0.owned.put(user, generation, epoch);
        Ok(epoch)
    }

    fn judge(&self, row: Option<OwnershipRow>) -> Result<Epoch, AccountsError> {
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
