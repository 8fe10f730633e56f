//! Sign-up, as the cell runs it: claim the e-mail, open the home, (the cell's own transaction,)
//! confirm both.
//!
//! Every step may be repeated by the same intent, by another process, at any time. A step that was
//! not answered is followed by a serial read, and repeated only while that shows nothing else.

use crate::claim_rules::{self, Opened};
use crate::claim_steps::{self, ATTEMPTS_MAX, Claimed, Placed, undecided};
use crate::{Claim, ClaimState, Claims, Directory, DirectoryError, EmailHash, HomeState, Homes, Intent, Op};
use crate::{UserHome, Written};
use cellar_model::{CellName, Epoch, UserId};

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
        // One `op` for all attempts: they are the same write.
        let claim = Claim {
            email: self.email,
            user: self.user.clone(),
            cell: self.cell.clone(),
            intent: self.intent.clone(),
            state: ClaimState::Creating,
            op: Op::random(),
        };
        claim_steps::claim(directory, claim).await
    }
}

impl Placed {
    /// Opens the user's home here, or finds it opened.
    pub async fn open_home(&self, directory: &impl Homes) -> Result<Opened, DirectoryError> {
        let home = self.home();
        for _ in 0..ATTEMPTS_MAX {
            let met = match directory.create_home(&home).await? {
                Written::Applied => return Ok(Opened::Creating { epoch: home.epoch }),
                Written::Refused(met) => met,
                Written::Unknown(_) => directory.read_home_serially(&home.user).await?,
            };
            if let Some(met) = met {
                return Ok(claim_rules::open(met, &self.claim.intent, &self.claim.cell));
            }
        }
        Err(undecided("home"))
    }

    /// Takes over the CREATING row of an intent that its cell has refused for good: from then on no attempt
    /// of it creates the user.
    pub async fn take_over(&self, directory: &impl Homes, refused: &UserHome) -> Result<Opened, DirectoryError> {
        let home = self.home();
        for _ in 0..ATTEMPTS_MAX {
            let met = match directory.change_home(refused, &home).await? {
                Written::Applied => return Ok(Opened::Creating { epoch: home.epoch }),
                Written::Refused(met) => met,
                Written::Unknown(_) => directory.read_home_serially(&home.user).await?,
            };
            match met {
                Some(met) if met == *refused => {}
                Some(met) => return Ok(claim_rules::open(met, &self.claim.intent, &self.claim.cell)),
                // Rows of `user_home` are never deleted.
                None => break,
            }
        }
        Err(undecided("home"))
    }

    fn home(&self) -> UserHome {
        UserHome {
            user: self.claim.user.clone(),
            home: self.claim.cell.clone(),
            epoch: Epoch(1),
            state: HomeState::Creating { intent: self.claim.intent.clone() },
        }
    }

    /// After the cell's transaction: the home becomes ACTIVE, the claim held.
    pub async fn confirm(self, directory: &impl Directory) -> Result<(), DirectoryError> {
        claim_steps::activate(directory, &self.claim.user, &self.claim.intent).await?;
        claim_steps::hold(directory, &self.claim).await
    }
}
