//! An account as those see it who look after it: also one that is blocked.

use super::etag::Tag;
use super::{Accounts, AccountsError, statements};
use cellar_model::wire::{UserDetails, UserState};
use cellar_model::{Micros, TierName, UserId};

#[derive(sqlx::FromRow)]
pub(super) struct DetailsRow {
    pub(super) email: Option<String>,
    name: Option<String>,
    tier_id: String,
    state: String,
    pub(super) version: i64,
    has_password: bool,
    created_at_us: i64,
    last_login_us: Option<i64>,
}

impl DetailsRow {
    /// Of what every change of the account raises; not of preferences.
    pub(super) fn tag(&self) -> Tag {
        Tag::of(&[self.version])
    }

    pub(super) fn body(self, user: &UserId) -> Result<UserDetails, AccountsError> {
        let time = |us: i64| Micros(u64::try_from(us).unwrap_or_default()).to_rfc3339();
        Ok(UserDetails {
            user_id: user.clone(),
            email: self.email,
            name: self.name,
            tier: TierName::new(&self.tier_id).map_err(|_| AccountsError::Corrupt("tier"))?,
            state: match self.state.as_str() {
                "active" => UserState::Active,
                "blocked" => UserState::Blocked,
                _ => return Err(AccountsError::Corrupt("state")),
            },
            has_password: self.has_password,
            created_at: time(self.created_at_us),
            last_login_at: self.last_login_us.map(time),
        })
    }
}

impl Accounts {
    /// The account of a user who is owned here, from its row.
    pub(super) async fn details(&self, user: &UserId) -> Result<DetailsRow, AccountsError> {
        self.owned(user).await?;
        let row: Option<DetailsRow> =
            sqlx::query_as(statements::DETAILS).bind(user.as_str()).fetch_optional(&self.0.given.pool).await?;
        row.ok_or_else(|| self.left(user))
    }
}
