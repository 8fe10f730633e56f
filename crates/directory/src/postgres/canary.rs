//! The proof that conditional writes work here, before a user's home depends on them.

use super::{PostgresDirectory, statements::*};
use crate::{DirectoryError, Op};

/// Clients that start together take the canary from each other; one of so many rounds succeeds.
const ROUNDS_MAX: u32 = 16;

impl PostgresDirectory {
    /// Changes the canary row if it is what was read, then tries the same again: the second must be
    /// refused, and so must a second insert.
    pub(super) async fn prove_once(&self) -> Result<(), DirectoryError> {
        for _ in 0..ROUNDS_MAX {
            let mine = Op::random();
            self.insert().await?;
            let read = sqlx::query_as::<_, (String,)>(READ_CANARY);
            let Some((read,)) = self.optional(read).await? else {
                return Err(DirectoryError::Unconditional("a written row is not there"));
            };
            if !self.swap(mine.as_str(), &read).await? {
                continue;
            }
            if self.swap(Op::random().as_str(), &read).await? {
                return Err(DirectoryError::Unconditional("a change was applied although its condition did not hold"));
            }
            if self.insert().await? {
                return Err(DirectoryError::Unconditional("an existing row was inserted again"));
            }
            return Ok(());
        }
        Err(DirectoryError::Undecided { what: "canary", attempts: ROUNDS_MAX })
    }

    async fn insert(&self) -> Result<bool, DirectoryError> {
        // Never the value that is swapped in next: a swap of equal values would prove nothing.
        let insert = sqlx::query_as::<_, (bool,)>(CREATE_CANARY).bind(String::from(Op::random()));
        Ok(self.optional(insert).await?.is_some())
    }

    async fn swap(&self, next: &str, read: &str) -> Result<bool, DirectoryError> {
        let change = sqlx::query_as::<_, (bool,)>(CHANGE_CANARY).bind(next).bind(read);
        Ok(self.optional(change).await?.is_some())
    }
}
