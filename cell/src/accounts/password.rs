//! The change of a password, which logs out everywhere.

use super::claims::stored;
use super::passwords::{PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN};
use super::{Accounts, AccountsError, statements};
use cellar_model::{PresentedSession, Problem, ProblemType, Secret, SessionId, UserId};

/// Who says that the password is to be another.
pub(super) enum By {
    /// An application, which has made sure who asks.
    Key,
    /// Somebody with a session: the present password is asked for as well.
    Session { current: Secret },
}

impl Accounts {
    /// The new password is in force, and every session over but the kept one, for every request that starts after
    /// this has returned.
    pub(super) async fn change_password(
        &self,
        user: &UserId,
        password: Secret,
        by: By,
        keep: Option<&PresentedSession>,
    ) -> Result<(), AccountsError> {
        check_password(password.reveal())?;
        let email = self.details(user).await?.email;
        let verified = match by {
            By::Key => None,
            By::Session { current } => Some(self.verify_current(user, email.as_deref(), current).await?),
        };
        let hash = self.0.passwords.hash(password).await?;
        let (accounts, id, kept) = (self.clone(), user.clone(), keep.map(|kept| kept.id.clone()));
        let write = async move { accounts.write_password(&id, &hash, verified, kept.as_ref()).await };
        self.revoking(self.change(user, write)).await
    }

    /// The hash that the present password was found to match.
    ///
    /// A guess counts as a log-in's would.
    async fn verify_current(
        &self,
        user: &UserId,
        email: Option<&str>,
        current: Secret,
    ) -> Result<String, AccountsError> {
        let wrong = || AccountsError::invalid("/current_password", "is not the account's password");
        if current.reveal().len() > PASSWORD_BYTES_MAX {
            return Err(wrong());
        }
        let known: Option<(Option<String>, i64, String)> =
            sqlx::query_as(statements::LOCK_USER).bind(user.as_str()).fetch_optional(&self.0.given.pool).await?;
        let (hash, _, _) = known.ok_or_else(|| self.left(user))?;
        let none = || AccountsError::invalid("", "the account has no password; a service key can give it one");
        let hash = hash.ok_or_else(none)?;
        let attempt = match email {
            Some(email) => Some(self.take_attempt(&stored(email)?, Some(user), None).await?),
            None => None,
        };
        let matches = self.0.passwords.verify(current, Some(hash.clone())).await;
        if !matches!(matches, Ok(false))
            && let Some(attempt) = attempt
        {
            self.0.account_attempts.give_back(attempt);
        }
        if matches? { Ok(hash) } else { Err(wrong()) }
    }

    async fn write_password(
        &self,
        user: &UserId,
        hash: &str,
        verified: Option<String>,
        kept: Option<&SessionId>,
    ) -> Result<(), AccountsError> {
        let mut transaction = self.0.given.pool.begin().await?;
        let held: Option<(i64,)> =
            sqlx::query_as(statements::HOLD_OWNED).bind(user.as_str()).fetch_optional(&mut *transaction).await?;
        held.ok_or_else(|| self.left(user))?;
        let (present, _, state): (Option<String>, i64, String) =
            sqlx::query_as(statements::LOCK_USER).bind(user.as_str()).fetch_one(&mut *transaction).await?;
        if verified.is_some() && verified != present {
            return Err(Problem::new(ProblemType::Conflict).detail("the password was changed meanwhile").into());
        }
        if verified.is_some() && state != "active" {
            return Err(ProblemType::Blocked.into());
        }
        let (epoch,): (i64,) = sqlx::query_as(statements::CHANGE_PASSWORD)
            .bind(user.as_str())
            .bind(hash)
            .fetch_one(&mut *transaction)
            .await?;
        if let Some(kept) = kept {
            let _: Option<(bool,)> = sqlx::query_as(statements::RESTAMP_SESSION)
                .bind(user.as_str())
                .bind(kept.as_str())
                .bind(epoch)
                .fetch_optional(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

/// What an account may be given as a password.
pub(super) fn check_password(password: &str) -> Result<(), AccountsError> {
    if password.chars().count() < PASSWORD_CHARS_MIN || password.len() > PASSWORD_BYTES_MAX {
        let message = "must be at least 8 characters and at most 1024 bytes";
        return Err(AccountsError::invalid("/password", message));
    }
    Ok(())
}
