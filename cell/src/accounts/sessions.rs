//! Where a user is logged in, and logging out.

use super::log_in::SESSIONS_MAX;
use super::{Accounts, AccountsError, statements};
use cellar_model::{
    Micros, PresentedSession, ProblemType, SessionId, UserId,
    wire::{SessionEntry, SessionList},
};
use std::time::Duration;

#[derive(sqlx::FromRow)]
struct ListedSession {
    session_id: String,
    device: String,
    created_at_us: i64,
    last_active_us: i64,
    now_us: i64,
}

impl Accounts {
    pub(super) async fn list_sessions(
        &self,
        user: &UserId,
        current: Option<&PresentedSession>,
    ) -> Result<SessionList, AccountsError> {
        let pool = &self.0.given.pool;
        let rows: Vec<ListedSession> =
            sqlx::query_as(statements::LIST_SESSIONS).bind(user.as_str()).bind(SESSIONS_MAX).fetch_all(pool).await?;
        let last_login: Option<(Option<i64>,)> =
            sqlx::query_as(statements::LAST_LOGIN).bind(user.as_str()).fetch_optional(pool).await?;
        let mut entries = Vec::with_capacity(rows.len());
        for row in rows {
            let id = SessionId::new(&row.session_id).map_err(|_| AccountsError::Corrupt("session"))?;
            let (written, now) = (micros(row.last_active_us), micros(row.now_us));
            let ago_us = |age: Duration| u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
            let noted = self.0.activity.age(&id).map(|age| Micros(now.0.saturating_sub(ago_us(age))));
            let last_active = noted.map_or(written, |noted| noted.max(written));
            if now.since(last_active) > ago_us(self.0.given.session_life.refused_after()) {
                continue;
            }
            let entry = SessionEntry {
                device: serde_json::from_str(&row.device).map_err(|_| AccountsError::Corrupt("device"))?,
                created_at: micros(row.created_at_us).to_rfc3339(),
                last_active: last_active.to_rfc3339(),
                current: current.is_some_and(|current| current.id == id),
                session_id: row.session_id,
            };
            entries.push((last_active, entry));
        }
        // The most recently active first.
        entries.sort_by(|(a, _), (b, _)| b.cmp(a));
        Ok(SessionList {
            sessions: entries.into_iter().map(|(_, entry)| entry).collect(),
            last_login_at: last_login.and_then(|(at,)| at).map(|at| micros(at).to_rfc3339()),
        })
    }

    /// In force for every request that starts after this returned.
    pub(super) async fn revoke_session(&self, user: &UserId, session: &SessionId) -> Result<(), AccountsError> {
        let (accounts, id, session) = (self.clone(), user.clone(), session.clone());
        let revoked = self.change(user, async move {
            let revoked: Result<(bool, bool), sqlx::Error> = sqlx::query_as(statements::REVOKE_SESSION)
                .bind(id.as_str())
                .bind(session.as_str())
                .fetch_one(&accounts.0.given.pool)
                .await;
            accounts.0.cache.remove(&accounts.0.cache.key("session", session.as_str())).await;
            Ok(revoked?)
        });
        match self.revoking(revoked).await? {
            (false, _) => Err(self.left(user)),
            (true, false) => Err(ProblemType::NotFound.into()),
            (true, true) => Ok(()),
        }
    }

    /// Logs out everywhere, but for the kept session.
    pub(super) async fn revoke_all(&self, user: &UserId, keep: Option<&PresentedSession>) -> Result<(), AccountsError> {
        let (accounts, id, kept) = (self.clone(), user.clone(), keep.map(|kept| kept.id.clone()));
        let raised = self.change(user, async move {
            let raised: Option<(i64,)> = sqlx::query_as(statements::REVOKE_ALL)
                .bind(id.as_str())
                .bind(kept.as_ref().map(SessionId::as_str))
                .fetch_optional(&accounts.0.given.pool)
                .await?;
            Ok(raised)
        });
        self.revoking(raised).await?.ok_or_else(|| self.left(user))?;
        Ok(())
    }
}

fn micros(stored: i64) -> Micros {
    Micros(u64::try_from(stored).unwrap_or_default())
}
