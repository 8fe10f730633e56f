//! Tier and block of an account: first its row, then the quota record, by which checks are decided.
//!
//! The row is the truth. That its record has to follow is written in the transaction that changes it, and whoever
//! finds that does it: the request itself, or the round over everything due.

use super::etag::{IfMatch, Tag};
use super::{Accounts, AccountsError, statements};
use cellar_model::{AccountTerms, DeadlineMs, ProblemType, TierName, UserId};
use cellar_quota::Told;

/// Reads of a row whose record is told: one that has changed meanwhile is read again.
const TELLS_MAX: u32 = 4;
/// Users whose records are told in one question to Postgres.
const DUE_MAX: i64 = 100;

/// What of an account is to be another.
#[derive(Clone, Debug)]
pub(super) enum NewTerms {
    Tier(TierName),
    Blocked(bool),
}

#[derive(sqlx::FromRow)]
struct TermsRow {
    tier_id: String,
    state: String,
    version: i64,
}

impl Accounts {
    /// In force for every request that starts after this has returned.
    pub(super) async fn change_terms(
        &self,
        user: &UserId,
        new: NewTerms,
        wanted: &IfMatch,
    ) -> Result<(), AccountsError> {
        if let NewTerms::Tier(tier) = &new {
            self.check_tier(tier)?;
        }
        let details = self.details(user).await?;
        Tag::of(&[details.version]).require(wanted)?;
        let expected = wanted.is_given().then_some(details.version);
        let (accounts, id) = (self.clone(), user.clone());
        let changed = self.change(user, async move { accounts.write_terms(&id, &new, expected).await });
        changed.await?;
        let (accounts, id) = (self.clone(), user.clone());
        // Whoever stops waiting has it done all the same.
        super::change::to_the_end(async move { accounts.tell_terms(&id).await }).await
    }

    async fn write_terms(&self, user: &UserId, new: &NewTerms, expected: Option<i64>) -> Result<(), AccountsError> {
        let (tier, state) = match new {
            NewTerms::Tier(tier) => (Some(tier.as_str()), None),
            NewTerms::Blocked(blocked) => (None, Some(if *blocked { "blocked" } else { "active" })),
        };
        let mut transaction = self.0.given.pool.begin().await?;
        let written: Option<(i64,)> = sqlx::query_as(statements::CHANGE_TERMS)
            .bind(user.as_str())
            .bind(tier)
            .bind(state)
            .bind(expected)
            .fetch_optional(&mut *transaction)
            .await?;
        let Some((version,)) = written else {
            transaction.rollback().await?;
            // Still here, else this says so: then it was the version.
            self.details(user).await?;
            return Err(ProblemType::PreconditionFailed.into());
        };
        let _: (bool,) = sqlx::query_as(statements::INSERT_TERMS_DUE)
            .bind(user.as_str())
            .bind(version)
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Has the record take over what the row says, until they agree.
    async fn tell_terms(&self, user: &UserId) -> Result<(), AccountsError> {
        let Some(quota) = &self.0.given.quota else { return Ok(()) };
        let _lane = self.0.lanes.enter(user).await;
        let mut told = None;
        for _ in 0..TELLS_MAX {
            let row: Option<TermsRow> =
                sqlx::query_as(statements::TERMS).bind(user.as_str()).fetch_optional(&self.0.given.pool).await?;
            // Gone, and what was due with it.
            let Some(row) = row else { return Ok(()) };
            // Another process of this cell may have changed the row between the last look at it and the record's
            // commit: what was told last has to be what stands there.
            if told == Some(row.version) {
                let _: Option<(bool,)> = sqlx::query_as(statements::DELETE_TERMS_DUE)
                    .bind(user.as_str())
                    .bind(row.version)
                    .fetch_optional(&self.0.given.pool)
                    .await?;
                return Ok(());
            }
            let tier = TierName::new(&row.tier_id).map_err(|_| AccountsError::Corrupt("tier"))?;
            let terms = AccountTerms { tier, blocked: row.state == "blocked" };
            match quota.adopt(user, terms, DeadlineMs::STANDARD).await {
                Told::Done => told = Some(row.version),
                Told::Elsewhere | Told::Again => return Err(ProblemType::TryAgain.into()),
            }
        }
        Err(ProblemType::TryAgain.into())
    }

    /// Tells the records of everyone who is due, once each. How many are left.
    pub(super) async fn tell_terms_due(&self) -> Result<usize, AccountsError> {
        let (mut after, mut left) = (String::new(), 0);
        loop {
            let due: Vec<(String,)> =
                sqlx::query_as(statements::TERMS_DUE).bind(&after).bind(DUE_MAX).fetch_all(&self.0.given.pool).await?;
            let Some((last,)) = due.last() else { return Ok(left) };
            after.clone_from(last);
            for (id,) in &due {
                let user = UserId::new(id).map_err(|_| AccountsError::Corrupt("user"))?;
                if let Err(error) = self.tell_terms(&user).await {
                    tracing::debug!(?user, error = &error as &dyn std::error::Error, "a record is told later");
                    left += 1;
                }
            }
        }
    }
}
