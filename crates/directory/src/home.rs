//! A user's home: the one row that decides which cell may serve them.

use crate::{DirectoryError, Intent, MoveId, Written};
use cellar_model::{CellName, Epoch, UserId};
use std::future::Future;

/// The most homes a page holds.
pub const PAGE_MAX: u32 = 1_000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserHome {
    pub user: UserId,
    pub home: CellName,
    pub epoch: Epoch,
    pub state: HomeState,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HomeState {
    /// The sign-up with this intent has not committed in its cell yet.
    Creating {
        intent: Intent,
    },
    Active,
    Moving {
        move_id: MoveId,
        target: CellName,
    },
    /// The row stays for good.
    Erased,
}

/// A page of all users' homes, in an order that belongs to the store.
#[derive(Clone, Debug)]
pub struct HomePage {
    pub homes: Vec<UserHome>,
    /// Where the next page begins; none after the last.
    pub next: Option<HomeCursor>,
}

/// A place in the order of all homes. Only the store that gave it can read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HomeCursor(pub(crate) String);

/// The rows of `user_home`.
pub trait Homes {
    /// May be stale, which routers do not mind: the cell decides.
    fn read_home(&self, user: &UserId) -> impl Future<Output = Result<Option<UserHome>, DirectoryError>> + Send;

    /// Sees every write applied before it: for whoever freezes, thaws, opens or owns.
    fn read_home_serially(
        &self,
        user: &UserId,
    ) -> impl Future<Output = Result<Option<UserHome>, DirectoryError>> + Send;

    /// Writes the row if the user has none.
    fn create_home(&self, home: &UserHome) -> impl Future<Output = Result<Written<UserHome>, DirectoryError>> + Send;

    /// CREATING by this intent becomes ACTIVE, under the same epoch.
    fn activate_home(
        &self,
        user: &UserId,
        intent: &Intent,
    ) -> impl Future<Output = Result<Written<UserHome>, DirectoryError>> + Send;

    /// Writes `next` if the row's home, epoch and state are still those of `met`.
    fn change_home(
        &self,
        met: &UserHome,
        next: &UserHome,
    ) -> impl Future<Output = Result<Written<UserHome>, DirectoryError>> + Send;

    /// ACTIVE or MOVING at this home and epoch becomes ERASED, an epoch later: it decides a move as
    /// an abort would.
    fn erase_home(
        &self,
        user: &UserId,
        home: &CellName,
        epoch: Epoch,
    ) -> impl Future<Output = Result<Written<UserHome>, DirectoryError>> + Send;

    /// A page of all homes, at most `PAGE_MAX`. A user who is there throughout is on exactly one page.
    fn homes(
        &self,
        from: Option<&HomeCursor>,
        homes_max: u32,
    ) -> impl Future<Output = Result<HomePage, DirectoryError>> + Send;
}
