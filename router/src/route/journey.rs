//! A request's way from cell to cell until it meets its user.

use super::{Map, Routing};
use cellar_directory::{HomeState, UserHome};
use cellar_model::{CellName, Epoch, Refusal, TryAgain, UserId};

/// Times a request is sent on: one move under way takes one, a second at that very moment two.
const FOLLOWED_MAX: u32 = 3;

/// Where a request is to go now, and what it has been told so far.
///
/// **Invariant:** `epoch` only rises, and each step but the directory's one raises it: no loop.
#[derive(Debug)]
pub(crate) struct Journey {
    pub(crate) cell: CellName,
    epoch: Epoch,
    followed: u32,
    asked_directory: bool,
    by_exception: bool,
}

/// Why a request found nobody who serves its user. Someone must look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    SentOnTooOften,
    NoNewerHome,
    Disagreement,
    SignUp,
}

impl Lost {
    pub(crate) const ALL: [Lost; 4] = [Lost::SentOnTooOften, Lost::NoNewerHome, Lost::Disagreement, Lost::SignUp];

    /// The metric's label.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Lost::SentOnTooOften => "sent-on-too-often",
            Lost::NoNewerHome => "no-newer-home",
            Lost::Disagreement => "disagreement",
            Lost::SignUp => "sign-up",
        }
    }
}

/// Why the directory knows nobody of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Absence {
    NeverSeen,
    /// An id never begins again.
    Erased,
}

impl Absence {
    fn onward(self) -> Onward {
        match self {
            Absence::NeverSeen => Onward::Absent,
            Absence::Erased => Onward::Refuse(Refusal::UnknownUser),
        }
    }
}

/// What comes after an answer that was none.
#[derive(Debug, PartialEq)]
pub(crate) enum Onward {
    /// Ask `Journey::cell`, which is another than before, or knows more.
    Ask,
    /// Nobody has this name, and nobody had it: certain.
    Absent,
    Refuse(Refusal),
}

impl Routing {
    pub(crate) fn depart(&self, map: &Map, user: &UserId) -> Journey {
        let exception = self.exception(user);
        let by_exception = exception.is_some();
        let (cell, epoch) = exception.unwrap_or_else(|| (map.ring_owner(user).clone(), Epoch(0)));
        Journey { cell, epoch, followed: 0, asked_directory: false, by_exception }
    }

    /// The cell asked is not this user's home; it may have said whose it is.
    pub(crate) async fn elsewhere(
        &self,
        map: &Map,
        user: &UserId,
        journey: &mut Journey,
        told: Option<(CellName, Epoch)>,
    ) -> Onward {
        match told {
            Some((home, epoch)) if epoch > journey.epoch => self.follow(map, user, journey, home, epoch),
            _ => self.ask_directory(map, user, journey, None).await,
        }
    }

    /// The cell cannot be reached. Its users wait for it; those who have left it do not.
    pub(crate) async fn cell_down(&self, map: &Map, user: &UserId, journey: &mut Journey) -> Onward {
        self.ask_directory(map, user, journey, Some(TryAgain::CellDown)).await
    }

    fn follow(&self, map: &Map, user: &UserId, journey: &mut Journey, home: CellName, epoch: Epoch) -> Onward {
        self.learn(map, user, &home, epoch);
        if journey.followed == FOLLOWED_MAX {
            return self.lost(user, journey, Lost::SentOnTooOften);
        }
        self.metrics.followed.inc();
        journey.followed += 1;
        (journey.cell, journey.epoch) = (home, epoch);
        Onward::Ask
    }

    /// Reads the directory, once a journey. `down` is the answer if the cell asked is the home.
    async fn ask_directory(&self, map: &Map, user: &UserId, journey: &mut Journey, down: Option<TryAgain>) -> Onward {
        if down.is_none()
            && let Some(absence) = self.absence(user)
        {
            return absence.onward();
        }
        if std::mem::replace(&mut journey.asked_directory, true) {
            return match down {
                Some(reason) => try_again(reason),
                None => self.lost(user, journey, Lost::Disagreement),
            };
        }
        let row = match self.read_home(user).await {
            Ok(row) => row,
            Err(reason) => return try_again(down.unwrap_or(reason)),
        };
        let absence = match row {
            Some(row) if row.state != HomeState::Erased => return self.judge(map, user, journey, row, down),
            Some(_) => Absence::Erased,
            None => Absence::NeverSeen,
        };
        self.remember_absence(user, absence);
        absence.onward()
    }

    fn judge(&self, map: &Map, user: &UserId, journey: &mut Journey, row: UserHome, down: Option<TryAgain>) -> Onward {
        if row.home == journey.cell {
            if let Some(reason) = down {
                return try_again(reason);
            }
            // The cell said it has nobody of this name: the sign-up has not committed yet.
            if matches!(row.state, HomeState::Creating { .. }) {
                return Onward::Absent;
            }
        }
        if row.epoch > journey.epoch {
            return self.follow(map, user, journey, row.home, row.epoch);
        }
        match down {
            Some(reason) => try_again(reason),
            None => self.lost(user, journey, Lost::NoNewerHome),
        }
    }

    /// A user has no home that serves them. What this router remembered of them is forgotten, since it may
    /// be what is wrong: the next request begins at the ring.
    fn lost(&self, user: &UserId, journey: &Journey, why: Lost) -> Onward {
        if journey.by_exception {
            self.exceptions.forget(user);
            self.count_exceptions();
        }
        self.say_lost(user, &journey.cell, journey.epoch, why);
        try_again(TryAgain::Unknown)
    }

    /// Counts it, and says so in the log.
    pub(crate) fn say_lost(&self, user: &UserId, cell: &CellName, epoch: Epoch, why: Lost) {
        self.metrics.lost(why.label());
        tracing::error!(?user, %cell, %epoch, why = why.label(), "a user was not found at home");
    }
}

fn try_again(reason: TryAgain) -> Onward {
    Onward::Refuse(Refusal::TryAgain { reason })
}
