//! Sign-up: e-mail claimed, home opened, rows written, both confirmed. Each step may be repeated.

use super::asked::{Asked, Compared};
use super::claims::{Settled, stored};
use super::password::check_password;
use super::profile::check_name;
use super::reaper::Begun;
use super::{Accounts, AccountsError, statements};
use crate::peers::Patience;
use cellar_directory::{
    Claim, Claimed, Decided, Email, HomeState, Intent, Joined, Opened, Opening, Placed, SignUp, claim_rules,
    claim_steps,
};
use cellar_model::{
    Epoch, Problem, ProblemType, Secret, TierName, UserId,
    wire::{PlacedSignUp, SignUpBody, SignedUp},
};

/// The epoch at which every user begins, and so that of a claim's cell before any move.
const FIRST: Epoch = Epoch(1);

/// Homes taken over by one sign-up from intents that stopped before it: each is refused first, so that more
/// than one means as many sign-ups of one user id at this very moment.
const TAKE_OVERS_MAX: u32 = 4;

/// Looks at claims of one sign-up that disagree: refused, passed on or rewritten, then met again.
const JOINS_MAX: u32 = 4;

/// What is written for a new user.
pub(super) struct NewUser {
    /// None for who is enrolled by a first sight.
    pub(super) email: Option<Email>,
    pub(super) name: Option<String>,
    pub(super) password_hash: Option<String>,
    pub(super) tier: TierName,
    /// Keys with values in JSON: of who is brought from elsewhere.
    pub(super) preferences: Vec<(String, String)>,
}

/// Who is here by an intent, and since when.
pub(super) enum Made {
    Now(SignedUp),
    /// By an earlier attempt.
    Before(SignedUp),
}

/// What this cell knows of an intent once its transaction is over.
pub(super) enum Decision {
    /// The user is here by this attempt, and other cells may have to know.
    Made { tier: TierName, user: UserId, to_be_told: bool },
    /// By an earlier attempt of the intent; the e-mail may have changed since.
    Committed(TierName, UserId),
    /// The intent committed someone, but something else was asked then.
    OtherBody,
    /// Refused, now or earlier, for good.
    Refused,
}

/// What one statement wrote.
#[derive(sqlx::FromRow)]
struct SignUpRow {
    /// No attempt had decided the intent.
    first: bool,
    made: bool,
    /// Other cells are to be told.
    due: bool,
}

#[derive(sqlx::FromRow)]
struct IntentRow {
    user_id: String,
    state: String,
    body: Vec<u8>,
    tier_id: Option<String>,
    email: Option<String>,
    email_intent: Option<String>,
}

impl IntentRow {
    /// Whether its user has the e-mail that is asked for.
    fn is_of(&self, new: &NewUser) -> Result<bool, AccountsError> {
        let present = self.email.as_deref().map(stored).transpose()?;
        Ok(present.zip(new.email.as_ref()).is_some_and(|(present, asked)| present.is_same_as(asked)))
    }
}

impl Accounts {
    /// Signs up a user here, or answers a repeat of the same intent as the first time.
    pub(crate) async fn sign_up(&self, placed: PlacedSignUp) -> Result<SignedUp, AccountsError> {
        let intent = Intent::new(&placed.intent).map_err(|_| ProblemType::Malformed)?;
        let email = self.check(&placed.body)?;
        // Before the claim: a full queue refuses without a trace.
        let password_hash = match placed.body.password {
            Some(password) => Some(self.0.passwords.hash(Secret::new(password)).await?),
            None => None,
        };
        let (name, tier) = (placed.body.name, placed.body.tier);
        let new = NewUser { email: Some(email.clone()), name, password_hash, tier, preferences: Vec::new() };
        match self.sign_up_new(placed.user_id, intent, email, new).await? {
            Made::Now(signed_up) | Made::Before(signed_up) => Ok(signed_up),
        }
    }

