//! The change of a user's e-mail.

use super::asked::{Asked, Compared};
use super::claims::stored;
use super::reaper::Begun;
use super::{Accounts, AccountsError, statements};
use cellar_directory::{Claim, Claimed, Claims, Decided, Email, EmailChange, Intent};
use cellar_model::{Problem, ProblemType, UserId};

/// What a user's address is to become, and with it the name, if that was given too.
pub(super) struct NewEmail {
    pub(super) email: Email,
    pub(super) name: Option<Option<String>>,
    /// The version of the profile that the caller has seen.
    pub(super) expected: Option<i64>,
    /// The same for a repeat under one key.
    pub(super) intent: Intent,
}

/// What the cell's transaction came to.
enum Changed {
    Made,
    /// By an earlier attempt, and perhaps changed again since.
    Before,
    /// Not, and for good: this says why.
    Refused(Problem),
}

#[derive(sqlx::FromRow)]
struct Present {
    email: Option<String>,
    email_intent: Option<String>,
    state: String,
    version: i64,
}

#[derive(sqlx::FromRow)]
struct IntentRow {
    state: String,
    body: Vec<u8>,
}

impl Accounts {
    /// Gives the user another e-mail. Sessions stay; a log-in takes the new address from the answer on.
    pub(super) async fn change_email(&self, user: &UserId, new: NewEmail) -> Result<(), AccountsError> {
        let (accounts, id) = (self.clone(), user.clone());
        self.change(user, async move { accounts.change_email_to_the_end(id, new).await }).await
    }

    async fn change_email_to_the_end(&self, user: UserId, new: NewEmail) -> Result<(), AccountsError> {
        let directory = &self.0.given.directory;
        let present = self.present(&user).await?;
        let held = present.email.as_deref().map(stored).transpose()?;
        if held.is_some_and(|held| held.is_same_as(&new.email)) {
            return self.respell(&user, new).await;
        }
        // Who comes back to an address left a moment ago finds it free.
        self.release_of(&user).await?;
        let emails = self.0.given.peppers.hashes(&new.email);
        let asked = Asked::of(&emails, &[]);
        let (cell, intent) = (self.0.given.cell.clone(), new.intent.clone());
        let change = EmailChange { user: user.clone(), cell, intent, emails };
        let mut begun = Begun::new(self);
        let placed = match change.claim(directory, |claim| begun.note(claim)).await? {
            Claimed::Here(placed) => placed,
            Claimed::EmailTaken { ours } => return self.change_taken(&ours, &new.intent, &asked).await,
            // The user has moved since: this cell's own row will say so in a moment.
            Claimed::Elsewhere { .. } | Claimed::Split { .. } => return Err(ProblemType::TryAgain.into()),
        };
        match self.commit_email(&user, &new, &asked).await? {
            Changed::Made => EmailChange::hold(&placed, directory).await?,
            Changed::Before => {
                self.settle_all(placed.claims()).await?;
            }
            Changed::Refused(problem) => {
                // A repeat at the same moment has committed it.
                let held = self.settle_all(placed.claims()).await?;
                return Err(if held { ProblemType::TryAgain.into() } else { problem.into() });
            }
        }
        begun.ended();
        if let Err(error) = self.release_of(&user).await {
            // It is due, and the reaper sees to it.
            tracing::debug!(error = &error as &dyn std::error::Error, "a left e-mail is released later");
        }
        Ok(())
    }

    /// Not all claims can be had by this intent. If it was committed by fewer of them, its answer stays what it
    /// was; else it is refused for good, and what it claimed is freed.
    async fn change_taken(&self, ours: &[Claim], intent: &Intent, asked: &Asked) -> Result<(), AccountsError> {
        self.settle_all(ours).await?;
        if ours.is_empty() || self.decision_of(intent).await? != Some(Decided::Committed) {
            return Err(ProblemType::EmailTaken.into());
        }
        match self.changed_before(intent, asked).await? {
            Changed::Refused(problem) => Err(problem.into()),
            Changed::Made | Changed::Before => Ok(()),
        }
    }

