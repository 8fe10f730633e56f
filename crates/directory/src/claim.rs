//! Claims: who has which e-mail, without the e-mail.

use crate::{DirectoryError, EmailHash, Intent, Op, Written};
use cellar_model::{CellName, UserId};
use std::future::Future;

/// A user's hold on an e-mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    pub email: EmailHash,
    pub user: UserId,
    /// The cell that alone commits or refuses the intent, and later the user's home.
    pub cell: CellName,
    pub intent: Intent,
    pub state: ClaimState,
    /// Of the write that made the row what it is.
    pub op: Op,
}

impl Claim {
    /// A claim that is to be written. One `op` for all attempts at it: they are the same write.
    pub(crate) fn creating(email: EmailHash, user: &UserId, cell: &CellName, intent: &Intent) -> Self {
        let (user, cell, intent) = (user.clone(), cell.clone(), intent.clone());
        Self { email, user, cell, intent, state: ClaimState::Creating, op: Op::random() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimState {
    Creating,
    Held,
    Releasing,
}

/// A page of all claims, in an order that belongs to the store.
#[derive(Clone, Debug)]
pub struct ClaimPage {
    pub claims: Vec<Claim>,
    /// Where the next page begins; none after the last.
    pub next: Option<ClaimCursor>,
}

/// A place in the order of all claims. Only the store that gave it can read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimCursor(pub(crate) String);

/// The rows of `claims`. Every change names the `op` it read, and writes a fresh one.
pub trait Claims {
    /// May be stale: for log-in by e-mail.
    fn read_claim(&self, email: &EmailHash) -> impl Future<Output = Result<Option<Claim>, DirectoryError>> + Send;

    fn read_claim_serially(
        &self,
        email: &EmailHash,
    ) -> impl Future<Output = Result<Option<Claim>, DirectoryError>> + Send;

    /// Writes the row if nobody claims this e-mail.
    fn create_claim(&self, claim: &Claim) -> impl Future<Output = Result<Written<Claim>, DirectoryError>> + Send;

    /// Writes `next` over the claim of the same e-mail if its `op` is still `read`.
    fn change_claim(
        &self,
        read: &Op,
        next: &Claim,
    ) -> impl Future<Output = Result<Written<Claim>, DirectoryError>> + Send;

    /// Frees the e-mail if the claim's `op` is still `read`.
    fn remove_claim(
        &self,
        email: &EmailHash,
        read: &Op,
    ) -> impl Future<Output = Result<Written<Claim>, DirectoryError>> + Send;

    /// A page of all claims, at most `PAGE_MAX`. A claim that is there throughout is on exactly one page.
    fn claims(
        &self,
        from: Option<&ClaimCursor>,
        claims_max: u32,
    ) -> impl Future<Output = Result<ClaimPage, DirectoryError>> + Send;
}
