//! Log-in: who they are, then a session of theirs.

use super::caller::{Caller, CallerKind};
use super::change::to_the_end;
use super::origin::Origin;
use super::passwords::{PASSWORD_BYTES_MAX, is_outdated};
use super::{Accounts, AccountsError, statements};
use cellar_directory::{ClaimState, Claims, Email};
use cellar_model::{
    Micros, Problem, ProblemType, Secret, SessionId, SessionSecret, SessionToken, UserId,
    wire::{Device, LogInBody, LoggedIn, SeenDevice},
};
use cellar_server::Attempt;
use std::time::Duration;
use tokio::time::Instant;

/// Sessions a user may have at once; the oldest makes room for a new one.
pub(super) const SESSIONS_MAX: i64 = 100;
/// A refusal comes no sooner than this: hashes that were brought from elsewhere are checked in another time than
/// ours, and nobody is to learn by it who has an account.
const FAILURE_TAKES: Duration = Duration::from_millis(250);
const DEVICE_NAME_BYTES_MAX: usize = 100;
const DEVICE_PLATFORM_BYTES_MAX: usize = 40;

/// What a log-in was verified against: its session is written only if that still stands.
struct Verified {
    session_epoch: i64,
    /// Of a log-in with a password.
    password_hash: Option<String>,
}

#[derive(sqlx::FromRow)]
struct Credentials {
    email: Option<String>,
    password_hash: Option<String>,
    session_epoch: i64,
}

impl Accounts {
    pub(super) async fn log_in(
        &self,
        caller: &Caller,
        origin: Origin,
        body: LogInBody,
    ) -> Result<LoggedIn, AccountsError> {
        check_device(&body.device)?;
        let device = origin.seen(&body.device);
        match (body.user_id, body.email, body.password) {
            (Some(user), None, None) => {
                match caller.by {
                    CallerKind::Key => {}
                    CallerKind::Session(_) => return Err(ProblemType::Forbidden.into()),
                    CallerKind::Nobody => return Err(ProblemType::Unauthorized.into()),
                }
                if caller.user.as_ref().is_some_and(|named| *named != user) {
                    return Err(AccountsError::invalid("/user_id", "the header names another user"));
                }
                self.log_in_trusted(user, device).await
            }
            (None, Some(email), Some(password)) => {
                let password = Secret::new(password);
                self.log_in_by_password(caller, &email, password, device).await
            }
            _ => Err(Problem::new(ProblemType::Invalid).detail("either user_id, or email and password").into()),
        }
    }

    /// A service key says who it is: the application has authenticated the person itself.
    async fn log_in_trusted(&self, user: UserId, device: SeenDevice) -> Result<LoggedIn, AccountsError> {
        self.owned(&user).await?;
        let known = self.credentials(&user).await?.ok_or_else(|| self.left(&user))?;
        let verified = Verified { session_epoch: known.session_epoch, password_hash: None };
        self.open_session(user, verified, device).await
    }

    async fn log_in_by_password(
        &self,
        caller: &Caller,
        email: &str,
        password: Secret,
        device: SeenDevice,
    ) -> Result<LoggedIn, AccountsError> {
        if password.reveal().len() > PASSWORD_BYTES_MAX {
            return Err(ProblemType::Unauthorized.into());
        }
        // From here on a wrong address and a wrong password look and last the same.
        let email = Email::parse(email).ok();
        let user = match (&caller.user, &email) {
            (Some(user), _) => Some(user.clone()),
            (None, Some(email)) => self.user_of(email).await?,
            (None, None) => None,
        };
        let known = match &user {
            Some(user) => {
                self.owned(user).await?;
                self.credentials(user).await?
            }
            None => None,
        };
        // A claim may outlive the address it is for; the user's own row says which is theirs.
        let known = known.filter(|known| is_address_of(known, email.as_ref()));
        let hash = known.as_ref().and_then(|known| known.password_hash.clone());
        let attempt = match &email {
            Some(email) => Some(self.take_attempt(email, user.as_ref(), device.address.as_deref()).await?),
            None => None,
        };
        let (began, again) = (Instant::now(), password.clone());
        let matches = self.0.passwords.verify(password, hash.clone()).await;
        if !matches!(matches, Ok(false))
            && let Some(attempt) = attempt
        {
            self.0.account_attempts.give_back(attempt);
        }
        let (true, Some(user), Some(known)) = (matches?, user, known) else {
            tokio::time::sleep_until(began + FAILURE_TAKES).await;
            return Err(Problem::new(ProblemType::Unauthorized)
                .detail("no account has this e-mail and password")
                .into());
        };
        let hash = match hash {
            Some(hash) if is_outdated(&hash) => self.replace_hash(&user, hash, again).await,
            hash => hash,
        };
        let verified = Verified { session_epoch: known.session_epoch, password_hash: hash };
        self.open_session(user, verified, device).await
    }

