//! Sign-up: e-mail claimed, home opened, rows written, both confirmed. Each step may be repeated.

use super::passwords::{PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN};
use super::profile::check_name;
use super::{Accounts, AccountsError, statements};
use cellar_directory::{Claimed, Email, Intent, Opened, Placed, SignUp};
use cellar_model::{
    BodyHash, Epoch, Problem, ProblemType, Secret, TierName,
    wire::{PlacedSignUp, SignUpBody, SignedUp},
};

/// The epoch at which every user begins, and so that of a claim's cell before any move.
const FIRST: Epoch = Epoch(1);

/// What is written for a new user.
struct NewUser {
    email: Email,
    name: Option<String>,
    password_hash: Option<String>,
    tier: TierName,
}

/// What this cell knows of an intent once its transaction is over.
enum Decision {
    /// The user is here by this intent, in this tier.
    Committed(TierName),
    /// The intent committed someone, but something else was asked then.
    OtherBody { of_other_user: bool },
    /// Refused, now or earlier, for good.
    Refused,
}

#[derive(sqlx::FromRow)]
struct IntentRow {
    user_id: String,
    state: String,
    body: Vec<u8>,
    tier_id: Option<String>,
}

impl Accounts {
    /// Signs up a user here, or answers a repeat of the same intent as the first time.
    pub(crate) async fn sign_up(&self, placed: PlacedSignUp) -> Result<SignedUp, AccountsError> {
        let intent = Intent::new(&placed.intent).map_err(|_| ProblemType::Malformed)?;
        let email = self.check(&placed.body)?;
        let hash = self.0.given.pepper.hash(&email);
        let asked = BodyHash::of(&[
            &hash.0,
            placed.body.name.as_deref().unwrap_or_default().as_bytes(),
            placed.body.tier.as_str().as_bytes(),
        ]);
        // Before the claim: a full queue refuses without a trace.
        let password_hash = match placed.body.password {
            Some(password) => Some(self.0.passwords.hash(Secret::new(password)).await?),
            None => None,
        };
        let new = NewUser { email, name: placed.body.name, password_hash, tier: placed.body.tier };
        let sign_up = SignUp { user: placed.user_id, cell: self.0.given.cell.clone(), intent, email: hash };
        match sign_up.claim(&self.0.given.directory).await? {
            Claimed::Here(claimed) => self.complete(claimed, new, asked).await,
            Claimed::Elsewhere { cell, .. } => Err(AccountsError::Misdirected(Some((cell, FIRST)))),
            Claimed::EmailTaken => Err(ProblemType::EmailTaken.into()),
        }
    }

    async fn complete(&self, claimed: Placed, new: NewUser, asked: BodyHash) -> Result<SignedUp, AccountsError> {
        let directory = &self.0.given.directory;
        let decision = match claimed.open_home(directory).await? {
            Opened::Creating { epoch } => self.commit(&claimed, epoch, &new, asked).await?,
            Opened::Settled { .. } => self.decided(&claimed, asked).await?,
            Opened::Elsewhere { cell, epoch } => {
                return Err(AccountsError::Misdirected(Some((cell, epoch))));
            }
            Opened::UserTaken => Decision::Refused,
        };
        let user_id = claimed.user().clone();
        match decision {
            Decision::Committed(tier) => {
                claimed.confirm(directory).await?;
                // Someone may have asked before the user was here.
                self.changed(&user_id).await;
                let region = self.0.given.region.clone();
                Ok(SignedUp { user_id, tier, region })
            }
            Decision::OtherBody { of_other_user } => {
                // The claim of the one who committed stays; one made just now for someone else goes.
                if of_other_user {
                    claimed.release(directory).await?;
                }
                Err(ProblemType::KeyReused.into())
            }
            Decision::Refused => self.refuse(claimed, asked).await,
        }
    }

