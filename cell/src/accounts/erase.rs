//! The end of an account: the person leaves every store, and the ledger keeps amounts under a name that is nobody's.
//!
//! The first transaction is the moment: the row ERASED stays, everything else of the account's goes, and what is
//! left to do is written down. From then on this cell serves the user to nobody. The rest can be repeated by whoever
//! comes by: the quota's books, then the home in the directory, then the claim of the e-mail.

use super::change::to_the_end;
use super::ownership::OwnershipRow;
use super::{Accounts, AccountsError, statements};
use cellar_directory::{HomeState, Homes, Intent, claim_steps};
use cellar_model::{DeadlineMs, Epoch, ProblemType, UserId};
use cellar_quota::Told;

/// Erasures looked at in one question to Postgres.
const DUE_MAX: i64 = 100;
/// Of the names that the ledger keeps amounts under.
const ANONYMOUS: &str = "erased_";

#[derive(sqlx::FromRow)]
struct Leaving {
    email: Option<String>,
    email_intent: Option<String>,
    opening: Option<String>,
}

#[derive(sqlx::FromRow)]
struct ErasureRow {
    anonymous: String,
    epoch: i64,
    intents: Vec<String>,
}

impl Accounts {
    /// Once this has returned, the user is unknown here and in the directory, and the e-mail is anybody's. A repeat
    /// finishes what is left, and finds nothing to do.
    pub(super) async fn erase(&self, user: &UserId) -> Result<(), AccountsError> {
        let (accounts, id) = (self.clone(), user.clone());
        let sessions = self.revoking(self.change(user, async move { accounts.erase_rows(&id).await })).await?;
        let (accounts, id) = (self.clone(), user.clone());
        to_the_end(async move {
            for session in sessions {
                accounts.0.cache.remove(&accounts.0.cache.key("session", &session)).await;
            }
            accounts.finish_erasure(&id).await
        })
        .await
    }

    /// The moment. Returns the sessions that went.
    async fn erase_rows(&self, user: &UserId) -> Result<Vec<String>, AccountsError> {
        let mut transaction = self.0.given.pool.begin().await?;
        // Waits for every writer of this user's rows, and none begins after it.
        let row: Option<OwnershipRow> =
            sqlx::query_as(statements::LOCK_OWNERSHIP).bind(user.as_str()).fetch_optional(&mut *transaction).await?;
        let epoch = match &row {
            Some(row) if row.state == "ERASED" => return Ok(Vec::new()),
            Some(row) => self.judge(Some(row))?,
            None => {
                transaction.rollback().await?;
                return self.erase_lost(user).await;
            }
        };
        let leaving: Leaving =
            sqlx::query_as(statements::LEAVE_EMAIL).bind(user.as_str()).fetch_one(&mut *transaction).await?;
        let sessions: Vec<(String,)> =
            sqlx::query_as(statements::SESSION_IDS).bind(user.as_str()).fetch_all(&mut *transaction).await?;
        if let Some((email, intent)) = leaving.email.as_deref().zip(leaving.email_intent.as_deref()) {
            self.leave_email(user, email, intent, &mut transaction).await?;
        }
        let intents: Vec<String> = [leaving.email_intent, leaving.opening].into_iter().flatten().collect();
        note_erasure(user, epoch, &intents, &mut transaction).await?;
        let _: Option<(bool,)> =
            sqlx::query_as(statements::ERASE_ROWS).bind(user.as_str()).fetch_optional(&mut *transaction).await?;
        let _: (bool,) = sqlx::query_as(statements::ERASED).bind(user.as_str()).fetch_one(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(sessions.into_iter().map(|(id,)| id).collect())
    }

    /// Of a user without a row here, whom the directory places here all the same: who signed up after the backup that
    /// this cell was restored from. A home is ACTIVE only once its cell has committed the user. Nobody knows the
    /// e-mail any more; the reaper frees the claim, which names who is nobody.
    async fn erase_lost(&self, user: &UserId) -> Result<Vec<String>, AccountsError> {
        let home = self.0.given.directory.read_home_serially(user).await?;
        let lost = home.filter(|home| home.home == self.0.given.cell && home.state == HomeState::Active);
        let epoch = lost.ok_or_else(|| self.not_here())?.epoch;
        let mut transaction = self.0.given.pool.begin().await?;
        let _: Option<(bool,)> = sqlx::query_as(statements::INSERT_ERASED)
            .bind(user.as_str())
            .bind(epoch.as_i64())
            .fetch_optional(&mut *transaction)
            .await?;
        note_erasure(user, epoch, &[], &mut transaction).await?;
        transaction.commit().await?;
        Ok(Vec::new())
    }

    /// What is left of an erasure, to its end.
    async fn finish_erasure(&self, user: &UserId) -> Result<(), AccountsError> {
        let _lane = self.0.lanes.enter(user).await;
        let row: Option<ErasureRow> =
            sqlx::query_as(statements::ERASURE).bind(user.as_str()).fetch_optional(&self.0.given.pool).await?;
        let Some(row) = row else { return Ok(()) };
        if let Some(quota) = &self.0.given.quota {
            let anonymous = UserId::new(&row.anonymous).map_err(|_| AccountsError::Corrupt("user"))?;
            match quota.erase(user, &anonymous, DeadlineMs::STANDARD).await? {
                Told::Done => {}
                Told::Elsewhere | Told::Again => return Err(ProblemType::TryAgain.into()),
            }
        }
        self.drop_waiting(user).await?;
        let directory = &self.0.given.directory;
        for intent in &row.intents {
            let intent = Intent::new(intent).map_err(|_| AccountsError::Corrupt("intent"))?;
            // Its sign-up may have stopped before this, and only an open home is erased.
            claim_steps::activate(directory, user, &intent).await?;
        }
        claim_steps::erase(directory, user, &self.0.given.cell, Epoch::from_i64(row.epoch)).await?;
        self.release_of(user).await?;
        let _: Option<(bool,)> =
            sqlx::query_as(statements::DELETE_ERASURE).bind(user.as_str()).fetch_optional(&self.0.given.pool).await?;
        tracing::info!(?user, "a user is erased");
        Ok(())
    }

    /// Looks at every erasure that is not through, once. How many are left.
    pub(super) async fn finish_erasures(&self) -> Result<usize, AccountsError> {
        let (mut after, mut left) = (String::new(), 0);
        loop {
            let due: Vec<(String,)> =
                sqlx::query_as(statements::ERASURES).bind(&after).bind(DUE_MAX).fetch_all(&self.0.given.pool).await?;
            let Some((last,)) = due.last() else { return Ok(left) };
            after.clone_from(last);
            for (id,) in &due {
                let user = UserId::new(id).map_err(|_| AccountsError::Corrupt("user"))?;
                if let Err(error) = self.finish_erasure(&user).await {
                    tracing::debug!(?user, error = &error as &dyn std::error::Error, "an erasure goes on later");
                    left += 1;
                }
            }
        }
    }
}

/// Writes down what is left to do of an erasure, once.
async fn note_erasure(
    user: &UserId,
    epoch: Epoch,
    intents: &[String],
    transaction: &mut sqlx::PgTransaction<'_>,
) -> Result<(), AccountsError> {
    let _: Option<(bool,)> = sqlx::query_as(statements::INSERT_ERASURE)
        .bind(user.as_str())
        .bind(format!("{ANONYMOUS}{:032x}", rand::random::<u128>()))
        .bind(epoch.as_i64())
        .bind(intents)
        .fetch_optional(&mut **transaction)
        .await?;
    Ok(())
}