    /// The same of who has been checked.
    pub(super) async fn sign_up_new(
        &self,
        user: UserId,
        intent: Intent,
        email: Email,
        new: NewUser,
    ) -> Result<Made, AccountsError> {
        let emails = self.0.given.peppers.hashes(&email);
        let rest = [new.name.as_deref().unwrap_or_default(), new.tier.as_str()].map(str::as_bytes);
        let asked = Asked::of(&emails, &rest);
        let sign_up = SignUp { user, cell: self.0.given.cell.clone(), intent, emails };
        let mut begun = Begun::new(self);
        let made = self.sign_up_claimed(&sign_up, new, asked, &mut begun).await?;
        begun.ended();
        Ok(made)
    }

    /// Claims the e-mail under every pepper, and goes on by what the claims say.
    async fn sign_up_claimed(
        &self,
        sign_up: &SignUp,
        new: NewUser,
        asked: Asked,
        begun: &mut Begun,
    ) -> Result<Made, AccountsError> {
        let directory = &self.0.given.directory;
        for _ in 0..JOINS_MAX {
            let (earlier, last) = match sign_up.claim(directory, |claim| begun.note(claim)).await? {
                Claimed::Here(claimed) => return self.complete(claimed, new, asked).await,
                Claimed::Elsewhere { cell, .. } => return Err(AccountsError::Misdirected(Some((cell, FIRST)))),
                Claimed::EmailTaken { ours } => return self.taken(&ours, &new, &asked).await,
                Claimed::Split { earlier, last } => (earlier, last),
            };
            match claim_rules::join(&earlier, &last, self.decision_of(&sign_up.intent).await?) {
                Joined::Rewrite => claim_steps::follow(directory, &earlier, &last).await?,
                Joined::Refuse => {
                    self.refuse_or_tell(&sign_up.intent, &earlier.user).await?;
                }
                Joined::PassOn => {
                    claim_steps::follow(directory, &earlier, &last).await?;
                    return Err(AccountsError::Misdirected(Some((last.cell, FIRST))));
                }
                Joined::Decided => return self.taken(&[*earlier, *last], &new, &asked).await,
            }
        }
        Err(ProblemType::TryAgain.into())
    }

    /// Not all claims can be had by this intent. If it was committed by fewer of them, its answer stays what it
    /// was; else it is refused for good, and what it claimed is freed.
    async fn taken(&self, ours: &[Claim], new: &NewUser, asked: &Asked) -> Result<Made, AccountsError> {
        self.settle_all(ours).await?;
        let Some(claim) = ours.iter().find(|claim| claim.cell == self.0.given.cell) else {
            return Err(ProblemType::EmailTaken.into());
        };
        match self.decided(&claim.intent, None, new, asked).await? {
            Decision::Made { tier, user: user_id, .. } | Decision::Committed(tier, user_id) => {
                self.tell_forwards(&user_id, &mut Patience::new()).await?;
                Ok(Made::Before(SignedUp { user_id, tier, region: self.0.given.region.clone() }))
            }
            Decision::OtherBody => Err(ProblemType::KeyReused.into()),
            Decision::Refused => Err(ProblemType::EmailTaken.into()),
        }
    }