    /// The address is the user's already, perhaps in other letters; an earlier attempt may have stopped before
    /// its claim was held.
    async fn respell(&self, user: &UserId, new: NewEmail) -> Result<(), AccountsError> {
        let written: Option<(bool,)> = sqlx::query_as(statements::RESPELL)
            .bind(user.as_str())
            .bind(new.email.reveal())
            .bind(new.name.is_some())
            .bind(new.name.as_ref().and_then(Option::as_deref))
            .bind(new.expected)
            .fetch_optional(&self.0.given.pool)
            .await?;
        if written.is_none() {
            self.present(user).await?;
            return Err(ProblemType::PreconditionFailed.into());
        }
        for hash in self.0.given.peppers.hashes(&new.email) {
            if let Some(claim) = self.0.given.directory.read_claim_serially(&hash).await? {
                self.settle(&claim).await?;
            }
        }
        Ok(())
    }

    /// The cell's transaction: the new e-mail and its intent, and that the old one is to be released; or none of
    /// them.
    async fn commit_email(&self, user: &UserId, new: &NewEmail, asked: &Asked) -> Result<Changed, AccountsError> {
        let mut transaction = self.0.given.pool.begin().await?;
        let held: Option<(i64,)> =
            sqlx::query_as(statements::HOLD_OWNED).bind(user.as_str()).fetch_optional(&mut *transaction).await?;
        if held.is_none() {
            transaction.rollback().await?;
            return Ok(Changed::Refused(Problem::new(ProblemType::TryAgain)));
        }
        let first: Option<(bool,)> = sqlx::query_as(statements::INSERT_INTENT)
            .bind(new.intent.as_str())
            .bind(user.as_str())
            .bind("committed")
            .bind(asked.to_bytes())
            .fetch_optional(&mut *transaction)
            .await?;
        if first.is_none() {
            transaction.rollback().await?;
            return self.changed_before(&new.intent, asked).await;
        }
        let present: Present =
            sqlx::query_as(statements::LOCK_EMAIL).bind(user.as_str()).fetch_one(&mut *transaction).await?;
        if let Some(problem) = refusal(&present, new.expected) {
            transaction.rollback().await?;
            return Ok(Changed::Refused(problem));
        }
        // Who was enrolled leaves none.
        if let Some((email, intent)) = present.email.zip(present.email_intent) {
            self.leave_email(user, &email, &intent, &mut transaction).await?;
        }
        let _: (bool,) = sqlx::query_as(statements::CHANGE_EMAIL)
            .bind(user.as_str())
            .bind(new.email.reveal())
            .bind(new.intent.as_str())
            .bind(new.name.is_some())
            .bind(new.name.as_ref().and_then(Option::as_deref))
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(Changed::Made)
    }

    /// Writes down that the claims of an e-mail which the user came to by `intent` are to go.
    pub(super) async fn leave_email(
        &self,
        user: &UserId,
        email: &str,
        intent: &str,
        transaction: &mut sqlx::PgTransaction<'_>,
    ) -> Result<(), AccountsError> {
        for (place, left) in self.hashes_of(email)?.iter().enumerate() {
            let _: Option<(bool,)> = sqlx::query_as(statements::INSERT_RELEASE)
                .bind(i16::try_from(place).unwrap_or(i16::MAX))
                .bind(left.pepper.to_string())
                .bind(&left.hash[..])
                .bind(intent)
                .bind(user.as_str())
                .fetch_optional(&mut **transaction)
                .await?;
        }
        Ok(())
    }

    async fn changed_before(&self, intent: &Intent, asked: &Asked) -> Result<Changed, AccountsError> {
        let row: IntentRow =
            sqlx::query_as(statements::INTENT_BODY).bind(intent.as_str()).fetch_one(&self.0.given.pool).await?;
        Ok(match super::claims::decided(&row.state)? {
            Decided::Committed if asked.compare(&row.body) == Compared::Same => Changed::Before,
            Decided::Committed => Changed::Refused(Problem::new(ProblemType::KeyReused)),
            Decided::Refused => {
                Changed::Refused(Problem::new(ProblemType::Conflict).detail("this key was refused before"))
            }
        })
    }

    async fn present(&self, user: &UserId) -> Result<Present, AccountsError> {
        self.person(user).await?;
        let present: Option<Present> =
            sqlx::query_as(statements::PRESENT_EMAIL).bind(user.as_str()).fetch_optional(&self.0.given.pool).await?;
        present.ok_or_else(|| self.left(user))
    }
}

fn refusal(present: &Present, expected: Option<i64>) -> Option<Problem> {
    if present.state != "active" {
        return Some(Problem::new(ProblemType::Blocked));
    }
    let changed = expected.is_some_and(|expected| expected != present.version);
    changed.then(|| Problem::new(ProblemType::PreconditionFailed))
}