    /// Of a password that is right: a hash that was brought from elsewhere gives way to one of ours. Which hash
    /// there is now, if this could be done; if not, the next log-in does it.
    async fn replace_hash(&self, user: &UserId, old: String, password: Secret) -> Option<String> {
        let new = match self.0.passwords.hash(password).await {
            Ok(new) => new,
            Err(_) => return Some(old),
        };
        let replaced: Result<Option<(bool,)>, sqlx::Error> = sqlx::query_as(statements::REPLACE_HASH)
            .bind(user.as_str())
            .bind(&old)
            .bind(&new)
            .fetch_optional(&self.0.given.pool)
            .await;
        match replaced {
            Ok(Some(_)) => Some(new),
            // Another log-in with the same password was first, or it is another one now: which, the session epoch
            // tells, that a change of the password raises.
            Ok(None) => None,
            Err(_) => Some(old),
        }
    }

    /// Counts an attempt at the account of an e-mail, whether or not there is one, before the password is looked at:
    /// a limited account is refused with the right password too, else the limit would not slow down who guesses.
    ///
    /// Strangers could keep an owner out that way, for as long as they go on. So who comes from an address where the
    /// account is logged in has a limit of their own; sessions go on; and an application with a service key can log
    /// its user in by `user_id`, after a proof of its own.
    pub(super) async fn take_attempt(
        &self,
        email: &Email,
        user: Option<&UserId>,
        address: Option<&str>,
    ) -> Result<Attempt, AccountsError> {
        let account = self.0.given.peppers.hashes(email).first().map(|email| email.hash);
        let refused = match self.0.account_attempts.take(&account) {
            Ok(attempt) => return Ok(attempt),
            Err(problem) => problem,
        };
        // Asked for nobody, too: that takes time.
        let (known,): (bool,) = sqlx::query_as(statements::LOGGED_IN_FROM)
            .bind(user.map_or("", UserId::as_str))
            .bind(address.unwrap_or_default())
            .fetch_one(&self.0.given.pool)
            .await?;
        let own = known.then(|| self.0.account_attempts.take(&(account, address)));
        own.unwrap_or(Err(refused)).map_err(|problem| {
            self.0.limited.inc();
            problem.into()
        })
    }

    /// By the claim under one pepper or the next.
    pub(crate) async fn user_of(&self, email: &Email) -> Result<Option<UserId>, AccountsError> {
        for hash in self.0.given.peppers.hashes(email) {
            let claim = self.0.given.directory.read_claim(&hash).await?;
            if let Some(claim) = claim.filter(|claim| claim.state == ClaimState::Held) {
                return Ok(Some(claim.user));
            }
        }
        Ok(None)
    }

    async fn credentials(&self, user: &UserId) -> Result<Option<Credentials>, AccountsError> {
        Ok(sqlx::query_as(statements::CREDENTIALS).bind(user.as_str()).fetch_optional(&self.0.given.pool).await?)
    }

