//! When a session was last active: noted in memory, written behind in batches.

use super::statements;
use cellar_model::{Micros, SessionId};
use cellar_quota::{Clock, ClockMode};
use sqlx::PgPool;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Notes of one session are at least this far apart.
const COALESCE_US: u64 = 60_000_000;
/// How far `last_active` in Postgres may be behind: what the API states as its precision.
const WRITE_EVERY: Duration = Duration::from_secs(300);
/// Sessions noted between two writes. Above it, notes of further sessions are dropped.
const NOTED_MAX: usize = 200_000;
/// Sessions a statement writes.
const BATCH_MAX: usize = 1_000;

#[derive(Default)]
pub(super) struct Activity(Mutex<HashMap<SessionId, Micros>>);

impl Activity {
    pub(super) fn note(&self, session: &SessionId) {
        let now = now();
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = noted.get_mut(session) {
            if now.since(*last) >= COALESCE_US {
                *last = now;
            }
        } else if noted.len() < NOTED_MAX {
            noted.insert(session.clone(), now);
        }
    }

    pub(super) fn last(&self, session: &SessionId) -> Option<Micros> {
        let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        noted.get(session).copied()
    }

    pub(super) async fn run(&self, pool: &PgPool, cancel: CancellationToken) {
        loop {
            let cancelled = tokio::select! {
                () = tokio::time::sleep(WRITE_EVERY) => false,
                () = cancel.cancelled() => true,
            };
            if let Err(error) = self.write(pool).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "activity was not written");
            }
            if cancelled {
                return;
            }
        }
    }

    /// Writes what was noted. After a failure the rest stays noted.
    pub(super) async fn write(&self, pool: &PgPool) -> Result<(), sqlx::Error> {
        let noted: Vec<(SessionId, Micros)> = {
            let noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            noted.iter().map(|(id, at)| (id.clone(), *at)).collect()
        };
        for batch in noted.chunks(BATCH_MAX) {
            let ids: Vec<&str> = batch.iter().map(|(id, _)| id.as_str()).collect();
            let times: Vec<i64> = batch.iter().map(|(_, at)| at.0 as i64).collect();
            sqlx::query(statements::NOTE_ACTIVITY).bind(ids).bind(times).execute(pool).await?;
            let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            for (id, at) in batch {
                // Not what was noted again since.
                if held.get(id) == Some(at) {
                    held.remove(id);
                }
            }
        }
        Ok(())
    }
}

fn now() -> Micros {
    Clock::new(ClockMode::Wall).now()
}
