//! The proof that conditional writes work here, before a user's home depends on them, and that all
//! clients decide by one serial level.

use super::classify::Ask;
use super::{CqlDirectory, Decided, statements::*};
use crate::{DirectoryError, Op};

/// Clients that start together take a canary from each other; one of so many rounds succeeds.
const ROUNDS_MAX: u32 = 16;
/// They choose among so many: a hundred routers that start at once would wait for one row in a queue
/// of round trips between regions.
const CANARIES: u32 = 64;
const SERIAL_LEVEL: &str = "serial-level";

impl CqlDirectory {
    /// Changes a canary row if it is what was read, then tries the same again: the second must be
    /// refused, and so must a second insert.
    pub(super) async fn prove_once(&self) -> Result<(), DirectoryError> {
        self.agree_on_serial_level().await?;
        let id = format!("canary-{}", rand::random_range(0..CANARIES));
        for _ in 0..ROUNDS_MAX {
            let mine = Op::random();
            self.insert(&id).await?;
            let Some(read) = self.canary(&id).await? else {
                return Err(DirectoryError::Unconditional("a written row is not there"));
            };
            if !self.swap(&id, mine.as_str(), &read).await? {
                continue;
            }
            if self.swap(&id, Op::random().as_str(), &read).await? {
                return Err(DirectoryError::Unconditional("a change was applied although its condition did not hold"));
            }
            if self.insert(&id).await? {
                return Err(DirectoryError::Unconditional("an existing row was inserted again"));
            }
            return Ok(());
        }
        Err(DirectoryError::Undecided { what: "canary", attempts: ROUNDS_MAX })
    }

    /// Writers of two levels ask different majorities, and both may be told "applied": the first client
    /// of a keyspace, its migration, sets the level.
    async fn agree_on_serial_level(&self) -> Result<(), DirectoryError> {
        let mine = self.link.serial().as_str();
        let set = match self.canary(SERIAL_LEVEL).await? {
            Some(set) => Some(set),
            None => {
                self.conditional(CREATE_CANARY, (SERIAL_LEVEL, mine)).await?;
                self.canary(SERIAL_LEVEL).await?
            }
        };
        if set.as_deref() == Some(mine) {
            return Ok(());
        }
        Err(DirectoryError::Unconditional(
            "this keyspace is decided by the other serial level: see `serial` in the URL",
        ))
    }

    async fn canary(&self, id: &str) -> Result<Option<String>, DirectoryError> {
        let row = self.optional(Ask::SerialRead, "canary", READ_CANARY, (id,)).await?;
        row.map(|mut row| row.text("value")).transpose()
    }

    async fn insert(&self, id: &str) -> Result<bool, DirectoryError> {
        // Never the value that is swapped in next: a swap of equal values would prove nothing.
        self.conditional(CREATE_CANARY, (id, String::from(Op::random()))).await
    }

    async fn swap(&self, id: &str, next: &str, read: &str) -> Result<bool, DirectoryError> {
        self.conditional(CHANGE_CANARY, (next, id, read)).await
    }

    /// A proof that was not answered proves nothing: it is begun again by whoever asks next.
    async fn conditional(
        &self,
        statement: &'static str,
        values: impl scylla::serialize::row::SerializeRow,
    ) -> Result<bool, DirectoryError> {
        match self.decide_unproven("canary", statement, values).await? {
            Decided::Applied => Ok(true),
            Decided::Not(_) => Ok(false),
            Decided::Unknown(cause) => Err(cause),
        }
    }
}
