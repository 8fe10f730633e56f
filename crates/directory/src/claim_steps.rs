//! The steps on a claim, each a conditional write to its end: answered, or decided by a serial read.

use crate::claim_rules::{self, After, Met, Release};
use crate::{Claim, ClaimState, Claims, Directory, DirectoryError, HomeState, Homes, Intent, Op, Written};
use cellar_model::{CellName, UserId};

/// Attempts at one step. Each but the first follows an unanswered write, or a row that changed
/// between two looks at it; more than a few mean a directory that is not well.
pub(crate) const ATTEMPTS_MAX: u32 = 4;

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

/// An intent whose e-mail is claimed. User and cell are the claim's, not a later draw's.
#[derive(Clone, Debug)]
pub struct Placed {
    pub(crate) claim: Claim,
}

/// Writes `claim`, or finds the one that an earlier attempt made.
pub(crate) async fn claim(directory: &impl Claims, claim: Claim) -> Result<Claimed, DirectoryError> {
    for _ in 0..ATTEMPTS_MAX {
        let met = match directory.create_claim(&claim).await? {
            Written::Applied => return Ok(Claimed::Here(Placed { claim })),
            Written::Refused(met) => met,
            Written::Unknown(_) => directory.read_claim_serially(&claim.email).await?,
        };
        let Some(met) = met else { continue };
        return Ok(match claim_rules::meet(&met, &claim.intent, &claim.cell) {
            Met::Mine => Claimed::Here(Placed { claim: met }),
            Met::Elsewhere => Claimed::Elsewhere { cell: met.cell, user: met.user },
            Met::Taken => Claimed::EmailTaken,
        });
    }
    Err(undecided("claim"))
}

impl Placed {
    pub fn user(&self) -> &UserId {
        &self.claim.user
    }

    pub fn intent(&self) -> &Intent {
        &self.claim.intent
    }

    /// As it was when it was read: before any row of the cell that it is judged by.
    pub fn claim(&self) -> &Claim {
        &self.claim
    }
}

/// The home of a user whom this intent has committed becomes ACTIVE.
pub async fn activate(directory: &impl Homes, user: &UserId, intent: &Intent) -> Result<(), DirectoryError> {
    for _ in 0..ATTEMPTS_MAX {
        let met = match directory.activate_home(user, intent).await? {
            Written::Applied => return Ok(()),
            Written::Refused(met) => met,
            Written::Unknown(_) => directory.read_home_serially(user).await?,
        };
        // Past CREATING it was confirmed by an earlier attempt, whatever happened since.
        let creating = |state: &HomeState| matches!(state, HomeState::Creating { intent: by } if by == intent);
        if met.is_none_or(|home| !creating(&home.state)) {
            return Ok(());
        }
    }
    Err(undecided("home"))
}

/// The claim that was read becomes held, and no other: whoever wrote another one did so after the cell's rows
/// were read.
pub async fn hold(directory: &impl Claims, read: &Claim) -> Result<(), DirectoryError> {
    let held = Claim { state: ClaimState::Held, op: Op::random(), ..read.clone() };
    change(directory, read, &held).await
}

/// The claim that was read names another cell, which is asked from now on.
pub async fn pass_on(directory: &impl Claims, read: &Claim, cell: CellName) -> Result<(), DirectoryError> {
    let passed = Claim { cell, op: Op::random(), ..read.clone() };
    change(directory, read, &passed).await
}

async fn change(directory: &impl Claims, read: &Claim, next: &Claim) -> Result<(), DirectoryError> {
    decide(directory, read, || directory.change_claim(&read.op, next)).await
}

/// The claim that was read goes, and no other.
pub async fn free(directory: &impl Claims, read: &Claim) -> Result<(), DirectoryError> {
    decide(directory, read, || directory.remove_claim(&read.email, &read.op)).await
}

/// Repeats `write`, which asks for the claim that was read, until it is known to be done, or another claim
/// stands there.
async fn decide<W>(directory: &impl Claims, read: &Claim, write: impl Fn() -> W) -> Result<(), DirectoryError>
where
    W: Future<Output = Result<Written<Claim>, DirectoryError>>,
{
    for _ in 0..ATTEMPTS_MAX {
        let now = match write().await? {
            Written::Applied => return Ok(()),
            Written::Refused(now) => now,
            Written::Unknown(_) => directory.read_claim_serially(&read.email).await?,
        };
        match claim_rules::after_change(read, now.as_ref()) {
            After::Done => return Ok(()),
            After::Repeat => {}
            After::LookAgain => break,
        }
    }
    Err(undecided("claim"))
}

impl Release {
    /// The left e-mail is anybody's again. May be repeated at any time, by anyone.
    pub async fn run(&self, directory: &impl Directory) -> Result<(), DirectoryError> {
        // Its sign-up may have stopped before this, and after the claim nobody would come by to do it.
        activate(directory, &self.user, &self.intent).await?;
        for _ in 0..ATTEMPTS_MAX {
            let met = directory.read_claim_serially(&self.email).await?;
            let Some(met) = met.filter(|met| self.is_of(met)) else { return Ok(()) };
            // Whatever became of it, the next look tells.
            let _ = directory.remove_claim(&met.email, &met.op).await?;
        }
        Err(undecided("claim"))
    }
}

pub(crate) fn undecided(what: &'static str) -> DirectoryError {
    DirectoryError::Undecided { what, attempts: ATTEMPTS_MAX }
}