    async fn complete(&self, claimed: Placed, new: NewUser, asked: Asked) -> Result<Made, AccountsError> {
        let directory = &self.0.given.directory;
        let (opening, mut patience) = (claimed.opening(), Patience::new());
        let decision = match self.open_home(&opening, &mut patience).await? {
            Opened::Creating { epoch } => self.commit(&opening, epoch, &new, &asked).await?,
            Opened::Settled { .. } => self.decided(&opening.intent, Some(&opening.user), &new, &asked).await?,
            // Another's, unless a row here says that the user has moved: then the claims go after them.
            Opened::Elsewhere { cell, epoch } => {
                let mut freed = false;
                for claim in claimed.claims().iter().rev() {
                    freed |= self.settle(claim).await? == Settled::Freed;
                }
                if !freed {
                    return Err(AccountsError::Misdirected(Some((cell, epoch))));
                }
                Decision::Refused
            }
            Opened::OfAnother(_) | Opened::UserTaken => Decision::Refused,
        };
        let signed_up = |tier, user_id| SignedUp { user_id, tier, region: self.0.given.region.clone() };
        match decision {
            Decision::Made { tier, user: user_id, to_be_told } => {
                claimed.confirm(directory).await?;
                // Someone may have asked before the user was here.
                self.changed(&user_id).await;
                if to_be_told {
                    self.tell_forwards(&user_id, &mut patience).await?;
                }
                Ok(Made::Now(signed_up(tier, user_id)))
            }
            Decision::Committed(tier, user_id) => {
                claim_steps::activate(directory, &user_id, claimed.intent()).await?;
                // Held, or freed again if the user has another e-mail by now: they were made by this repeat.
                self.settle_all(claimed.claims()).await?;
                self.tell_forwards(&user_id, &mut patience).await?;
                Ok(Made::Before(signed_up(tier, user_id)))
            }
            Decision::OtherBody => {
                // The claims of the one who committed are held; those made just now for something else go.
                self.settle_all(claimed.claims()).await?;
                Err(ProblemType::KeyReused.into())
            }
            Decision::Refused => {
                // The intent first, then the e-mail: while the intent is open, a repeat might still commit.
                self.settle_all(claimed.claims()).await?;
                Err(Problem::new(ProblemType::Conflict)
                    .detail("this sign-up is refused: its user id is taken, or its key was refused before")
                    .into())
            }
        }
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
        asked: &Asked,
    ) -> Result<Decision, AccountsError> {
        let told = self.to_be_told(&opening.user);
        let (keys, values): (Vec<&str>, Vec<&str>) =
            new.preferences.iter().map(|(key, value)| (&**key, &**value)).unzip();
        let mut transaction = self.0.given.pool.begin().await?;
        let written: SignUpRow = sqlx::query_as(statements::SIGN_UP)
            .bind(opening.intent.as_str())
            .bind(opening.user.as_str())
            .bind(asked.to_bytes())
            .bind(epoch.as_i64())
            .bind(self.0.given.cell.as_str())
            .bind(new.email.as_ref().map(Email::reveal))
            .bind(&new.name)
            .bind(&new.password_hash)
            .bind(new.tier.as_str())
            .bind(told.others)
            .bind(told.elsewhere)
            .bind(&told.digest)
            .bind(keys)
            .bind(values)
            .fetch_one(&mut *transaction)
            .await?;
        if !written.first {
            transaction.rollback().await?;
            return self.decided(&opening.intent, Some(&opening.user), new, asked).await;
        }
        if !written.made {
            // Rows of an id that the directory says is new: nothing of them is overwritten.
            transaction.rollback().await?;
            return Ok(Decision::Refused);
        }
        let committed = transaction.commit().await;
        // Someone may have asked before the user was here. Without an answer they may be, too.
        self.forget(&opening.user);
        committed?;
        Ok(Decision::Made { tier: new.tier.clone(), user: opening.user.clone(), to_be_told: written.due })
    }

    /// What an earlier attempt came to, for `user` if that is said.
    async fn decided(
        &self,
        intent: &Intent,
        user: Option<&UserId>,
        new: &NewUser,
        asked: &Asked,
    ) -> Result<Decision, AccountsError> {
        let row: Option<IntentRow> =
            sqlx::query_as(statements::READ_INTENT).bind(intent.as_str()).fetch_optional(&self.0.given.pool).await?;
        let Some(row) = row.filter(|row| row.state == "committed") else {
            return Ok(Decision::Refused);
        };
        let same = match asked.compare(&row.body) {
            Compared::Same => true,
            Compared::Other => false,
            // Asked before the pepper was another: the e-mail tells, as long as it is the one signed up with.
            Compared::Unknown => row.email_intent.as_deref() == Some(intent.as_str()) && row.is_of(new)?,
        };
        let of_other_user = user.is_some_and(|user| row.user_id != user.as_str());
        let Some(tier) = row.tier_id.filter(|_| !of_other_user && same) else {
            return Ok(Decision::OtherBody);
        };
        let tier = TierName::new(&tier).map_err(|_| AccountsError::Corrupt("tier"))?;
        let user = UserId::new(&row.user_id).map_err(|_| AccountsError::Corrupt("user"))?;
        Ok(Decision::Committed(tier, user))
    }

    fn check(&self, body: &SignUpBody) -> Result<Email, AccountsError> {
        let email = Email::parse(&body.email).map_err(|error| AccountsError::invalid("/email", &error.to_string()))?;
        if let Some(name) = &body.name {
            check_name(name)?;
        }
        if let Some(password) = &body.password {
            check_password(password)?;
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
