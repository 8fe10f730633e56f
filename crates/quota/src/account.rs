//! What a cell's accounts tell the engine: another tier, a block, the end of a user.

use crate::engine::Quota;
use crate::error::QuotaError;
use cellar_model::wire::LedgerRow;
use cellar_model::{AccountTerms, Check, Cost, DeadlineMs, Operation, Refusal, UserId, Verdict};
use std::time::Duration;
use tokio::time::Instant;

/// What became of it.
#[derive(Debug)]
pub enum Told {
    /// In force for every check that is sent from now on.
    Done,
    /// The user's shard is another process's, or the user is not this cell's.
    Elsewhere,
    /// Unknown, or not yet: tell it again.
    Again,
}

/// For a commit to reach the ledger.
const DRAINED_MAX: Duration = Duration::from_secs(5);

impl Quota {
    /// Has the user's record take over what the account's row says. Safe to repeat with the row as it is by then.
    pub async fn adopt(&self, user: &UserId, terms: AccountTerms, deadline: DeadlineMs) -> Told {
        match self.one(user, Operation::Adopt(Box::new(terms)), deadline).await {
            Verdict::Admitted { .. } | Verdict::Seen { .. } => Told::Done,
            Verdict::Refused(Refusal::Elsewhere { .. } | Refusal::OtherInstance { .. }) => Told::Elsewhere,
            _ => Told::Again,
        }
    }

    /// What is left of the user's quota, without spending.
    pub async fn peek(&self, user: &UserId, deadline: DeadlineMs) -> Verdict {
        self.one(user, Operation::Peek, deadline).await
    }

    /// Ends the record of a user whose row is ERASED already, and puts what the books have of them under
    /// `anonymous`, which has to be the same at every repeat.
    ///
    /// A charge that an earlier fence owes, and that waits in the table `late`, stays there under the user's id.
    ///
    /// # Errors
    /// When the cell's Postgres cannot be asked: part of it may be done.
    pub async fn erase(&self, user: &UserId, anonymous: &UserId, deadline: DeadlineMs) -> Result<Told, QuotaError> {
        match self.one(user, Operation::Erase, deadline).await {
            Verdict::Admitted { answer, .. } | Verdict::Seen { answer, .. } => {
                let until = Instant::now() + DRAINED_MAX;
                if !self.person().drained(user, anonymous, answer.version, until).await? {
                    return Ok(Told::Again);
                }
            }
            // Neither memory nor Redis has the record, and Postgres shows an erased user to nobody. What was
            // committed is in the ledger: a record leaves Redis after its drain, or by a turn, which drains.
            Verdict::Refused(Refusal::Elsewhere { home: None, .. }) => {}
            Verdict::Refused(Refusal::Elsewhere { .. } | Refusal::OtherInstance { .. }) => return Ok(Told::Elsewhere),
            _ => return Ok(Told::Again),
        }
        self.person().rename(user, anonymous).await?;
        Ok(Told::Done)
    }

    /// The rows of the ledger that are a person's, after one of them, oldest first; and whether there may be more.
    ///
    /// # Errors
    /// When the cell's Postgres cannot be asked.
    pub async fn ledger_of(
        &self,
        user: &UserId,
        after: Option<&LedgerRow>,
    ) -> Result<(Vec<LedgerRow>, bool), QuotaError> {
        self.person().rows(user, after).await
    }

    async fn one(&self, user: &UserId, operation: Operation, deadline: DeadlineMs) -> Verdict {
        let check = Check {
            user: user.clone(),
            operation,
            cost: Cost::one_request(),
            attributes: Vec::new(),
            key: None,
            at: None,
            deadline,
            session: None,
            origin: None,
        };
        // One check, one verdict.
        self.decide(vec![check]).await.pop().unwrap_or(Verdict::try_again(cellar_model::TryAgain::Unknown))
    }
}
