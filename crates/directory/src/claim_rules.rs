//! What comes next for a claim, given the rows that were read. Pure functions: sign-up, the change of an
//! e-mail and the reaper call them, and so does the model of claims (`tests/models/claims`).

use crate::{Claim, ClaimState, EmailHash, HomeState, Intent, PepperId, UserHome};
use cellar_model::{CellName, Epoch, UserId};

/// Whose a claim is that stood where one's own was to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// This intent's, and this cell is to commit it. User and cell are the claim's, not a later draw's.
    Mine,
    /// This intent's, by an earlier attempt at another cell.
    Elsewhere,
    /// Another's.
    Taken,
}

pub fn meet(met: &Claim, intent: &Intent, cell: &CellName) -> Met {
    if met.intent != *intent || met.state == ClaimState::Releasing {
        return Met::Taken;
    }
    if met.cell == *cell { Met::Mine } else { Met::Elsewhere }
}

/// What follows for an intent whose claims of one e-mail, under two peppers, do not name the same user and cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    /// The earlier one is rewritten to name the later one's user, and both are this cell's to commit.
    Rewrite,
    /// This cell refuses the intent for good, and looks again.
    Refuse,
    /// The earlier one is passed on to the later one's user and cell, which is asked.
    PassOn,
    /// This cell has decided the intent, and its rows say all there is to say.
    Decided,
}

/// `earlier` names this cell, `last` stands under the last pepper and names another cell, or another user here.
///
/// The last decides, for it is the one that every process asks for once the pepper before it has gone. But a
/// process that has only the earlier pepper commits by that one alone: so a claim is taken from a cell only by
/// that cell, after it can commit it no more. Within a cell nothing is to be refused: as long as the intent is
/// open here, two claims of it can name two users only if the last was written by a process that asks for no other.
pub fn join(earlier: &Claim, last: &Claim, decided: Option<Decided>) -> Joined {
    match (decided, earlier.cell == last.cell) {
        (Some(Decided::Committed), _) | (Some(Decided::Refused), true) => Joined::Decided,
        (Some(Decided::Refused), false) => Joined::PassOn,
        (None, true) => Joined::Rewrite,
        (None, false) => Joined::Refuse,
    }
}

/// What a user's row says to the sign-up that wants to create the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// CREATING by this intent: the cell may create the user.
    Creating { epoch: Epoch },
    /// CREATING by another intent, whose cell alone knows what became of it.
    OfAnother(UserHome),
    /// Past CREATING, with its home here: the cell's own rows say whether by this intent.
    Settled { epoch: Epoch },
    /// Past CREATING, and moved since.
    Elsewhere { cell: CellName, epoch: Epoch },
    /// The id belongs to someone, or to someone erased.
    UserTaken,
}

pub fn open(met: UserHome, intent: &Intent, cell: &CellName) -> Opened {
    let epoch = met.epoch;
    match &met.state {
        HomeState::Creating { intent: by } if by != intent => Opened::OfAnother(met),
        HomeState::Erased => Opened::UserTaken,
        _ if met.home != *cell => Opened::Elsewhere { cell: met.home, epoch },
        HomeState::Creating { .. } => Opened::Creating { epoch },
        HomeState::Active | HomeState::Moving { .. } => Opened::Settled { epoch },
    }
}

