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
use std::collections::HashMap;

/// Of one call at once. Each waits for the directory most of the time.
const AT_ONCE: usize = 16;
/// Of all calls at once: whoever signs up by himself finds connections, too.
pub(super) const BRINGING_MAX: usize = 32;

impl Accounts {
    /// What became of each, in order.
    pub(crate) async fn bring_all(&self, users: Vec<PlacedUser>) -> Vec<Brought> {
        let before = match self.brought_before(&users).await {
            Ok(before) => before,
            // Of none of them anything is known.
            Err(error) => return vec![outcome_of(&error); users.len()],
        };
        let before = &before;
        let bringing = users.into_iter().map(|user| async move {
            if let Some(user_id) = before.get(&user.intent) {
                return Brought::Unchanged { user_id: user_id.clone() };
            }
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
        let (email, new) = self.new_user(placed.user)?;
        let made = self.sign_up_new(placed.user_id, intent, email, new).await?;
        Ok(match made {
            Made::Now(user) => Brought::Created { user_id: user.user_id },
            Made::Before(user) => Brought::Unchanged { user_id: user.user_id },
        })
    }

    /// Whose intents have committed here, by intent. Nothing else is to be asked of them: what such a sign-up left
    /// to do, the reaper does. One that was refused goes by the rules of a sign-up whose key was refused.
    async fn brought_before(&self, users: &[PlacedUser]) -> Result<HashMap<String, UserId>, AccountsError> {
        let intents: Vec<&str> = users.iter().map(|user| user.intent.as_str()).collect();
        let rows: Vec<(String, String, String)> =
            sqlx::query_as(statements::WHOSE_INTENTS).bind(intents).fetch_all(&self.0.given.pool).await?;
        let mut before = HashMap::with_capacity(rows.len());
        for (intent, user, state) in rows {
            if decided(&state)? == Decided::Committed {
                before.insert(intent, UserId::new(&user).map_err(|_| AccountsError::Corrupt("user"))?);
            }
        }
        Ok(before)
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
