//! The change of a user's e-mail.

use super::claims::Settled;
use super::reaper::Begun;
use super::{Accounts, AccountsError, statements};
use cellar_directory::{Claimed, Claims, Decided, Email, EmailChange, EmailHash, Intent, Placed};
use cellar_model::{BodyHash, Problem, ProblemType, UserId};

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
        let hash = self.0.given.pepper.hash(&new.email);
        let present = self.present(&user).await?;
        let held = present.email.as_deref().map(|email| self.hash_of(email)).transpose()?;
        if held == Some(hash) {
            return self.respell(&user, hash, new).await;
        }
        // Who comes back to an address left a moment ago finds it free.
        self.release_of(&user).await?;
        let change = EmailChange {
            user: user.clone(),
            cell: self.0.given.cell.clone(),
            intent: new.intent.clone(),
            email: hash,
        };
        let placed = match change.claim(directory).await? {
            Claimed::Here(placed) => placed,
            Claimed::EmailTaken => return Err(ProblemType::EmailTaken.into()),
            // The user has moved since: this cell's own row will say so in a moment.
            Claimed::Elsewhere { .. } => return Err(ProblemType::TryAgain.into()),
        };
        let begun = Begun::new(self, placed.claim());
        match self.commit_email(&user, &placed, &new).await? {
            Changed::Made => EmailChange::hold(&placed, directory).await?,
            Changed::Before => {
                self.settle(placed.claim()).await?;
            }
            Changed::Refused(problem) => {
                return match self.settle(placed.claim()).await? {
                    // A repeat at the same moment has committed it.
                    Settled::Held => Err(ProblemType::TryAgain.into()),
                    _ => Err(problem.into()),
                };
            }
        }
        begun.ended();
        if let Err(error) = self.release_of(&user).await {
            // It is due, and the reaper sees to it.
            tracing::debug!(error = &error as &dyn std::error::Error, "a left e-mail is released later");
        }
        Ok(())
    }

    /// The address is the user's already, perhaps in other letters; an earlier attempt may have stopped before
    /// its claim was held.
    async fn respell(&self, user: &UserId, hash: EmailHash, new: NewEmail) -> Result<(), AccountsError> {
        let written: Option<(bool,)> = sqlx::query_as(statements::RESPELL)
            .bind(user.as_str())
            .bind(new.email.reveal())
            .bind(new.name.is_some())
            .bind(new.name.flatten())
            .bind(new.expected)
            .fetch_optional(&self.0.given.pool)
            .await?;
        if written.is_none() {
            self.present(user).await?;
            return Err(ProblemType::PreconditionFailed.into());
        }
        if let Some(claim) = self.0.given.directory.read_claim_serially(&hash).await? {
            self.settle(&claim).await?;
        }
        Ok(())
    }

    /// The cell's transaction: the new e-mail and its intent, and that the old one is to be released; or none of
    /// them.
    async fn commit_email(&self, user: &UserId, placed: &Placed, new: &NewEmail) -> Result<Changed, AccountsError> {
        let hash = placed.claim().email;
        let asked = BodyHash::of(&[&hash.0]);
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
            .bind(&asked.0[..])
            .fetch_optional(&mut *transaction)
            .await?;
        if first.is_none() {
            transaction.rollback().await?;
            return self.changed_before(&new.intent, &asked).await;
        }
        let present: Present =
            sqlx::query_as(statements::LOCK_EMAIL).bind(user.as_str()).fetch_one(&mut *transaction).await?;
        if let Some(problem) = refusal(&present, new.expected) {
            transaction.rollback().await?;
            return Ok(Changed::Refused(problem));
        }
        // Who was enrolled leaves none.
        if let Some((email, intent)) = present.email.zip(present.email_intent) {
            let _: Option<(bool,)> = sqlx::query_as(statements::INSERT_RELEASE)
                .bind(&self.hash_of(&email)?.0[..])
                .bind(intent)
                .bind(user.as_str())
                .fetch_optional(&mut *transaction)
                .await?;
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

    async fn changed_before(&self, intent: &Intent, asked: &BodyHash) -> Result<Changed, AccountsError> {
        let row: IntentRow =
            sqlx::query_as(statements::INTENT_BODY).bind(intent.as_str()).fetch_one(&self.0.given.pool).await?;
        Ok(match super::claims::decided(&row.state)? {
            Decided::Committed if row.body == asked.0 => Changed::Before,
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
