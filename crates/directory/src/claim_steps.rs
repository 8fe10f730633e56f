//! The steps on a claim, each a conditional write to its end: answered, or decided by a serial read.

use crate::claim_rules::{self, After, Met, Release};
use crate::{Claim, ClaimState, Claims, Directory, DirectoryError, EmailHash, HomeState, Homes, Intent, Op, Written};
use cellar_model::{CellName, Epoch, UserId};

/// Attempts at one step. Each but the first follows an unanswered write, or a row that changed
/// between two looks at it; more than a few mean a directory that is not well.
pub(crate) const ATTEMPTS_MAX: u32 = 4;

/// Whose the e-mail is.
#[derive(Debug)]
pub enum Claimed {
    /// This intent's under every pepper, and this cell is to commit it.
    Here(Placed),
    /// This intent's, by an earlier attempt at another cell: go there, with this user.
    Elsewhere { cell: CellName, user: UserId },
    /// This intent's under both peppers, by attempts that did not know of each other. `claim_rules::join` says
    /// what follows; then the e-mail is claimed again.
    Split { earlier: Box<Claim>, last: Box<Claim> },
    /// Another's under one pepper; `ours` are this intent's claims here under others. They are settled, so that
    /// the intent is refused before they are freed, or found to be committed.
    EmailTaken { ours: Vec<Claim> },
}

/// An intent whose e-mail is claimed. User and cell are the claims', not a later draw's.
#[derive(Clone, Debug)]
pub struct Placed {
    /// Under each pepper, in the order of the file. **Invariant:** one or more, which name one user, cell and
    /// intent.
    claims: Vec<Claim>,
}

/// Who is to have an e-mail by which intent, at which cell.
pub(crate) struct Wanted<'w> {
    pub(crate) user: &'w UserId,
    pub(crate) cell: &'w CellName,
    pub(crate) intent: &'w Intent,
}

impl Wanted<'_> {
    /// Claims the e-mail under one pepper after the other, or finds the claims that earlier attempts made.
    /// `begun` hears of each that is this intent's here, as soon as it is.
    pub(crate) async fn claim(
        &self,
        emails: &[EmailHash],
        directory: &impl Claims,
        begun: &mut (impl FnMut(&Claim) + Send),
    ) -> Result<Claimed, DirectoryError> {
        let mut claims: Vec<Claim> = Vec::new();
        for (at, email) in emails.iter().enumerate() {
            let user = claims.first().map_or(self.user, |first| &first.user);
            let claim = Claim::creating(*email, user, self.cell, self.intent);
            let (met, standing) = claim_one(directory, claim).await?;
            match met {
                Met::Mine => begun(&standing),
                Met::Elsewhere => {}
                Met::Taken if claims.is_empty() => return self.taken_first(&emails[at + 1..], directory, begun).await,
                Met::Taken => return Ok(Claimed::EmailTaken { ours: claims }),
            }
            match claims.first() {
                Some(earlier) if met == Met::Elsewhere || earlier.user != standing.user => {
                    return Ok(Claimed::Split { earlier: Box::new(earlier.clone()), last: Box::new(standing) });
                }
                None if met == Met::Elsewhere => {
                    return Ok(Claimed::Elsewhere { cell: standing.cell, user: standing.user });
                }
                _ => claims.push(standing),
            }
        }
        Ok(Claimed::Here(Placed { claims }))
    }

    /// The first pepper's claim is another's. A process that does not ask for it may have committed this intent
    /// all the same.
    async fn taken_first(
        &self,
        others: &[EmailHash],
        directory: &impl Claims,
        begun: &mut (impl FnMut(&Claim) + Send),
    ) -> Result<Claimed, DirectoryError> {
        let mut ours = Vec::new();
        for email in others {
            let Some(met) = directory.read_claim_serially(email).await? else { continue };
            match claim_rules::meet(&met, self.intent, self.cell) {
                Met::Mine => {
                    begun(&met);
                    ours.push(met);
                }
                Met::Elsewhere => return Ok(Claimed::Elsewhere { cell: met.cell, user: met.user }),
                Met::Taken => {}
            }
        }
        Ok(Claimed::EmailTaken { ours })
    }
}

/// Writes `claim`, or finds the one that stands there.
async fn claim_one(directory: &impl Claims, claim: Claim) -> Result<(Met, Claim), DirectoryError> {
    for _ in 0..ATTEMPTS_MAX {
        let met = match directory.create_claim(&claim).await? {
            Written::Applied => return Ok((Met::Mine, claim)),
            Written::Refused(met) => met,
            Written::Unknown(_) => directory.read_claim_serially(&claim.email).await?,
        };
        if let Some(met) = met {
            return Ok((claim_rules::meet(&met, &claim.intent, &claim.cell), met));
        }
    }
    Err(undecided("claim"))
}

/// Claims an e-mail once more, under a pepper that is being brought in, for the user who has it.
pub async fn claim_again(
    directory: &impl Claims,
    email: EmailHash,
    user: &UserId,
    cell: &CellName,
    intent: &Intent,
) -> Result<(Met, Claim), DirectoryError> {
    claim_one(directory, Claim::creating(email, user, cell, intent)).await
}

impl Placed {
    pub fn user(&self) -> &UserId {
        &self.claims[0].user
    }

    pub fn intent(&self) -> &Intent {
        &self.claims[0].intent
    }

    /// As they were when they were read: before any row of the cell that they are judged by.
    pub fn claims(&self) -> &[Claim] {
        &self.claims
    }

    /// All of them become held.
    pub(crate) async fn hold(&self, directory: &impl Claims) -> Result<(), DirectoryError> {
        for claim in &self.claims {
            hold(directory, claim).await?;
        }
        Ok(())
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

/// The home of a user whom `cell` has erased, at the epoch at which it owned the user, is ERASED for good. May be
/// repeated at any time.
pub async fn erase(directory: &impl Homes, user: &UserId, cell: &CellName, epoch: Epoch) -> Result<(), DirectoryError> {
    for _ in 0..ATTEMPTS_MAX {
        let met = match directory.erase_home(user, cell, epoch).await? {
            Written::Applied => return Ok(()),
            Written::Refused(met) => met,
            Written::Unknown(_) => directory.read_home_serially(user).await?,
        };
        if met.is_none_or(|home| home.state == HomeState::Erased) {
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

/// The claim that was read names the user and the cell of another one by its intent, unless it has changed since.
pub async fn follow(directory: &impl Claims, read: &Claim, other: &Claim) -> Result<(), DirectoryError> {
    let next = Claim { user: other.user.clone(), cell: other.cell.clone(), op: Op::random(), ..read.clone() };
    change(directory, read, &next).await
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
