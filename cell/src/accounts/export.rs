//! Everything that a cell has of a person, as one JSON document.
//!
//! The account leads; then the ledger's rows, which may be many, are sent as they are read.

use super::{Accounts, AccountsError, statements};
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cellar_model::wire::{ExportHead, ExportedSession, LedgerRow, QuotaBody};
use cellar_model::{DeadlineMs, Micros, UserId, Verdict};
use cellar_quota::{Clock, ClockMode, Quota};
use http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};
use serde_json::{Map, Value};
use std::collections::VecDeque;

#[derive(sqlx::FromRow)]
struct SessionRow {
    session_id: String,
    device: String,
    created_at_us: i64,
    last_active_us: i64,
    expires_at_us: i64,
    revoked_at_us: Option<i64>,
}

/// The rows that are still to be sent.
struct Rows {
    quota: Quota,
    user: UserId,
    read: VecDeque<LedgerRow>,
    last: Option<LedgerRow>,
    more: bool,
    first: bool,
}

impl Accounts {
    /// Also of a user who is blocked.
    pub(super) async fn export(&self, user: &UserId) -> Result<Response, AccountsError> {
        let details = self.details(user).await?;
        let pool = &self.0.given.pool;
        let preferences: Vec<(String, String)> =
            sqlx::query_as(statements::READ_PREFERENCES).bind(user.as_str()).fetch_all(pool).await?;
        let sessions: Vec<SessionRow> =
            sqlx::query_as(statements::ALL_SESSIONS).bind(user.as_str()).fetch_all(pool).await?;
        let quota = match &self.0.given.quota {
            Some(quota) => peek(quota, user).await,
            None => None,
        };
        let head = ExportHead {
            exported_at: Clock::new(ClockMode::Wall).now().to_rfc3339(),
            account: details.body(user)?,
            preferences: object(preferences)?,
            sessions: sessions.into_iter().map(session).collect::<Result<_, _>>()?,
            quota,
        };
        let mut opening = serde_json::to_string(&head).map_err(|_| AccountsError::Corrupt("account"))?;
        // The object goes on with the ledger.
        opening.truncate(opening.len() - 1);
        opening.push_str(",\"ledger\":[");
        let headers =
            [(CONTENT_TYPE, "application/json"), (CONTENT_DISPOSITION, "attachment; filename=\"export.json\"")];
        Ok((headers, self.body(user, opening)).into_response())
    }

    fn body(&self, user: &UserId, opening: String) -> Body {
        let Some(quota) = self.0.given.quota.clone() else { return Body::from(opening + "]}") };
        let rows = Rows { quota, user: user.clone(), read: VecDeque::new(), last: None, more: true, first: true };
        let parts = futures::stream::try_unfold((Some(opening), Some(rows)), |(opening, rows)| async move {
            if let Some(opening) = opening {
                return Ok(Some((Bytes::from(opening), (None, rows))));
            }
            let Some(mut rows) = rows else { return Ok(None) };
            // One that breaks off is no JSON, and the connection ends: nobody takes it for the whole.
            match rows.next().await? {
                Some(part) => Ok(Some((part, (None, Some(rows))))),
                None => Ok::<_, cellar_quota::QuotaError>(Some((Bytes::from_static(b"]}"), (None, None)))),
            }
        });
        Body::from_stream(parts)
    }
}

impl Rows {
    /// A page of them, as JSON.
    async fn next(&mut self) -> Result<Option<Bytes>, cellar_quota::QuotaError> {
        if !self.more {
            return Ok(None);
        }
        let (rows, more) = self.quota.ledger_of(&self.user, self.last.as_ref()).await?;
        self.more = more;
        self.read.extend(rows);
        let mut text = String::new();
        while let Some(row) = self.read.pop_front() {
            if !std::mem::replace(&mut self.first, false) {
                text.push(',');
            }
            // Plain data into memory: this cannot fail.
            text.push_str(&serde_json::to_string(&row).unwrap_or_default());
            self.last = Some(row);
        }
        Ok(Some(Bytes::from(text)))
    }
}

async fn peek(quota: &Quota, user: &UserId) -> Option<QuotaBody> {
    match quota.peek(user, DeadlineMs::QUOTA).await {
        Verdict::Seen { answer, .. } => Some(QuotaBody::new(user, &answer)),
        _ => None,
    }
}

fn object(rows: Vec<(String, String)>) -> Result<Map<String, Value>, AccountsError> {
    let parsed = rows.into_iter().map(|(key, value)| Ok((key, serde_json::from_str(&value)?)));
    parsed.collect::<Result<_, serde_json::Error>>().map_err(|_| AccountsError::Corrupt("preference"))
}

fn session(row: SessionRow) -> Result<ExportedSession, AccountsError> {
    let time = |us: i64| Micros(u64::try_from(us).unwrap_or_default()).to_rfc3339();
    Ok(ExportedSession {
        session_id: row.session_id,
        device: serde_json::from_str(&row.device).map_err(|_| AccountsError::Corrupt("device"))?,
        created_at: time(row.created_at_us),
        last_active: time(row.last_active_us),
        expires_at: time(row.expires_at_us),
        revoked_at: row.revoked_at_us.map(time),
    })
}
