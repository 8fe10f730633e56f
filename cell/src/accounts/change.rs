//! Changes of a user's rows, which go to their end whoever still waits for it.

use super::{Accounts, AccountsError};
use cellar_model::{ProblemType, UserId};
use std::future::Future;
use std::time::Instant;
use tracing::Instrument;

/// Runs `work` as a task of its own: a caller who goes away half way stops waiting, and nothing else.
/// Else a committed change might stand beside memories and a cache that know nothing of it.
pub(super) async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, AccountsError>> + Send + 'static,
) -> Result<T, AccountsError> {
    let task = tokio::spawn(work.in_current_span());
    // One that panicked is one that failed.
    task.await.unwrap_or_else(|_| Err(ProblemType::Internal.into()))
}

impl Accounts {
    /// Has `write` change rows of `user`, then forgets what was read of them before: both, to the end. While Postgres is
    /// known to be away nothing is begun, so that what is known of the user can still be shown.
    pub(super) async fn change<T: Send + 'static>(
        &self,
        user: &UserId,
        write: impl Future<Output = Result<T, AccountsError>> + Send + 'static,
    ) -> Result<T, AccountsError> {
        self.0.postgres.require()?;
        let (accounts, user) = (self.clone(), user.clone());
        to_the_end(async move {
            let written = write.await;
            // Whatever the end: a write without an answer may be there.
            accounts.changed(&user).await;
            written
        })
        .await
    }

    /// Has `revoke` done, and notes how long it took until it was in force.
    pub(super) async fn revoking<T>(
        &self,
        revoke: impl Future<Output = Result<T, AccountsError>>,
    ) -> Result<T, AccountsError> {
        let began = Instant::now();
        let revoked = revoke.await?;
        self.0.revocations.observe(began.elapsed().as_secs_f64());
        Ok(revoked)
    }
}