/// What the cell that a claim names has in rows of its own, read in one moment *after* the claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellRows {
    /// What became of the claim's intent here. For good: neither ever becomes the other.
    pub decided: Option<Decided>,
    /// What this cell has of the claim's user.
    pub holding: Holding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decided {
    Committed,
    Refused,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holding {
    /// OWNED, with this e-mail at present, by this intent.
    Owned {
        email: EmailHash,
        intent: Intent,
    },
    /// FROZEN by a move: what is decided now might not travel with it.
    Frozen,
    Forward {
        home: CellName,
    },
    /// No row, or one of someone erased.
    Nobody,
}

/// What is to be done with a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Another cell's, under a pepper that is not known here, or held as it should be.
    Leave,
    /// A move is under way.
    Later,
    /// The user has moved: the claim is to name their home, which is then asked.
    PassOn(CellName),
    /// Refuse the intent in this cell for good, and look again. While it is open, an attempt may commit it.
    Refuse,
    /// It is the present e-mail of its user. The home first, then the claim: see `Free`.
    Hold,
    /// No attempt can commit it any more, and nobody has this e-mail by it.
    ///
    /// If the intent was committed, its user's home is made ACTIVE first: after the claim nobody would
    /// come by to do it.
    Free,
}

/// Whether a process of `cell` with the peppers `live` may settle this claim: without a claim's pepper nobody
/// can say whose e-mail it is for.
pub fn is_ours(claim: &Claim, cell: &CellName, live: &[PepperId]) -> bool {
    claim.cell == *cell && live.contains(&claim.email.pepper)
}

/// Settles a claim that a process of `cell` with the peppers `live` has found.
///
/// One that is held is freed if its user has another e-mail by now, or is gone: who left this one may have done
/// so in a process that had only the other pepper.
pub fn settle(claim: &Claim, cell: &CellName, live: &[PepperId], rows: &CellRows) -> Settlement {
    if !is_ours(claim, cell, live) {
        return Settlement::Leave;
    }
    if claim.state == ClaimState::Held {
        let known = matches!(rows.holding, Holding::Owned { .. } | Holding::Nobody);
        let left = known && rows.decided == Some(Decided::Committed) && !is_present(claim, &rows.holding);
        return if left { Settlement::Free } else { Settlement::Leave };
    }
    match &rows.holding {
        Holding::Frozen => return Settlement::Later,
        Holding::Forward { home } if rows.decided != Some(Decided::Refused) => {
            return Settlement::PassOn(home.clone());
        }
        _ => {}
    }
    match rows.decided {
        None => Settlement::Refuse,
        Some(_) if claim.state == ClaimState::Creating && is_present(claim, &rows.holding) => Settlement::Hold,
        Some(_) => Settlement::Free,
    }
}

/// Whether a claim is for its user's present e-mail.
///
/// The intent alone does not say so: a key sent again with another e-mail leaves a claim for that one, by the
/// same intent and for the same user. That the intent is compared too is what `cellctl directory audit` asks of
/// every held claim.
pub fn is_present(claim: &Claim, holding: &Holding) -> bool {
    matches!(holding, Holding::Owned { email, intent } if *email == claim.email && *intent == claim.intent)
}

/// What a change of a claim came to, by the row that stands there now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// Done, by this write or another, or nothing of this claim is left to do.
    Done,
    /// Nothing has been written: the same again.
    Repeat,
    /// A claim by the same intent, but not the one that was read. What the cell's rows said was said before
    /// it was written: they are to be read again.
    LookAgain,
}

/// `read`: the claim that was to be held or freed.
pub fn after_change(read: &Claim, now: Option<&Claim>) -> After {
    match now {
        Some(now) if now.op == read.op => After::Repeat,
        Some(now) if now.intent == read.intent && now.cell == read.cell && now.state == ClaimState::Creating => {
            After::LookAgain
        }
        _ => After::Done,
    }
}

/// An e-mail that its user has left: the claim is to go, in whatever state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    pub email: EmailHash,
    pub user: UserId,
    /// By which the user came to it.
    pub intent: Intent,
}

