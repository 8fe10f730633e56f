//! What there is: the directory's rows, the cells' rows, who is at which step, and what is on its way.

use cellar_directory::{Claim, ClaimState, EmailHash, HomeState, Intent, Op, PepperId, UserHome};
use cellar_model::{CellName, Epoch, UserId};

pub const CELLS: usize = 2;
pub const EMAILS: usize = 2;
pub const PEPPERS: usize = 2;
/// Rows of `claims`: one for each e-mail under each pepper.
pub const SLOTS: usize = EMAILS * PEPPERS;
pub const USERS: usize = 4;
pub const INTENTS: usize = 4;

/// A claim, in numbers. `op` counts only as equal or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Row {
    pub pepper: u8,
    pub email: u8,
    pub user: u8,
    pub cell: u8,
    pub intent: u8,
    pub held: bool,
    pub op: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Home {
    pub user: u8,
    pub cell: u8,
    /// None: ACTIVE.
    pub creating: Option<u8>,
}

/// What became of an intent in a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    Committed { user: u8, email: u8 },
    Refused,
}

/// A user's e-mail, and how the user came to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Present {
    pub email: u8,
    pub intent: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Due {
    pub pepper: u8,
    pub email: u8,
    pub user: u8,
    pub intent: u8,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cell {
    pub intents: [Option<Decision>; INTENTS],
    /// Whom it owns.
    pub users: [Option<Present>; USERS],
    pub releases: Vec<Due>,
}

/// A conditional write to one row of the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Write {
    CreateClaim(Row),
    ChangeClaim { read: u8, next: Row },
    RemoveClaim { slot: usize, read: u8 },
    CreateHome(Home),
    ChangeHome { met: Home, next: Home },
    Activate { user: u8, intent: u8 },
}

/// The row that a write decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    Claim(usize),
    Home(u8),
}

impl Write {
    pub fn key(&self) -> Key {
        match self {
            Write::CreateClaim(row) | Write::ChangeClaim { next: row, .. } => Key::Claim(row.slot()),
            Write::RemoveClaim { slot, .. } => Key::Claim(*slot),
            Write::CreateHome(home) | Write::ChangeHome { next: home, .. } => Key::Home(home.user),
            Write::Activate { user, .. } => Key::Home(*user),
        }
    }
}

/// The claims of a request's e-mail, under each pepper that its process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pair {
    pub first: Row,
    pub second: Option<Row>,
}

/// What a request is answered with once its claims are settled; a reaper answers nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Then {
    Done,
    /// A good answer, and then the old e-mail is released.
    Leaves(Due),
    No,
    /// Good if the intent is committed, by whatever claims.
    AsDecided,
    Nobody,
}

/// What comes after a claim has been brought to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Next {
    /// The claim under the other pepper.
    pub rest: Option<Row>,
    /// It is judged by the cell's rows, too; else held like the first one.
    pub looks: bool,
    pub then: Then,
}

impl Then {
    pub fn alone(self) -> Next {
        Next { rest: None, looks: true, then: self }
    }
}

/// The next thing a request or a reaper does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    Begin,
    /// Frees what the user has left, before anything else.
    ReleaseFirst,
    Claim,
    /// Under the next pepper, having this one.
    ClaimNext(Row),
    /// The first is another's: looks under the next.
    TakenFirst,
    /// Two claims that disagree, the second under the last pepper.
    Join(Row, Row),
    Follow(Row, Row),
    Open(Pair),
    /// Asks the intent of a home that is another's.
    Ask(Pair, Home),
    TakeOver(Pair, Home),
    Commit(Pair),
    /// Reads the cell's rows.
    Look(Row, Next),
    Refuse(Row, Next),
    ActivateThenHold(Row, Next),
    ActivateThenFree(Row, Next),
    ActivateThenLook(Row, Next),
    Hold(Row, Next),
    Free(Row, Next),
    /// Writes a claim that is missing under the next pepper.
    Fill(Row),
    /// The home of the user who has left the e-mail, then its claim, then the due itself.
    Release(Due),
    ReleaseLook(Due),
    ReleaseFree(Due, Row),
    ReleaseDone(Due),
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Task {
    pub step: Step,
    /// The step's write was sent and not answered: a serial read comes next.
    pub unanswered: bool,
    /// It releases before it claims.
    pub first: bool,
    /// The cell that claims have sent it to, and how often they did.
    pub sent_to: Option<u8>,
    pub sent: u8,
    /// Somebody was told of an account by its intent before it began.
    pub told: Option<bool>,
}

