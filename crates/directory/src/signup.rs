//! Sign-up, as the cell runs it: claim the e-mail, open the home, (the cell's own transaction,)
//! confirm both.
//!
//! Every step may be repeated by the same intent, by another process, at any time. A step that was
//! not answered is followed by a serial read, and repeated only while that shows nothing else.

use crate::claim_steps::{self, Claimed, Placed, Wanted};
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
    /// Under each pepper, in the order of its file.
    pub emails: Vec<EmailHash>,
}

impl SignUp {
    /// Claims the e-mail, or finds the claims that earlier attempts made. `begun` hears of each that this cell is
    /// to commit, as soon as it stands.
    pub async fn claim(
        &self,
        directory: &impl Claims,
        mut begun: impl FnMut(&Claim) + Send,
    ) -> Result<Claimed, DirectoryError> {
        let wanted = Wanted { user: &self.user, cell: &self.cell, intent: &self.intent };
        wanted.claim(&self.emails, directory, &mut begun).await
    }
}

impl Placed {
    /// The home that is to be opened for the claims' user.
    pub fn opening(&self) -> Opening {
        let Claim { user, cell, intent, .. } = self.claims()[0].clone();
        Opening { user, cell, intent }
    }

    /// After the cell's transaction: the home becomes ACTIVE, the claims held.
    pub async fn confirm(self, directory: &impl Directory) -> Result<(), DirectoryError> {
        claim_steps::activate(directory, self.user(), self.intent()).await?;
        self.hold(directory).await
    }
}
