//! Enrolment: a foreign id signed up by its first sight, under a key with `auto_enrol`. Home opened, rows written,
//! home confirmed; no e-mail, and so no claim.
//!
//! What stops half way has no claim for the reaper to find it by. Before the commit it has left a home CREATING
//! by an intent that is derived from key and id: nobody serves the id, so its next first sight comes with the
//! same intent and goes on. After the commit the id is served and nobody comes by any more: the row in `openings`,
//! written by the commit, brings the reaper.

use super::asked::Asked;
use super::change::to_the_end;
use super::sign_up::{Decision, NewUser};
use super::{Accounts, AccountsError, statements};
use crate::peers::Patience;
use cellar_directory::{Intent, Opened, Opening, claim_steps};
use cellar_model::{
    Problem, ProblemType, TierName, UserId,
    wire::{PlacedEnrolment, SignedUp},
};

/// Homes made ACTIVE beside one page of claims.
const OPENINGS_MAX: i64 = 100;

#[derive(sqlx::FromRow)]
struct OpeningRow {
    user_id: String,
    intent: String,
}

impl Accounts {
    /// Makes a user of an id, or says that it is somebody's already.
    pub(crate) async fn enrol(&self, placed: PlacedEnrolment) -> Result<SignedUp, AccountsError> {
        self.check_tier(&placed.tier)?;
        let intent = Intent::new(&placed.intent).map_err(|_| ProblemType::Malformed)?;
        let accounts = self.clone();
        to_the_end(async move {
            // A sign-up that brought the same id may have had the derived intent refused, for good, and have
            // stopped. The intent stays refused and the id does not: one more is drawn.
            let mut patience = Patience::new();
            for intent in [intent, Intent::random()] {
                let opening = Opening { user: placed.user_id.clone(), cell: accounts.0.given.cell.clone(), intent };
                if let Some(tier) = accounts.enrol_by(&opening, &placed.tier, &mut patience).await? {
                    let region = accounts.0.given.region.clone();
                    return Ok(SignedUp { user_id: opening.user, tier, region });
                }
            }
            Err(ProblemType::TryAgain.into())
        })
        .await
    }

    /// The user's tier; none if this intent is refused.
    async fn enrol_by(
        &self,
        opening: &Opening,
        tier: &TierName,
        patience: &mut Patience,
    ) -> Result<Option<TierName>, AccountsError> {
        let new = NewUser { email: None, name: None, password_hash: None, tier: tier.clone(), preferences: Vec::new() };
        // The intent says it all: a key whose tier has changed since asks for the same user.
        let asked = Asked::of_the_intent();
        let decision = match self.open_home(opening, patience).await? {
            Opened::Creating { epoch } => self.commit(opening, epoch, &new, &asked).await?,
            Opened::Settled { .. } | Opened::UserTaken => return Err(taken()),
            Opened::Elsewhere { cell, epoch } => return Err(AccountsError::Misdirected(Some((cell, epoch)))),
            Opened::OfAnother(_) => Decision::Refused,
        };
        let tier = match decision {
            Decision::Made { tier, .. } | Decision::Committed(tier, _) => tier,
            Decision::OtherBody => return Err(taken()),
            Decision::Refused => return Ok(None),
        };
        // Someone may have asked before the user was here.
        self.changed(&opening.user).await;
        self.confirm_opening(&opening.user, &opening.intent).await?;
        self.tell_forwards(&opening.user, patience).await?;
        Ok(Some(tier))
    }

    /// The home of an enrolled user becomes ACTIVE, and is not due any more.
    async fn confirm_opening(&self, user: &UserId, intent: &Intent) -> Result<(), AccountsError> {
        claim_steps::activate(&self.0.given.directory, user, intent).await?;
        let _: Option<(bool,)> = sqlx::query_as(statements::DELETE_OPENING)
            .bind(user.as_str())
            .bind(intent.as_str())
            .fetch_optional(&self.0.given.pool)
            .await?;
        Ok(())
    }

    /// Makes homes ACTIVE whose enrolments committed and stopped, some of them. One that is under way is merely
    /// confirmed twice.
    pub(super) async fn confirm_openings(&self) -> Result<(), AccountsError> {
        let rows: Vec<OpeningRow> =
            sqlx::query_as(statements::OPENINGS).bind(OPENINGS_MAX).fetch_all(&self.0.given.pool).await?;
        for row in rows {
            let user = UserId::new(&row.user_id).map_err(|_| AccountsError::Corrupt("opening"))?;
            let intent = Intent::new(&row.intent).map_err(|_| AccountsError::Corrupt("opening"))?;
            self.confirm_opening(&user, &intent).await?;
        }
        Ok(())
    }
}

fn taken() -> AccountsError {
    Problem::new(ProblemType::Conflict).detail("this user id is somebody's already").into()
}