impl Task {
    pub fn at(step: Step) -> Self {
        Self { step, unanswered: false, first: false, sent_to: None, sent: 0, told: None }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// By `slot`.
    pub claims: [Option<Row>; SLOTS],
    pub homes: [Option<Home>; USERS],
    pub cells: [Cell; CELLS],
    /// The requests, then a reaper for each cell.
    pub tasks: Vec<Task>,
    /// Writes that were sent and may yet take effect.
    pub late: Vec<Write>,
    pub crashes: u8,
    pub unanswered: u8,
    /// Whom a sign-up's first good answer named.
    pub told: [Option<u8>; INTENTS],
    /// Who has changed their e-mail: their sign-up's key is worn out.
    pub changed: [bool; USERS],
    pub another_id: bool,
    /// Who was told of an account was refused it.
    pub denied: bool,
    /// An intent was committed where it had been refused, or the reverse.
    pub undone: bool,
    pub taken_over: bool,
    /// A claim has followed the last pepper's.
    pub joined: bool,
    pub arrived_late: bool,
}

impl State {
    pub fn apply(&mut self, write: Write) -> bool {
        match write {
            Write::CreateClaim(row) => {
                let claim = &mut self.claims[row.slot()];
                claim.is_none() && claim.replace(row).is_none()
            }
            Write::ChangeClaim { read, next } => {
                let claim = &mut self.claims[next.slot()];
                claim.is_some_and(|row| row.op == read) && claim.replace(next).is_some()
            }
            Write::RemoveClaim { slot, read } => {
                let claim = &mut self.claims[slot];
                claim.is_some_and(|row| row.op == read) && claim.take().is_some()
            }
            Write::CreateHome(home) => {
                let held = &mut self.homes[usize::from(home.user)];
                held.is_none() && held.replace(home).is_none()
            }
            Write::ChangeHome { met, next } => {
                let held = &mut self.homes[usize::from(next.user)];
                *held == Some(met) && held.replace(next).is_some()
            }
            Write::Activate { user, intent } => {
                let held = &mut self.homes[usize::from(user)];
                let Some(home) = held.as_mut().filter(|home| home.creating == Some(intent)) else { return false };
                home.creating = None;
                true
            }
        }
    }

    pub fn would_apply(&self, write: Write) -> bool {
        self.clone().apply(write)
    }

    /// A serial read decides every write to its row that is still on its way: none of them arrives after it.
    pub fn decide(&mut self, key: Key) {
        self.late.retain(|write| write.key() != key);
    }

    /// A number for `op` that nothing in sight has.
    pub fn fresh_op(&self) -> u8 {
        let mut highest = 0;
        self.clone().each_op(|op| highest = highest.max(*op));
        highest + 1
    }

    /// Numbers every `op` by where it first stands, and sorts what has no order: states that differ in nothing
    /// else are one.
    pub fn normalise(mut self) -> Self {
        self.late.sort();
        let mut names: Vec<u8> = Vec::new();
        self.each_op(|op| {
            let place = names.iter().position(|name| name == op).unwrap_or_else(|| {
                names.push(*op);
                names.len() - 1
            });
            *op = place as u8 + 1;
        });
        self
    }

    fn each_op(&mut self, mut visit: impl FnMut(&mut u8)) {
        for row in self.claims.iter_mut().flatten() {
            visit(&mut row.op);
        }
        for task in &mut self.tasks {
            match &mut task.step {
                Step::Open(pair) | Step::Ask(pair, _) | Step::TakeOver(pair, _) | Step::Commit(pair) => {
                    visit(&mut pair.first.op);
                    pair.second.iter_mut().for_each(|row| visit(&mut row.op));
                }
                Step::Look(row, next)
                | Step::Refuse(row, next)
                | Step::ActivateThenHold(row, next)
                | Step::ActivateThenFree(row, next)
                | Step::ActivateThenLook(row, next)
                | Step::Hold(row, next)
                | Step::Free(row, next) => {
                    visit(&mut row.op);
                    next.rest.iter_mut().for_each(|row| visit(&mut row.op));
                }
                Step::Join(first, last) | Step::Follow(first, last) => {
                    visit(&mut first.op);
                    visit(&mut last.op);
                }
                Step::ClaimNext(row) | Step::ReleaseFree(_, row) => visit(&mut row.op),
                Step::Begin
                | Step::ReleaseFirst
                | Step::Claim
                | Step::TakenFirst
                // Its op is drawn as it is written.
                | Step::Fill(_)
                | Step::Release(_)
                | Step::ReleaseLook(_)
                | Step::ReleaseDone(_)
                | Step::End => {}
            }
        }
        for write in &mut self.late {
            match write {
                Write::CreateClaim(row) => visit(&mut row.op),
                Write::ChangeClaim { read, next } => {
                    visit(read);
                    visit(&mut next.op);
                }
                Write::RemoveClaim { read, .. } => visit(read),
                Write::CreateHome(_) | Write::ChangeHome { .. } | Write::Activate { .. } => {}
            }
        }
    }
}

// The same in the words of the directory, for its rules.

pub fn user(n: u8) -> UserId {
    UserId::new(["u0", "u1", "u2", "u3"][usize::from(n)]).unwrap()
}

pub fn cell(n: u8) -> CellName {
    CellName::new(["c0", "c1"][usize::from(n)]).unwrap()
}

pub fn intent(n: u8) -> Intent {
    Intent::new(["a0", "a1", "a2", "a3"][usize::from(n)]).unwrap()
}

pub fn pepper(n: u8) -> PepperId {
    PepperId([n; 4])
}

pub fn email(under: u8, n: u8) -> EmailHash {
    EmailHash { pepper: pepper(under), hash: [n; 32] }
}

pub fn slot(pepper: u8, email: u8) -> usize {
    usize::from(pepper) * EMAILS + usize::from(email)
}

impl Row {
    pub fn slot(&self) -> usize {
        slot(self.pepper, self.email)
    }

    pub fn claim(&self) -> Claim {
        Claim {
            email: email(self.pepper, self.email),
            user: user(self.user),
            cell: cell(self.cell),
            intent: intent(self.intent),
            state: if self.held { ClaimState::Held } else { ClaimState::Creating },
            op: Op::new(&format!("{:x}", self.op)).unwrap(),
        }
    }
}

impl Home {
    pub fn row(&self) -> UserHome {
        UserHome {
            user: user(self.user),
            home: cell(self.cell),
            epoch: Epoch(1),
            state: match self.creating {
                Some(by) => HomeState::Creating { intent: intent(by) },
                None => HomeState::Active,
            },
        }
    }
}