    /// The cell's transaction: OWNED, the user, the intent, or none of them.
    async fn commit(
        &self,
        claimed: &Placed,
        epoch: Epoch,
        new: &NewUser,
        asked: BodyHash,
    ) -> Result<Decision, AccountsError> {
        let user = claimed.user().as_str();
        let mut transaction = self.0.given.pool.begin().await?;
        let first: Option<(bool,)> = sqlx::query_as(statements::INSERT_INTENT)
            .bind(claimed.intent().as_str())
            .bind(user)
            .bind("committed")
            .bind(&asked.0[..])
            .fetch_optional(&mut *transaction)
            .await?;
        if first.is_none() {
            transaction.rollback().await?;
            return self.decided(claimed, asked).await;
        }
        let owned: Option<(bool,)> = sqlx::query_as(statements::INSERT_OWNED)
            .bind(user)
            .bind(epoch.as_i64())
            .bind(self.0.given.cell.as_str())
            .fetch_optional(&mut *transaction)
            .await?;
        let made: Option<(bool,)> = sqlx::query_as(statements::INSERT_USER)
            .bind(user)
            .bind(new.email.reveal())
            .bind(claimed.intent().as_str())
            .bind(&new.name)
            .bind(&new.password_hash)
            .bind(new.tier.as_str())
            .fetch_optional(&mut *transaction)
            .await?;
        if owned.is_none() || made.is_none() {
            // Rows of an id that the directory says is new: nothing of them is overwritten.
            transaction.rollback().await?;
            return Ok(Decision::Refused);
        }
        transaction.commit().await?;
        Ok(Decision::Committed(new.tier.clone()))
    }

    /// What an earlier attempt came to.
    async fn decided(&self, claimed: &Placed, asked: BodyHash) -> Result<Decision, AccountsError> {
        let row: Option<IntentRow> = sqlx::query_as(statements::READ_INTENT)
            .bind(claimed.intent().as_str())
            .fetch_optional(&self.0.given.pool)
            .await?;
        let Some(row) = row.filter(|row| row.state == "committed") else {
            return Ok(Decision::Refused);
        };
        let of_other_user = row.user_id != claimed.user().as_str();
        let Some(tier) = row.tier_id.filter(|_| !of_other_user && row.body == asked.0) else {
            return Ok(Decision::OtherBody { of_other_user });
        };
        let tier = TierName::new(&tier).map_err(|_| AccountsError::Corrupt("tier"))?;
        Ok(Decision::Committed(tier))
    }

    /// Refuses the intent for good, then frees the e-mail. In this order: while the claim stands, a
    /// repeat might still commit.
    async fn refuse(&self, claimed: Placed, asked: BodyHash) -> Result<SignedUp, AccountsError> {
        let _: Option<(bool,)> = sqlx::query_as(statements::INSERT_INTENT)
            .bind(claimed.intent().as_str())
            .bind(claimed.user().as_str())
            .bind("refused")
            .bind(&asked.0[..])
            .fetch_optional(&self.0.given.pool)
            .await?;
        // A repeat at the same moment may have committed it first.
        if let Decision::Refused = self.decided(&claimed, asked).await? {
            claimed.release(&self.0.given.directory).await?;
        }
        Err(Problem::new(ProblemType::Conflict)
            .detail("this sign-up is refused: its user id is taken, or its key was refused before")
            .into())
    }

    fn check(&self, body: &SignUpBody) -> Result<Email, AccountsError> {
        let email = Email::parse(&body.email).map_err(|error| AccountsError::invalid("/email", &error.to_string()))?;
        if let Some(name) = &body.name {
            check_name(name)?;
        }
        if let Some(password) = &body.password
            && (password.chars().count() < PASSWORD_CHARS_MIN || password.len() > PASSWORD_BYTES_MAX)
        {
            let message = "must be at least 8 characters and at most 1024 bytes";
            return Err(AccountsError::invalid("/password", message));
        }
        if !(self.0.given.tier_exists)(&body.tier) {
            let detail = format!("there is no tier {}", body.tier);
            return Err(Problem::new(ProblemType::UnknownTier).detail(detail).into());
        }
        Ok(email)
    }
}
