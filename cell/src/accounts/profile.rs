//! The profile: basic info, tier, preferences.

use super::email::NewEmail;
use super::etag::{IfMatch, Tag};
use super::person::Person;
use super::{Accounts, AccountsError, statements};
use cellar_directory::{Email, Intent};
use cellar_model::{ProblemType, TierName, UserId, wire, wire::ProfilePatch};
use cellar_server::email_change_intent;

pub(super) const NAME_CHARS_MAX: usize = 200;

/// A name as people write theirs: some characters, none of them for control.
pub(super) fn check_name(name: &str) -> Result<(), AccountsError> {
    if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || name.chars().any(char::is_control) {
        return Err(AccountsError::invalid("/name", "must be 1 to 200 characters, none of them for control"));
    }
    Ok(())
}

fn check_email(email: Option<&str>) -> Result<Email, AccountsError> {
    let email = email.ok_or_else(|| AccountsError::invalid("/email", "an account has an e-mail"))?;
    Email::parse(email).map_err(|error| AccountsError::invalid("/email", &error.to_string()))
}

/// Both counters: a profile shows the preferences too.
pub(super) fn tag(person: &Person) -> Tag {
    Tag::of(&[vec![person.version], person.preferences_counters()].concat())
}

pub(super) fn body(user: &UserId, person: &Person) -> Result<wire::Profile, AccountsError> {
    Ok(wire::Profile {
        user_id: user.clone(),
        email: person.email.clone(),
        name: person.name.clone(),
        tier: TierName::new(&person.tier).map_err(|_| AccountsError::Corrupt("tier"))?,
        created_at: person.created_at.to_rfc3339(),
        preferences: serde_json::from_str(&person.preferences).map_err(|_| AccountsError::Corrupt("preference"))?,
    })
}

impl Accounts {
    pub(super) async fn patch_profile(
        &self,
        user: &UserId,
        patch: ProfilePatch,
        wanted: &IfMatch,
        key: Option<&str>,
    ) -> Result<(), AccountsError> {
        if let Some(Some(name)) = &patch.name {
            check_name(name)?;
        }
        let email = patch.email.map(|email| check_email(email.as_deref())).transpose()?;
        let person = self.person(user).await?;
        tag(&person).require(wanted)?;
        // The cached person may be behind by a write of this moment; the row itself decides.
        let expected = wanted.is_given().then_some(person.version);
        if let Some(email) = email {
            let intent = Intent::new(&email_change_intent(user, key)).map_err(|_| ProblemType::Malformed)?;
            let new = NewEmail { email, name: patch.name, expected, intent };
            return self.change_email(user, new).await;
        }
        let Some(name) = patch.name else {
            return Ok(());
        };
        let (accounts, id) = (self.clone(), user.clone());
        let renamed = self.change(user, async move {
            let renamed: Option<(i64,)> = sqlx::query_as(statements::RENAME)
                .bind(id.as_str())
                .bind(&name)
                .bind(expected)
                .fetch_optional(&accounts.0.given.pool)
                .await?;
            Ok(renamed)
        });
        if renamed.await?.is_none() {
            // Still here and not blocked, else this says so: then it was the version.
            self.person(user).await?;
            return Err(ProblemType::PreconditionFailed.into());
        }
        Ok(())
    }
}
