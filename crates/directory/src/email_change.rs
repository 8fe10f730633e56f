//! The change of a user's e-mail, as the user's cell runs it: claim the new one, (the cell's own transaction,
//! which also writes down that the old one is to be released,) hold the new claim, release the old.
//!
//! Between the transaction and the release both addresses are the user's: one too many for a moment, never
//! one too few, and never somebody else's.

use crate::claim_steps::{Claimed, Placed, Wanted};
use crate::{Claim, Claims, DirectoryError, EmailHash, Intent};
use cellar_model::{CellName, UserId};

/// Whose e-mail is to become which.
#[derive(Clone, Debug)]
pub struct EmailChange {
    pub user: UserId,
    /// The user's home, which runs this.
    pub cell: CellName,
    /// Of this user's changes only: a sign-up's never equals it.
    pub intent: Intent,
    /// Under each pepper, in the order of its file.
    pub emails: Vec<EmailHash>,
}

impl EmailChange {
    /// Claims the new e-mail, or finds the claims that an earlier attempt made; `begun` hears of them.
    pub async fn claim(
        &self,
        directory: &impl Claims,
        mut begun: impl FnMut(&Claim) + Send,
    ) -> Result<Claimed, DirectoryError> {
        let wanted = Wanted { user: &self.user, cell: &self.cell, intent: &self.intent };
        wanted.claim(&self.emails, directory, &mut begun).await
    }

    /// After the cell's transaction. The home has been ACTIVE all along, or is made so with the release.
    pub async fn hold(placed: &Placed, directory: &impl Claims) -> Result<(), DirectoryError> {
        placed.hold(directory).await
    }
}
