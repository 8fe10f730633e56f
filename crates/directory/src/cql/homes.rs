//! `user_home` in CQL.

use super::classify::Ask;
use super::columns::Columns;
use super::{CqlDirectory, statements::*};
use crate::traced::{CQL, traced};
use crate::{DirectoryError, HomeCursor, HomePage, HomeState, Homes, Intent, MoveId, UserHome, Written};
use cellar_model::{CellName, Epoch, UserId};

const WHAT: &str = "home";
const WHOLE: [&str; 6] = ["user_id", "home", "epoch", "state", "move_id", "target"];

fn home(mut row: Columns) -> Result<UserHome, DirectoryError> {
    let corrupt = |cause: String| DirectoryError::corrupt(WHAT, cause);
    let name = |name: &str| CellName::new(name).map_err(|e| corrupt(e.to_string()));
    let (move_id, target) = (row.text("move_id")?, row.text("target")?);
    let state = match row.text("state")?.as_str() {
        "CREATING" => HomeState::Creating { intent: Intent::new(&move_id).map_err(|e| corrupt(e.to_string()))? },
        "ACTIVE" => HomeState::Active,
        "MOVING" => HomeState::Moving {
            move_id: MoveId::new(&move_id).map_err(|e| corrupt(e.to_string()))?,
            target: name(&target)?,
        },
        "ERASED" => HomeState::Erased,
        state => return Err(corrupt(format!("state {state}"))),
    };
    Ok(UserHome {
        user: UserId::new(&row.text("user_id")?).map_err(|e| corrupt(e.to_string()))?,
        home: name(&row.text("home")?)?,
        epoch: Epoch::from_i64(row.bigint("epoch")?),
        state,
    })
}

/// State, move_id and target as columns; what is absent is empty, never null.
fn columns(state: &HomeState) -> (&'static str, &str, &str) {
    match state {
        HomeState::Creating { intent } => ("CREATING", intent.as_str(), ""),
        HomeState::Active => ("ACTIVE", "", ""),
        HomeState::Moving { move_id, target } => ("MOVING", move_id.as_str(), target.as_str()),
        HomeState::Erased => ("ERASED", "", ""),
    }
}

impl CqlDirectory {
    async fn home(&self, ask: Ask, user: &UserId) -> Result<Option<UserHome>, DirectoryError> {
        self.optional(ask, WHAT, READ_HOME, (user.as_str(),)).await?.map(home).transpose()
    }
}

impl Homes for CqlDirectory {
    async fn read_home(&self, user: &UserId) -> Result<Option<UserHome>, DirectoryError> {
        traced(CQL, self.home(Ask::Read, user)).await
    }

    async fn read_home_serially(&self, user: &UserId) -> Result<Option<UserHome>, DirectoryError> {
        traced(CQL, self.home(Ask::SerialRead, user)).await
    }

    async fn create_home(&self, next: &UserHome) -> Result<Written<UserHome>, DirectoryError> {
        let (state, move_id, target) = columns(&next.state);
        let placement = next.user.placement_key();
        let (user, place, epoch) = (next.user.as_str(), next.home.as_str(), next.epoch.as_i64());
        let values = (user, placement.as_str(), place, epoch, state, move_id, target);
        let decided = self.decide(WHAT, CREATE_HOME, values).await?;
        decided.meeting(&WHOLE, home, self.read_home_serially(&next.user)).await
    }

    async fn activate_home(&self, user: &UserId, intent: &Intent) -> Result<Written<UserHome>, DirectoryError> {
        let decided = self.decide(WHAT, ACTIVATE_HOME, (user.as_str(), intent.as_str())).await?;
        decided.meeting(&WHOLE, home, self.read_home_serially(user)).await
    }

    async fn change_home(&self, met: &UserHome, next: &UserHome) -> Result<Written<UserHome>, DirectoryError> {
        let (met_state, met_move, _) = columns(&met.state);
        let (state, move_id, target) = columns(&next.state);
        let values = (
            next.home.as_str(),
            next.epoch.as_i64(),
            state,
            move_id,
            target,
            met.user.as_str(),
            met.home.as_str(),
            met.epoch.as_i64(),
            met_state,
            met_move,
        );
        let decided = self.decide(WHAT, CHANGE_HOME, values).await?;
        decided.meeting(&WHOLE, home, self.read_home_serially(&met.user)).await
    }

    async fn erase_home(
        &self,
        user: &UserId,
        place: &CellName,
        epoch: Epoch,
    ) -> Result<Written<UserHome>, DirectoryError> {
        let values = (epoch.as_i64() + 1, user.as_str(), place.as_str(), epoch.as_i64());
        let decided = self.decide(WHAT, ERASE_HOME, values).await?;
        decided.meeting(&WHOLE, home, self.read_home_serially(user)).await
    }

    async fn homes(&self, from: Option<&HomeCursor>, homes_max: u32) -> Result<HomePage, DirectoryError> {
        let from = from.map(|cursor| cursor.0.as_str());
        let (rows, next) = self.page(WHAT, PAGE_HOMES, (), from, homes_max).await?;
        let homes = rows.into_iter().map(home).collect::<Result<_, _>>()?;
        Ok(HomePage { homes, next: next.map(HomeCursor) })
    }
}
