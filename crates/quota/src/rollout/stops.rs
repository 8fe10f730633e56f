//! Stops, remembered in the cell's Postgres: a stopped candidate stays so in every process of the cell and
//! over their restarts, until the tier has another revision.

use super::RolloutWatch;
use crate::tiers::TierSet;
use sqlx::PgPool;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Between looks. One's own stop is in force at once; for so long others may go on.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(crate) const READ_STOPS: &str = "select tier, revision, reason from rollout_stops";
/// One row a tier: that of the latest revision that was stopped.
pub(crate) const WRITE_STOP: &str = "
    insert into rollout_stops (tier, revision, reason) values ($1, $2, $3)
    on conflict (tier) do update set revision = excluded.revision, reason = excluded.reason
    where rollout_stops.revision < excluded.revision";

pub(crate) struct Stops {
    pool: PgPool,
    tiers: watch::Receiver<Arc<TierSet>>,
    /// So that it is said once.
    failing: bool,
}

impl Stops {
    pub(crate) fn new(pool: PgPool, tiers: watch::Receiver<Arc<TierSet>>) -> Self {
        Self { pool, tiers, failing: false }
    }

    pub(crate) async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            // Once more at the end: the next life asks for what this one has stopped.
            self.look().await;
        }
    }

    /// Takes over what others have stopped, and tells them what this process has. Without Postgres each
    /// process stops by itself, and tells it later.
    pub(crate) async fn look(&mut self) {
        let set = self.tiers.borrow().clone();
        let watched: Vec<(&str, i64, &RolloutWatch)> = set
            .all()
            .filter_map(|tier| {
                let watch = &tier.candidate.as_ref()?.watch;
                Some((tier.document.name.as_str(), tier.revision.as_i64(), &**watch))
            })
            .collect();
        if watched.is_empty() {
            return;
        }
        match self.exchange(&watched).await {
            Ok(()) => self.failing = false,
            Err(error) if !std::mem::replace(&mut self.failing, true) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "what is stopped is not shared with the cell's other processes; trying again");
            }
            Err(_) => {}
        }
    }

    async fn exchange(&self, watched: &[(&str, i64, &RolloutWatch)]) -> Result<(), sqlx::Error> {
        let known: Vec<(String, i64, String)> = sqlx::query_as(READ_STOPS).fetch_all(&self.pool).await?;
        for (tier, revision, watch) in watched {
            let row = known.iter().find(|(name, of, _)| name == tier && of == revision);
            match (row, watch.stopped()) {
                (Some((_, _, reason)), None) => {
                    if watch.stop(reason) {
                        tracing::warn!(tier, revision, reason, "this cell has stopped the tier's candidate");
                    }
                }
                (None, Some(reason)) => {
                    sqlx::query(WRITE_STOP).bind(tier).bind(revision).bind(reason).execute(&self.pool).await?;
                }
                (Some(_), Some(_)) | (None, None) => {}
            }
        }
        Ok(())
    }
}
