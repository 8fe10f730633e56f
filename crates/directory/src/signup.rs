//! Sign-up, as the cell runs it: claim the e-mail, open the home, (the cell's own transaction,)
//! confirm both.
//!
//! Every step may be repeated by the same intent, by another process, at any time. A step that was
//! not answered is followed by a serial read, and repeated only while that shows nothing else.

use crate::claim_steps::{self, Claimed, Placed};
use crate::{Claim, Claims, Directory, DirectoryError, EmailHash, Intent, Opening};
use cellar_model::{CellName, UserId};

/// Who is to be signed up where.
#[derive(Clone, Debug)]
pub struct SignUp {
    /// Drawn by the router so that its point falls on `cell`, or brought by the caller.
    pub user: UserId,
    /// The cell that runs this.
    pub cell: CellName,
    pub intent: Intent,
    pub email: EmailHash,
}

impl SignUp {
    /// Claims the e-mail, or finds the claim that an earlier attempt made.
    pub async fn claim(&self, directory: &impl Claims) -> Result<Claimed, DirectoryError> {
        claim_steps::claim(directory, Claim::creating(self.email, &self.user, &self.cell, &self.intent)).await
    }
}

impl Placed {
    /// The home that is to be opened for the claim's user.
    pub fn opening(&self) -> Opening {
        let Claim { user, cell, intent, .. } = self.claim.clone();
        Opening { user, cell, intent }
    }

    /// After the cell's transaction: the home becomes ACTIVE, the claim held.
    pub async fn confirm(self, directory: &impl Directory) -> Result<(), DirectoryError> {
        claim_steps::activate(directory, &self.claim.user, &self.claim.intent).await?;
        claim_steps::hold(directory, &self.claim).await
    }
}