impl Release {
    /// Whether this claim is the one to go. Another intent's is somebody else's, or the same user's who has
    /// come back.
    pub fn is_of(&self, claim: &Claim) -> bool {
        claim.email == self.email && claim.intent == self.intent && claim.user == self.user
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Op;

    fn cell(name: &str) -> CellName {
        CellName::new(name).unwrap()
    }

    fn claim(state: ClaimState) -> Claim {
        Claim {
            email: email(1),
            user: UserId::new("ada").unwrap(),
            cell: cell("eu-1"),
            intent: Intent::new("a1").unwrap(),
            state,
            op: Op::random(),
        }
    }

    const LIVE: PepperId = PepperId([1; 4]);

    fn email(n: u8) -> EmailHash {
        EmailHash { pepper: LIVE, hash: [n; 32] }
    }

    fn owned(address: u8, intent: &str) -> Holding {
        Holding::Owned { email: email(address), intent: Intent::new(intent).unwrap() }
    }

    #[test]
    fn a_claim_is_settled_by_the_rows_of_the_cell_it_names() {
        use Decided::{Committed, Refused};
        let forward = || Holding::Forward { home: cell("eu-2") };
        let cases = [
            (None, Holding::Nobody, Settlement::Refuse),
            (None, owned(1, "b2"), Settlement::Refuse),
            (None, forward(), Settlement::PassOn(cell("eu-2"))),
            (Some(Refused), Holding::Nobody, Settlement::Free),
            (Some(Refused), forward(), Settlement::Free),
            (Some(Refused), Holding::Frozen, Settlement::Later),
            (Some(Committed), owned(1, "a1"), Settlement::Hold),
            (Some(Committed), owned(1, "b2"), Settlement::Free),
            (Some(Committed), owned(2, "a1"), Settlement::Free),
            (Some(Committed), Holding::Nobody, Settlement::Free),
            (Some(Committed), Holding::Frozen, Settlement::Later),
        ];
        let (here, there, live) = (cell("eu-1"), cell("eu-2"), [LIVE]);
        for (decided, holding, settlement) in cases {
            let rows = CellRows { decided, holding };
            let creating = claim(ClaimState::Creating);
            assert_eq!(settle(&creating, &here, &live, &rows), settlement, "{rows:?}");
            assert_eq!(settle(&creating, &there, &live, &rows), Settlement::Leave);
            assert_eq!(settle(&creating, &here, &[PepperId([2; 4])], &rows), Settlement::Leave);
            // One that is held goes only if it was committed here, and left.
            let left = rows.decided == Some(Committed) && settlement == Settlement::Free;
            let freed = if left { Settlement::Free } else { Settlement::Leave };
            assert_eq!(settle(&claim(ClaimState::Held), &here, &live, &rows), freed, "{rows:?}");
        }
    }

    #[test]
    fn claims_that_disagree_are_joined_by_the_cell_that_the_earlier_one_names() {
        use Decided::{Committed, Refused};
        let earlier = claim(ClaimState::Creating);
        let other_user = Claim { user: UserId::new("bob").unwrap(), ..earlier.clone() };
        let other_cell = Claim { cell: cell("eu-2"), ..other_user.clone() };
        let cases = [
            (&other_user, None, Joined::Rewrite),
            (&other_user, Some(Refused), Joined::Decided),
            (&other_user, Some(Committed), Joined::Decided),
            (&other_cell, None, Joined::Refuse),
            (&other_cell, Some(Refused), Joined::PassOn),
            (&other_cell, Some(Committed), Joined::Decided),
        ];
        for (last, decided, joined) in cases {
            assert_eq!(join(&earlier, last, decided), joined, "{last:?} {decided:?}");
        }
    }

    #[test]
    fn a_change_of_a_claim_goes_on_only_with_the_one_that_was_read() {
        let read = claim(ClaimState::Creating);
        let again = Claim { op: Op::random(), ..read.clone() };
        assert_eq!(after_change(&read, None), After::Done);
        assert_eq!(after_change(&read, Some(&read)), After::Repeat);
        assert_eq!(after_change(&read, Some(&again)), After::LookAgain);
        assert_eq!(after_change(&read, Some(&Claim { state: ClaimState::Held, ..again.clone() })), After::Done);
        assert_eq!(after_change(&read, Some(&Claim { cell: cell("eu-2"), ..again })), After::Done);
    }
}
