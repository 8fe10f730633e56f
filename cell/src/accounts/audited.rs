//! What this cell says of its users to those who compare it with the directory.

use super::{Accounts, AccountsError, statements};
use cellar_directory::EmailHash;
use cellar_model::wire::{AccountsPage, CellAccount};
use cellar_model::{CellName, Epoch, Micros, UserId};

/// Users on one page.
const PAGE_MAX: i64 = 1_000;

#[derive(sqlx::FromRow)]
struct AccountRow {
    user_id: String,
    ownership: String,
    epoch: i64,
    home: String,
    email: Option<String>,
    email_intent: Option<String>,
    tier_id: Option<String>,
    state: Option<String>,
    created_at_us: Option<i64>,
    releases: Vec<String>,
    forward_due: bool,
}

impl Accounts {
    /// Everyone with a row here, a page at a time. E-mails leave as the directory knows them.
    pub(crate) async fn accounts_page(&self, after: Option<&UserId>) -> Result<AccountsPage, AccountsError> {
        // First: whom the pass has still to come by is due or there already when the rows are read.
        let rings = self.looked_at_by().await?;
        let rows = self.account_rows(after.map_or("", UserId::as_str), None).await?;
        let full = rows.len() as i64 == PAGE_MAX;
        let accounts: Vec<CellAccount> = rows.into_iter().map(|row| self.audited(row)).collect::<Result<_, _>>()?;
        let next = accounts.last().filter(|_| full).map(|last| last.user_id.clone());
        Ok(AccountsPage { accounts, peppers: self.pepper_ids(), next, rings })
    }

    /// One of them.
    pub(crate) async fn account(&self, user: &UserId) -> Result<AccountsPage, AccountsError> {
        let rows = self.account_rows("", Some(user.as_str())).await?;
        let accounts = rows.into_iter().map(|row| self.audited(row)).collect::<Result<_, _>>()?;
        Ok(AccountsPage { accounts, peppers: self.pepper_ids(), next: None, rings: None })
    }

    async fn account_rows(&self, after: &str, user: Option<&str>) -> Result<Vec<AccountRow>, AccountsError> {
        let rows = sqlx::query_as(statements::ACCOUNTS).bind(after).bind(user).bind(PAGE_MAX);
        Ok(rows.fetch_all(&self.0.given.pool).await?)
    }

    fn pepper_ids(&self) -> Vec<String> {
        self.0.given.peppers.ids().map(|id| id.to_string()).collect()
    }

    fn audited(&self, row: AccountRow) -> Result<CellAccount, AccountsError> {
        let emails = row.email.map(|email| self.hashes_of(&email)).transpose()?.unwrap_or_default();
        Ok(CellAccount {
            user_id: UserId::new(&row.user_id).map_err(|_| AccountsError::Corrupt("user"))?,
            ownership: row.ownership,
            epoch: Epoch::from_i64(row.epoch),
            home: CellName::new(&row.home).map_err(|_| AccountsError::Corrupt("home"))?,
            emails: emails.iter().map(EmailHash::to_text).collect(),
            email_intent: row.email_intent,
            releases: row.releases,
            forward_due: row.forward_due,
            tier: row.tier_id,
            state: row.state,
            created_at: row.created_at_us.map(|at| Micros(u64::try_from(at).unwrap_or_default()).to_rfc3339()),
        })
    }
}
