//! Sign-up: e-mail claimed, home opened, rows written, both confirmed. Each step may be repeated.

use super::claims::Settled;
use super::passwords::{PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN};
use super::profile::check_name;
use super::reaper::Begun;
use super::{Accounts, AccountsError, statements};
use crate::peers::Patience;
use cellar_directory::{Claimed, Decided, Email, HomeState, Intent, Opened, Opening, Placed, SignUp, claim_steps};
use cellar_model::{
    BodyHash, Epoch, Problem, ProblemType, Secret, TierName,
    wire::{PlacedSignUp, SignUpBody, SignedUp},
};

/// The epoch at which every user begins, and so that of a claim's cell before any move.
const FIRST: Epoch = Epoch(1);

/// Homes taken over by one sign-up from intents that stopped before it: each is refused first, so that more
/// than one means as many sign-ups of one user id at this very moment.
const TAKE_OVERS_MAX: u32 = 4;

/// What is written for a new user.
pub(super) struct NewUser {
    /// None for who is enrolled by a first sight.
    pub(super) email: Option<Email>,
    pub(super) name: Option<String>,
    pub(super) password_hash: Option<String>,
    pub(super) tier: TierName,
}

/// What this cell knows of an intent once its transaction is over.
pub(super) enum Decision {
    /// The user is here by this attempt, in this tier.
    Made(TierName),
    /// By an earlier attempt of the intent; the e-mail may have changed since.
    Committed(TierName),
    /// The intent committed someone, but something else was asked then.
    OtherBody,
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
        let new = NewUser { email: Some(email), name: placed.body.name, password_hash, tier: placed.body.tier };
        let sign_up = SignUp { user: placed.user_id, cell: self.0.given.cell.clone(), intent, email: hash };
        match sign_up.claim(&self.0.given.directory).await? {
            Claimed::Here(claimed) => {
                let begun = Begun::new(self, claimed.claim());
                let signed_up = self.complete(claimed, new, asked).await?;
                begun.ended();
                Ok(signed_up)
            }
            Claimed::Elsewhere { cell, .. } => Err(AccountsError::Misdirected(Some((cell, FIRST)))),
            Claimed::EmailTaken => Err(ProblemType::EmailTaken.into()),
        }
    }

    async fn complete(&self, claimed: Placed, new: NewUser, asked: BodyHash) -> Result<SignedUp, AccountsError> {
        let directory = &self.0.given.directory;
        let (opening, mut patience) = (claimed.opening(), Patience::new());
        let decision = match self.open_home(&opening, &mut patience).await? {
            Opened::Creating { epoch } => self.commit(&opening, epoch, &new, asked).await?,
            Opened::Settled { .. } => self.decided(&opening, asked).await?,
            // Another's, unless a row here says that the user has moved: then the claim goes after them.
            Opened::Elsewhere { cell, epoch } => match self.settle(claimed.claim()).await? {
                Settled::Freed => Decision::Refused,
                _ => return Err(AccountsError::Misdirected(Some((cell, epoch)))),
            },
            Opened::OfAnother(_) | Opened::UserTaken => Decision::Refused,
        };
        let user_id = opening.user;
        let tier = match decision {
            Decision::Made(tier) => {
                claimed.confirm(directory).await?;
                // Someone may have asked before the user was here.
                self.changed(&user_id).await;
                self.tell_forwards(&user_id, &mut patience).await?;
                tier
            }
            Decision::Committed(tier) => {
                claim_steps::activate(directory, &user_id, claimed.intent()).await?;
                // Held, or freed again if the user has another e-mail by now: its claim was made by this repeat.
                self.settle(claimed.claim()).await?;
                self.tell_forwards(&user_id, &mut patience).await?;
                tier
            }
            Decision::OtherBody => {
                // The claim of the one who committed is held; one made just now for something else goes.
                self.settle(claimed.claim()).await?;
                return Err(ProblemType::KeyReused.into());
            }
            Decision::Refused => {
                // The intent first, then the e-mail: while the intent is open, a repeat might still commit.
                self.settle(claimed.claim()).await?;
                return Err(Problem::new(ProblemType::Conflict)
                    .detail("this sign-up is refused: its user id is taken, or its key was refused before")
                    .into());
            }
        };
        let region = self.0.given.region.clone();
        Ok(SignedUp { user_id, tier, region })
    }

    /// Opens the user's home. Where another intent's stands, its cell is asked as the reaper would ask it, and
    /// refuses that intent unless it has committed; then its home is taken over.
    pub(super) async fn open_home(&self, opening: &Opening, patience: &mut Patience) -> Result<Opened, AccountsError> {
        let directory = &self.0.given.directory;
        let mut opened = opening.open(directory).await?;
        for _ in 0..TAKE_OVERS_MAX {
            let Opened::OfAnother(met) = &opened else { return Ok(opened) };
            let HomeState::Creating { intent } = &met.state else { return Ok(opened) };
            opened = match self.ask_intent(intent, met, patience).await? {
                Decided::Committed => return Ok(Opened::UserTaken),
                Decided::Refused => opening.take_over(directory, met).await?,
            };
        }
        Err(ProblemType::TryAgain.into())
    }

    /// The cell's transaction: OWNED, the user, the intent, and that other cells are to know, or none of them.
    pub(super) async fn commit(
        &self,
        opening: &Opening,
        epoch: Epoch,
        new: &NewUser,
        asked: BodyHash,
    ) -> Result<Decision, AccountsError> {
        let user = opening.user.as_str();
        let mut transaction = self.0.given.pool.begin().await?;
        let first: Option<(bool,)> = sqlx::query_as(statements::INSERT_INTENT)
            .bind(opening.intent.as_str())
            .bind(user)
            .bind("committed")
            .bind(&asked.0[..])
            .fetch_optional(&mut *transaction)
            .await?;
        if first.is_none() {
            transaction.rollback().await?;
            return self.decided(opening, asked).await;
        }
        let owned: Option<(bool,)> = sqlx::query_as(statements::INSERT_OWNED)
            .bind(user)
            .bind(epoch.as_i64())
            .bind(self.0.given.cell.as_str())
            .fetch_optional(&mut *transaction)
            .await?;
        let made: Option<(bool,)> = sqlx::query_as(statements::INSERT_USER)
            .bind(user)
            .bind(new.email.as_ref().map(Email::reveal))
            .bind(new.email.as_ref().map(|_| opening.intent.as_str()))
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
        if new.email.is_none() {
            let _: Option<(bool,)> = sqlx::query_as(statements::INSERT_OPENING)
                .bind(user)
                .bind(opening.intent.as_str())
                .fetch_optional(&mut *transaction)
                .await?;
        }
        self.note_forward(&opening.user, &mut transaction).await?;
        transaction.commit().await?;
        Ok(Decision::Made(new.tier.clone()))
    }

    /// What an earlier attempt came to.
    async fn decided(&self, opening: &Opening, asked: BodyHash) -> Result<Decision, AccountsError> {
        let row: Option<IntentRow> = sqlx::query_as(statements::READ_INTENT)
            .bind(opening.intent.as_str())
            .fetch_optional(&self.0.given.pool)
            .await?;
        let Some(row) = row.filter(|row| row.state == "committed") else {
            return Ok(Decision::Refused);
        };
        let of_other_user = row.user_id != opening.user.as_str();
        let Some(tier) = row.tier_id.filter(|_| !of_other_user && row.body == asked.0) else {
            return Ok(Decision::OtherBody);
        };
        let tier = TierName::new(&tier).map_err(|_| AccountsError::Corrupt("tier"))?;
        Ok(Decision::Committed(tier))
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
        self.check_tier(&body.tier)?;
        Ok(email)
    }

    pub(super) fn check_tier(&self, tier: &TierName) -> Result<(), AccountsError> {
        if !(self.0.given.tier_exists)(tier) {
            let detail = format!("there is no tier {tier}");
            return Err(Problem::new(ProblemType::UnknownTier).detail(detail).into());
        }
        Ok(())
    }
}
