//! Users brought from elsewhere, many at a time. Each is a sign-up like any other, claims and home and all, but that
//! its password comes as a hash, and its preferences with it.
//!
//! Its intent is of everything that is said of it. So a file that is brought again changes nothing, wherever the
//! first time broke off.

use super::claims::decided;
use super::preferences;
use super::profile::check_name;
use super::sign_up::{Made, NewUser};
use super::{Accounts, AccountsError, brought_hash, statements};
use cellar_directory::{Decided, Email, EmailError, Intent};
use cellar_model::wire::{Brought, BroughtUser, PlacedUser};
use cellar_model::{ProblemType, UserId};
use futures::StreamExt;

/// Of one call at once. Each waits for the directory most of the time.
const AT_ONCE: usize = 16;
/// Of all calls at once: whoever signs up by himself finds connections, too.
pub(super) const BRINGING_MAX: usize = 32;

impl Accounts {
    /// What became of each, in order.
    pub(crate) async fn bring_all(&self, users: Vec<PlacedUser>) -> Vec<Brought> {
        let bringing = users.into_iter().map(|user| async {
            let _place = self.0.bringing.acquire().await;
            self.bring(user).await.unwrap_or_else(|error| outcome_of(&error))
        });
        futures::stream::iter(bringing).buffered(AT_ONCE).collect().await
    }

    /// An e-mail as it is known under a pepper.
    pub(crate) fn keyed(&self, email: &str) -> Result<[u8; 32], EmailError> {
        let email = Email::parse(email)?;
        Ok(self.0.given.peppers.hashes(&email).first().map(|email| email.hash).unwrap_or_default())
    }

    async fn bring(&self, placed: PlacedUser) -> Result<Brought, AccountsError> {
        let intent = Intent::new(&placed.intent).map_err(|_| ProblemType::Malformed)?;
        if let Some(before) = self.brought_before(&intent).await? {
            return Ok(before);
        }
        let (email, new) = self.new_user(placed.user)?;
        let made = self.sign_up_new(placed.user_id, intent, email, new).await?;
        Ok(match made {
            Made::Now(user) => Brought::Created { user_id: user.user_id },
            Made::Before(user) => Brought::Unchanged { user_id: user.user_id },
        })
    }

    /// Found here, nothing else is to be asked: what its sign-up left to do, the reaper does.
    async fn brought_before(&self, intent: &Intent) -> Result<Option<Brought>, AccountsError> {
        let row: Option<(String, String)> =
            sqlx::query_as(statements::WHOSE_INTENT).bind(intent.as_str()).fetch_optional(&self.0.given.pool).await?;
        let Some((user, state)) = row else { return Ok(None) };
        match decided(&state)? {
            Decided::Committed => {
                let user_id = UserId::new(&user).map_err(|_| AccountsError::Corrupt("user"))?;
                Ok(Some(Brought::Unchanged { user_id }))
            }
            // By the same rules as a sign-up whose key was refused.
            Decided::Refused => Ok(None),
        }
    }

    fn new_user(&self, user: BroughtUser) -> Result<(Email, NewUser), AccountsError> {
        let email = Email::parse(&user.email).map_err(|error| AccountsError::invalid("/email", &error.to_string()))?;
        if let Some(name) = &user.name {
            check_name(name)?;
        }
        if let Some(hash) = &user.password_hash {
            brought_hash::check(hash).map_err(|error| AccountsError::invalid("/password_hash", error))?;
        }
        self.check_tier(&user.tier)?;
        let new = NewUser {
            email: Some(email.clone()),
            name: user.name,
            password_hash: user.password_hash,
            tier: user.tier,
            preferences: preferences::rows(user.preferences)?,
        };
        Ok((email, new))
    }
}

fn outcome_of(error: &AccountsError) -> Brought {
    if let AccountsError::Misdirected(Some((cell, _))) = error.itself() {
        return Brought::Elsewhere { cell: cell.clone() };
    }
    let problem = error.problem();
    let said = || problem.detail.clone().unwrap_or_else(|| problem.kind.title().to_owned());
    match problem.kind {
        ProblemType::EmailTaken | ProblemType::Conflict | ProblemType::KeyReused => {
            Brought::Conflict { problem: problem.kind.slug().to_owned() }
        }
        ProblemType::UnknownTier => Brought::invalid("/tier", &said()),
        kind if kind.status() == 422 || kind.status() == 400 => match problem.errors.first() {
            Some(error) => Brought::invalid(&error.pointer, &error.message),
            None => Brought::invalid("", &said()),
        },
        _ => Brought::again(said()),
    }
}
