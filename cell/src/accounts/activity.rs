//! When a session was last active: noted in memory, written behind in batches.
//!
//! A session that is not used for long is over, so that what is written has to be true enough: ages are taken on a
//! clock that only goes forward and become times by Postgres's clock alone, which also judges them. Whatever is lost
//! or late on the way is less than `SLACK`, by which the judgement is put off.

use super::statements;
use cellar_model::SessionId;
use sqlx::PgPool;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Notes of one session are at least this far apart.
const COALESCE: Duration = Duration::from_secs(60);
/// How far `last_active` in Postgres may be behind: what the API states as its precision.
const WRITE_EVERY: Duration = Duration::from_secs(300);
/// After a write that failed.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// What a process that is killed may not have written, twice: how much later than said an unused session is over.
pub(super) const SLACK: Duration = Duration::from_secs(600);
/// Sessions noted between two writes. Above it, notes of further sessions are dropped.
const NOTED_MAX: usize = 200_000;
/// From so many on they are written at once, so that notes are dropped only while Postgres takes none.
const WRITE_AT: usize = 100_000;
/// Sessions a statement writes.
const BATCH_MAX: usize = 1_000;

#[derive(Default)]
pub(super) struct Activity {
    noted: Mutex<HashMap<SessionId, Instant>>,
    many: Notify,
}

impl Activity {
    pub(super) fn note(&self, session: &SessionId) {
        let now = Instant::now();
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = noted.get_mut(session) {
            if now.duration_since(*last) >= COALESCE {
                *last = now;
            }
        } else if noted.len() < NOTED_MAX {
            noted.insert(session.clone(), now);
            if noted.len() == WRITE_AT {
                self.many.notify_one();
            }
        }
    }

    /// How long ago, if it is noted and not written yet.
    pub(super) fn age(&self, session: &SessionId) -> Option<Duration> {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        noted.get(session).map(Instant::elapsed)
    }

    pub(super) async fn run(&self, pool: &PgPool, cancel: CancellationToken) {
        let mut wait = WRITE_EVERY;
        loop {
            let cancelled = tokio::select! {
                () = tokio::time::sleep(wait) => false,
                () = self.many.notified() => false,
                () = cancel.cancelled() => true,
            };
            wait = WRITE_EVERY;
            if let Err(error) = self.write(pool).await {
                tracing::warn!(error = &error as &dyn std::error::Error, "activity was not written");
                wait = RETRY_AFTER;
            }
            if cancelled {
                return;
            }
        }
    }

    /// Writes what was noted. After a failure the rest stays noted.
    pub(super) async fn write(&self, pool: &PgPool) -> Result<(), sqlx::Error> {
        let noted: Vec<(SessionId, Instant)> = {
            let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
            noted.iter().map(|(id, at)| (id.clone(), *at)).collect()
        };
        for batch in noted.chunks(BATCH_MAX) {
            let ids: Vec<&str> = batch.iter().map(|(id, _)| id.as_str()).collect();
            let ages_s: Vec<f64> = batch.iter().map(|(_, at)| at.elapsed().as_secs_f64()).collect();
            sqlx::query(statements::NOTE_ACTIVITY).bind(ids).bind(ages_s).execute(pool).await?;
            let mut held = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
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
