//! Preferences: a JSON object, changed by merge patch.

use super::change::to_the_end;
use super::etag::{IfMatch, Tag};
use super::merge_patch::{Changed, apply, bound, check};
use super::person::Person;
use super::waiting::Patch;
use super::{Accounts, AccountsError, statements};
use cellar_model::{Fence, UserId};
use cellar_quota::PatchSeq;
use serde_json::{Map, Value};
use sqlx::{Postgres, Transaction};
use std::sync::Arc;

/// What became of a patch.
pub(super) enum Written {
    /// It is in Postgres.
    Through,
    /// It waits in the quota Redis; the user as shown from now on.
    Journaled(Box<Person>),
}

impl Accounts {
    /// Applies a merge patch, behind those of the user that still wait. While Postgres is away it waits itself,
    /// unless it depends on what Postgres has. To the end, whoever still waits for the answer.
    pub(super) async fn patch_preferences(
        &self,
        user: &UserId,
        patch: Map<String, Value>,
        wanted: &IfMatch,
    ) -> Result<Written, AccountsError> {
        check(&patch)?;
        // Owned here, and not blocked.
        self.person(user).await?;
        let (accounts, user, wanted) = (self.clone(), user.clone(), wanted.clone());
        to_the_end(async move { accounts.write_preferences(&user, patch, &wanted).await }).await
    }

    async fn write_preferences(
        &self,
        user: &UserId,
        patch: Map<String, Value>,
        wanted: &IfMatch,
    ) -> Result<Written, AccountsError> {
        // From here on, nobody else's patch of this user comes between Postgres's answer, or its silence, and the
        // journal.
        let turn = self.0.waiting.turn(user).await;
        let written = match self.apply_waiting(user, &turn).await {
            Ok(()) => self.0.postgres.ask(self.merge(user, &patch, wanted)).await,
            // Behind those that could not be applied either.
            Err(error) => Err(error),
        };
        match written {
            // It may have been written all the same. Then it is again, with nothing between the two, and a patch
            // that is applied twice in a row changes nothing more.
            Err(error) if error.is_postgres_away() && !wanted.is_given() => {
                let journaled = self.journal(user, patch, &turn).await;
                if journaled.is_err() && !error.has_written_nothing() {
                    self.changed(user).await;
                }
                Ok(Written::Journaled(Box::new(journaled?)))
            }
            Err(error) if error.has_written_nothing() => Err(error),
            written => {
                // Whatever the end: a write without an answer may be there.
                self.changed(user).await;
                written.map(|()| Written::Through)
            }
        }
    }

    pub(super) async fn merge(
        &self,
        user: &UserId,
        patch: &Map<String, Value>,
        wanted: &IfMatch,
    ) -> Result<(), AccountsError> {
        let mut transaction = self.0.given.pool.begin().await?;
        let (version, _) = self.lock_preferences(user, &mut transaction).await?;
        Tag::of(&[version]).require(wanted)?;
        let mut all = read(user, &mut transaction).await?;
        let changed = apply(&mut all, &[patch]);
        bound(&all)?;
        write(user, &all, changed, &mut transaction).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Applies what has waited, in order, but for what has been applied before.
    pub(super) async fn merge_waiting(&self, user: &UserId, waiting: &[Arc<Patch>]) -> Result<(), AccountsError> {
        let mut transaction = self.0.given.pool.begin().await?;
        let (_, patched) = self.lock_preferences(user, &mut transaction).await?;
        let new: Vec<&Patch> = waiting.iter().map(|patch| &**patch).filter(|patch| patch.seq > patched).collect();
        let Some(last) = new.last() else { return Ok(()) };
        let mut all = read(user, &mut transaction).await?;
        let patches: Vec<_> = new.iter().map(|patch| &patch.change).collect();
        // They were within bounds when they were taken: what was promised is kept.
        let changed = apply(&mut all, &patches);
        write(user, &all, changed, &mut transaction).await?;
        let _: (bool,) = sqlx::query_as(statements::MARK_PATCHED)
            .bind(user.as_str())
            .bind(last.seq.fence.0 as i64)
            .bind(last.seq.n as i64)
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Of two writers of one user, the second waits here. The version, and the last patch that has waited.
    async fn lock_preferences(
        &self,
        user: &UserId,
        transaction: &mut Transaction<'static, Postgres>,
    ) -> Result<(i64, PatchSeq), AccountsError> {
        let held: Option<(i64,)> =
            sqlx::query_as(statements::HOLD_OWNED).bind(user.as_str()).fetch_optional(&mut **transaction).await?;
        held.ok_or_else(|| self.left(user))?;
        let (version, fence, n): (i64, i64, i64) =
            sqlx::query_as(statements::LOCK_PREFERENCES).bind(user.as_str()).fetch_one(&mut **transaction).await?;
        Ok((version, PatchSeq { fence: Fence(fence as u64), n: n as u64 }))
    }
}

/// The rows of preferences that come with their user.
pub(super) fn rows(preferences: Map<String, Value>) -> Result<Vec<(String, String)>, AccountsError> {
    check(&preferences)?;
    let mut all = Map::new();
    let changed = apply(&mut all, &[&preferences]);
    bound(&all)?;
    let row = |key: String| all.get(&key).map(Value::to_string).map(|value| (key, value));
    Ok(changed.put.into_iter().filter_map(row).collect())
}

async fn read(
    user: &UserId,
    transaction: &mut Transaction<'static, Postgres>,
) -> Result<Map<String, Value>, AccountsError> {
    let rows: Vec<(String, String)> =
        sqlx::query_as(statements::READ_PREFERENCES).bind(user.as_str()).fetch_all(&mut **transaction).await?;
    let mut all = Map::new();
    for (key, value) in rows {
        let value = serde_json::from_str(&value);
        all.insert(key, value.map_err(|_| AccountsError::Corrupt("preference"))?);
    }
    Ok(all)
}

async fn write(
    user: &UserId,
    all: &Map<String, Value>,
    changed: Changed,
    transaction: &mut Transaction<'static, Postgres>,
) -> Result<(), AccountsError> {
    let values: Vec<String> = changed.put.iter().filter_map(|key| Some(all.get(key)?.to_string())).collect();
    let _: (i64,) = sqlx::query_as(statements::WRITE_PREFERENCES)
        .bind(user.as_str())
        .bind(changed.gone)
        .bind(changed.put)
        .bind(values)
        .fetch_one(&mut **transaction)
        .await?;
    Ok(())
}