    async fn open_session(
        &self,
        user: UserId,
        verified: Verified,
        device: SeenDevice,
    ) -> Result<LoggedIn, AccountsError> {
        let token = SessionToken {
            user,
            session: SessionId::mint(rand::random()),
            secret: SessionSecret::generate(&mut rand::rng()),
        };
        let accounts = self.clone();
        let opened = to_the_end(async move {
            let inserted = accounts.insert_session(&token, &verified, &device).await;
            // One of those that made room may have been in force; without an answer they may be gone.
            if matches!(inserted, Ok((_, true)) | Err(AccountsError::Postgres(_))) {
                accounts.changed(&token.user).await;
            }
            let (expires_at, _) = inserted?;
            Ok((token, expires_at))
        });
        let (token, expires_at) = opened.await?;
        Ok(LoggedIn {
            session_token: token.sign(&self.0.given.mac_keys.now()),
            session_id: token.session.as_str().to_owned(),
            expires_at: expires_at.to_rfc3339(),
            user_id: token.user,
        })
    }

    async fn insert_session(
        &self,
        token: &SessionToken,
        verified: &Verified,
        device: &SeenDevice,
    ) -> Result<(Micros, bool), AccountsError> {
        let (user, life) = (token.user.as_str(), self.0.given.session_life);
        let mut transaction = self.0.given.pool.begin().await?;
        let held: Option<(i64,)> =
            sqlx::query_as(statements::HOLD_OWNED).bind(user).fetch_optional(&mut *transaction).await?;
        held.ok_or_else(|| self.left(&token.user))?;
        let (hash, epoch, state): (Option<String>, i64, String) =
            sqlx::query_as(statements::LOCK_USER).bind(user).fetch_one(&mut *transaction).await?;
        if state != "active" {
            return Err(ProblemType::Blocked.into());
        }
        let other_password = verified.password_hash.is_some() && verified.password_hash != hash;
        if other_password || epoch != verified.session_epoch {
            // Changed, or logged out everywhere, while this was under way.
            return Err(ProblemType::Unauthorized.into());
        }
        let room: Vec<(bool,)> = sqlx::query_as(statements::MAKE_ROOM)
            .bind(user)
            .bind(epoch)
            .bind(SESSIONS_MAX - 1)
            .bind(life.refused_after().as_secs_f64())
            .fetch_all(&mut *transaction)
            .await?;
        // Plain data with string keys: nothing in it can fail to serialize.
        let device = serde_json::to_string(device).unwrap_or_default();
        let (expires_at,): (i64,) = sqlx::query_as(statements::INSERT_SESSION)
            .bind(token.session.as_str())
            .bind(user)
            .bind(&token.secret.hash()[..])
            .bind(epoch)
            .bind(device)
            .bind(life.lasts.as_secs_f64())
            .fetch_one(&mut *transaction)
            .await?;
        let _: (bool,) = sqlx::query_as(statements::LOGGED_IN).bind(user).fetch_one(&mut *transaction).await?;
        transaction.commit().await?;
        Ok((Micros(u64::try_from(expires_at).unwrap_or_default()), !room.is_empty()))
    }
}

fn is_address_of(known: &Credentials, email: Option<&Email>) -> bool {
    let stored = known.email.as_deref().and_then(|email| Email::parse(email).ok());
    stored.zip(email).is_some_and(|(stored, email)| stored.is_same_as(email))
}

fn check_device(device: &Device) -> Result<(), AccountsError> {
    let plain = |text: &str| !text.chars().any(char::is_control);
    if device.name.len() > DEVICE_NAME_BYTES_MAX || !plain(&device.name) {
        return Err(AccountsError::invalid("/device/name", "at most 100 bytes, no control characters"));
    }
    if device.platform.len() > DEVICE_PLATFORM_BYTES_MAX || !plain(&device.platform) {
        return Err(AccountsError::invalid("/device/platform", "at most 40 bytes, no control characters"));
    }
    Ok(())
}
