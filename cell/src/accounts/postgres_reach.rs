//! Whether the cell's Postgres answers: found out beside the requests, so that none of them has to wait for it.

use super::AccountsError;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions, PgPool};
use std::future::Future;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// Between two questions.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// A Postgres that is silent for as long as callers of the standard path wait is away.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// Clones are not needed: there is one a process.
pub(super) struct PostgresReach {
    away: watch::Sender<bool>,
    suspected: Notify,
    gauge: Gauge,
}

impl PostgresReach {
    pub(super) fn new() -> Self {
        Self { away: watch::Sender::new(false), suspected: Notify::new(), gauge: Gauge::default() }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let help = "Whether accounts go on without the cell's Postgres, which does not answer";
        registry.register("cellar_accounts_postgres_away", help, self.gauge.clone());
    }

    pub(super) fn is_away(&self) -> bool {
        *self.away.borrow()
    }

    /// Refuses at once what needs Postgres while that is away.
    pub(super) fn require(&self) -> Result<(), AccountsError> {
        if self.is_away() { Err(AccountsError::PostgresAway) } else { Ok(()) }
    }

    /// Does `work`, unless Postgres is away, or is found to be meanwhile. Then `PostgresSilent` says that it may have
    /// been done.
    pub(super) async fn ask<T>(
        &self,
        work: impl Future<Output = Result<T, AccountsError>>,
    ) -> Result<T, AccountsError> {
        self.require()?;
        let mut away = self.away.subscribe();
        tokio::select! {
            biased;
            done = work => {
                if done.as_ref().is_err_and(AccountsError::is_postgres_away) {
                    self.suspected.notify_one();
                }
                done
            }
            Ok(_) = away.wait_for(|away| *away) => Err(AccountsError::PostgresSilent),
        }
    }

    /// When Postgres answers again, or is found away.
    pub(super) fn subscribe(&self) -> watch::Receiver<bool> {
        self.away.subscribe()
    }

    /// Asks, over a connection of its own, until cancelled.
    pub(super) async fn run(&self, pool: &PgPool, cancel: CancellationToken) {
        let mut connection = None;
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = self.suspected.notified() => {}
                () = tokio::time::sleep(ASK_EVERY) => {}
            }
            // One connection that broke says little.
            let asked = async { asked(&mut connection, pool).await || asked(&mut connection, pool).await };
            let answers = tokio::time::timeout(ANSWER_MAX, asked).await.unwrap_or(false);
            let changed = self.away.send_if_modified(|away| std::mem::replace(away, !answers) == answers);
            match (changed, answers) {
                (true, true) => tracing::info!("the cell's Postgres answers accounts again"),
                (true, false) => {
                    tracing::warn!("the cell's Postgres does not answer; accounts go on with what they have")
                }
                (false, _) => {}
            }
            self.gauge.set(i64::from(!answers));
        }
    }
}

/// Whether it was answered. The connection is kept only if so.
async fn asked(connection: &mut Option<PgConnection>, pool: &PgPool) -> bool {
    let asked = async {
        let mut asking = match connection.take() {
            Some(held) => held,
            None => pool.connect_options().connect().await?,
        };
        sqlx::query("select 1").execute(&mut asking).await?;
        Ok::<_, sqlx::Error>(asking)
    };
    match asked.await {
        Ok(asked) => *connection = Some(asked),
        Err(error) => {
            tracing::debug!(error = &error as &dyn std::error::Error, "the cell's Postgres was asked in vain");
        }
    }
    connection.is_some()
}
