//! The round over what accounts still owe: to the quota's records, and of erasures.

use super::{Accounts, AccountsError};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Between two rounds, and the longest after rounds in which something was left.
const ROUND_EVERY: Duration = Duration::from_secs(1);
const ROUND_EVERY_MAX: Duration = Duration::from_secs(30);

/// What was left by the last round.
#[derive(Clone, Default)]
pub(super) struct Owed {
    terms: Gauge,
    erasures: Gauge,
}

impl Owed {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "cellar_terms_due",
            "Users whose quota record has not taken over their tier or block yet, as of the last round",
            self.terms.clone(),
        );
        registry.register(
            "cellar_erasures_due",
            "Erased users of whom something is left in the quota's books or in the directory, as of the last round",
            self.erasures.clone(),
        );
    }
}

impl Accounts {
    /// Round after round, until cancelled.
    pub(super) async fn pay_what_is_due(&self, cancel: CancellationToken) {
        let mut pause = ROUND_EVERY;
        loop {
            let round = async {
                let terms = self.tell_terms_due().await?;
                self.0.owed.terms.set(terms as i64);
                let erasures = self.finish_erasures().await?;
                self.0.owed.erasures.set(erasures as i64);
                Ok::<_, AccountsError>(terms + erasures)
            };
            let left = tokio::select! {
                () = cancel.cancelled() => return,
                round = round => round,
            };
            if let Err(error) = &left {
                tracing::debug!(error = error as &dyn std::error::Error, "what accounts owe is looked at later");
            }
            let well = matches!(left, Ok(0));
            pause = if well { ROUND_EVERY } else { (pause * 2).min(ROUND_EVERY_MAX) };
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}
