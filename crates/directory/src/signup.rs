//! Sign-up, as the cell runs it: claim the e-mail, open the home, (the cell's own transaction,)
//! confirm both.
//!
//! Every step may be repeated by the same intent, by another process, at any time. A step that was
//! not answered is followed by a serial read, and repeated only while that shows nothing else.

use crate::{
    Claim, ClaimState, Claims, Directory, DirectoryError, EmailHash, HomeState, Homes, Intent, Op, UserHome, Written,
};
use cellar_model::{CellName, Epoch, UserId};

/// Attempts at one step. Each but the first follows an unanswered write, or a row that changed
/// between two looks at it; more than a few mean a directory that is not well.
const ATTEMPTS_MAX: u32 = 4;

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

/// Whose the e-mail is.
#[derive(Debug)]
pub enum Claimed {
    /// This intent's, and this cell is to commit it.
    Here(Placed),
    /// This intent's, by an earlier attempt at another cell: go there, with this user.
    Elsewhere { cell: CellName, user: UserId },
    /// Another's.
    EmailTaken,
}

/// A sign-up whose e-mail is claimed. User and cell are the claim's, not a later draw's.
#[derive(Clone, Debug)]
pub struct Placed {
    claim: Claim,
}

/// What the user's row says.
#[derive(Debug, PartialEq, Eq)]
pub enum Opened {
    /// CREATING by this intent: the cell may create the user.
    Creating { epoch: Epoch },
    /// Past CREATING, with its home here: the cell's own rows say whether by this intent.
    Settled { epoch: Epoch },
    /// Past CREATING, and moved since.
    Elsewhere { cell: CellName, epoch: Epoch },
    /// The id belongs to another sign-up, or to someone erased.
    UserTaken,
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
        for _ in 0..ATTEMPTS_MAX {
            let met = match directory.create_claim(&claim).await? {
                Written::Applied => return Ok(Claimed::Here(Placed { claim })),
                Written::Refused(met) => met,
                Written::Unknown(_) => directory.read_claim_serially(&self.email).await?,
            };
            if let Some(met) = met {
                return Ok(self.judge(met));
            }
        }
        Err(undecided("claim"))
    }

    fn judge(&self, met: Claim) -> Claimed {
        if met.intent != self.intent || met.state == ClaimState::Releasing {
            return Claimed::EmailTaken;
        }
        if met.cell != self.cell {
            return Claimed::Elsewhere { cell: met.cell, user: met.user };
        }
        Claimed::Here(Placed { claim: met })
    }
}

impl Placed {
    pub fn user(&self) -> &UserId {
        &self.claim.user
    }

    pub fn intent(&self) -> &Intent {
        &self.claim.intent
    }

    /// Opens the user's home here, or finds it opened.
    pub async fn open_home(&self, directory: &impl Homes) -> Result<Opened, DirectoryError> {
        let home = UserHome {
            user: self.claim.user.clone(),
            home: self.claim.cell.clone(),
            epoch: Epoch(1),
            state: HomeState::Creating { intent: self.claim.intent.clone() },
        };
        for _ in 0..ATTEMPTS_MAX {
            let met = match directory.create_home(&home).await? {
                Written::Applied => return Ok(Opened::Creating { epoch: home.epoch }),
                Written::Refused(met) => met,
                Written::Unknown(_) => directory.read_home_serially(&home.user).await?,
            };
            if let Some(met) = met {
                return Ok(self.judge(met));
            }
        }
        Err(undecided("home"))
    }

    fn judge(&self, met: UserHome) -> Opened {
        let epoch = met.epoch;
        match met.state {
            HomeState::Creating { intent } if intent != self.claim.intent => Opened::UserTaken,
            HomeState::Erased => Opened::UserTaken,
            _ if met.home != self.claim.cell => Opened::Elsewhere { cell: met.home, epoch },
            HomeState::Creating { .. } => Opened::Creating { epoch },
            HomeState::Active | HomeState::Moving { .. } => Opened::Settled { epoch },
        }
    }

    /// After the cell's transaction: the home becomes ACTIVE, the claim held.
    pub async fn confirm(self, directory: &impl Directory) -> Result<(), DirectoryError> {
        self.activate(directory).await?;
        self.hold(directory).await
    }

    async fn activate(&self, directory: &impl Homes) -> Result<(), DirectoryError> {
        let user = &self.claim.user;
        for _ in 0..ATTEMPTS_MAX {
            let met = match directory.activate_home(user, &self.claim.intent).await? {
                Written::Applied => return Ok(()),
                Written::Refused(met) => met,
                Written::Unknown(_) => directory.read_home_serially(user).await?,
            };
            // Past CREATING it was confirmed by an earlier attempt, whatever happened since.
            let creating = |home: &UserHome| matches!(home.state, HomeState::Creating { .. });
            if met.is_some_and(|home| !creating(&home)) {
                return Ok(());
            }
        }
        Err(undecided("home"))
    }

    async fn hold(self, directory: &impl Claims) -> Result<(), DirectoryError> {
        let mut met = self.claim.clone();
        for _ in 0..ATTEMPTS_MAX {
            // Another intent's claim, or a releasing one, means that this one was held and has been
            // given up since: nothing is left to do.
            if met.intent != self.claim.intent || met.state != ClaimState::Creating {
                return Ok(());
            }
            let held = Claim { state: ClaimState::Held, op: Op::random(), ..met.clone() };
            let now = match directory.change_claim(&met.op, &held).await? {
                Written::Applied => return Ok(()),
                Written::Refused(now) => now,
                Written::Unknown(_) => directory.read_claim_serially(&met.email).await?,
            };
            match now {
                Some(now) => met = now,
                None => return Ok(()),
            }
        }
        Err(undecided("claim"))
    }

    /// Frees the e-mail of a sign-up that this cell has durably refused, and of no other: afterwards
    /// no attempt of this intent can commit.
    pub async fn release(self, directory: &impl Claims) -> Result<(), DirectoryError> {
        let mut met = self.claim.clone();
        for _ in 0..ATTEMPTS_MAX {
            if met.intent != self.claim.intent || met.state == ClaimState::Held {
                return Ok(());
            }
            let now = match directory.remove_claim(&met.email, &met.op).await? {
                Written::Applied => return Ok(()),
                Written::Refused(now) => now,
                Written::Unknown(_) => directory.read_claim_serially(&met.email).await?,
            };
            match now {
                Some(now) => met = now,
                None => return Ok(()),
            }
        }
        Err(undecided("claim"))
    }
}

fn undecided(what: &'static str) -> DirectoryError {
    DirectoryError::Undecided { what, attempts: ATTEMPTS_MAX }
}
