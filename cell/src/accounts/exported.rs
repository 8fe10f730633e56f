//! Users taken elsewhere: what `cellctl users import` takes of each.

use super::{Accounts, AccountsError, statements};
use cellar_model::wire::BroughtUser;
use cellar_model::{TierName, UserId};
use serde::Serialize;

/// Users of a page. With all the preferences that each may have it is some 6 MiB.
const PAGE_MAX: i64 = 100;

/// `GET /admin/v1/users`
#[derive(Serialize)]
pub(crate) struct UsersPage {
    users: Vec<BroughtUser>,
    /// Blocked, or without an e-mail: an import would make something else of them.
    left_out: u64,
    /// After whom the next page begins; none: this is the last.
    next: Option<UserId>,
}

#[derive(sqlx::FromRow)]
struct ExportedRow {
    user_id: String,
    email: Option<String>,
    name: Option<String>,
    tier_id: String,
    state: String,
    password_hash: Option<String>,
    preferences: String,
}

impl Accounts {
    /// A page of whom this cell has, in the order of bytes; password hashes if they are asked for.
    pub(crate) async fn users_page(
        &self,
        after: Option<&UserId>,
        with_hashes: bool,
    ) -> Result<UsersPage, AccountsError> {
        let rows: Vec<ExportedRow> = sqlx::query_as(statements::EXPORT_PAGE)
            .bind(after.map_or("", UserId::as_str))
            .bind(PAGE_MAX)
            .bind(with_hashes)
            .fetch_all(&self.0.given.pool)
            .await?;
        let mut page = UsersPage { users: Vec::with_capacity(rows.len()), left_out: 0, next: None };
        if rows.len() as i64 == PAGE_MAX {
            let last = rows.last().map(|row| UserId::new(&row.user_id));
            page.next = last.transpose().map_err(|_| AccountsError::Corrupt("user"))?;
        }
        for row in rows {
            let Some(email) = row.email.filter(|_| row.state == "active") else {
                page.left_out += 1;
                continue;
            };
            page.users.push(BroughtUser {
                user_id: Some(UserId::new(&row.user_id).map_err(|_| AccountsError::Corrupt("user"))?),
                email,
                name: row.name,
                tier: TierName::new(&row.tier_id).map_err(|_| AccountsError::Corrupt("tier"))?,
                region: Some(self.0.given.region.clone()),
                password_hash: row.password_hash,
                preferences: serde_json::from_str(&row.preferences)
                    .map_err(|_| AccountsError::Corrupt("preference"))?,
            });
        }
        Ok(page)
    }
}
