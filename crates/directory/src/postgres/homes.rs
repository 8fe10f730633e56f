//! `user_home` in Postgres.

use super::{PostgresDirectory, statements::*};
use crate::traced::{POSTGRES, traced};
use crate::{DirectoryError, HomeCursor, HomePage, HomeState, Homes, Intent, MoveId, PAGE_MAX, UserHome, Written};
use cellar_model::{CellName, Epoch, UserId};

#[derive(sqlx::FromRow)]
struct HomeRow {
    user_id: String,
    home: String,
    epoch: i64,
    state: String,
    move_id: Option<String>,
    target: Option<String>,
}

impl HomeRow {
    fn read(self) -> Result<UserHome, DirectoryError> {
        let corrupt = |cause: String| DirectoryError::corrupt("home", cause);
        let name = |name: &str| CellName::new(name).map_err(|e| corrupt(e.to_string()));
        let state = match (self.state.as_str(), &self.move_id, &self.target) {
            ("CREATING", Some(intent), _) => {
                HomeState::Creating { intent: Intent::new(intent).map_err(|e| corrupt(e.to_string()))? }
            }
            ("ACTIVE", _, _) => HomeState::Active,
            ("MOVING", Some(move_id), Some(target)) => HomeState::Moving {
                move_id: MoveId::new(move_id).map_err(|e| corrupt(e.to_string()))?,
                target: name(target)?,
            },
            ("ERASED", _, _) => HomeState::Erased,
            (state, _, _) => return Err(corrupt(format!("state {state}"))),
        };
        Ok(UserHome {
            user: UserId::new(&self.user_id).map_err(|e| corrupt(e.to_string()))?,
            home: name(&self.home)?,
            epoch: Epoch::from_i64(self.epoch),
            state,
        })
    }
}

/// State, move_id and target as columns.
fn columns(state: &HomeState) -> (&'static str, Option<&str>, Option<&str>) {
    match state {
        HomeState::Creating { intent } => ("CREATING", Some(intent.as_str()), None),
        HomeState::Active => ("ACTIVE", None, None),
        HomeState::Moving { move_id, target } => ("MOVING", Some(move_id.as_str()), Some(target.as_str())),
        HomeState::Erased => ("ERASED", None, None),
    }
}

impl Homes for PostgresDirectory {
    async fn read_home(&self, user: &UserId) -> Result<Option<UserHome>, DirectoryError> {
        let query = sqlx::query_as::<_, HomeRow>(READ_HOME).bind(user.as_str());
        traced(POSTGRES, self.optional(query)).await?.map(HomeRow::read).transpose()
    }

    async fn read_home_serially(&self, user: &UserId) -> Result<Option<UserHome>, DirectoryError> {
        self.read_home(user).await
    }

    async fn create_home(&self, home: &UserHome) -> Result<Written<UserHome>, DirectoryError> {
        let (state, move_id, target) = columns(&home.state);
        let query = sqlx::query_as(CREATE_HOME)
            .bind(home.user.as_str())
            .bind(home.user.placement_key().as_str())
            .bind(home.home.as_str())
            .bind(home.epoch.as_i64())
            .bind(state)
            .bind(move_id)
            .bind(target);
        let decided = self.decide(query).await?;
        decided.meeting(self.read_home(&home.user)).await
    }

    async fn activate_home(&self, user: &UserId, intent: &Intent) -> Result<Written<UserHome>, DirectoryError> {
        let query = sqlx::query_as(ACTIVATE_HOME).bind(user.as_str()).bind(intent.as_str());
        let decided = self.decide(query).await?;
        decided.meeting(self.read_home(user)).await
    }

    async fn change_home(&self, met: &UserHome, next: &UserHome) -> Result<Written<UserHome>, DirectoryError> {
        let (met_state, met_move, _) = columns(&met.state);
        let (state, move_id, target) = columns(&next.state);
        let query = sqlx::query_as(CHANGE_HOME)
            .bind(met.user.as_str())
            .bind(met.home.as_str())
            .bind(met.epoch.as_i64())
            .bind(met_state)
            .bind(met_move)
            .bind(next.home.as_str())
            .bind(next.epoch.as_i64())
            .bind(state)
            .bind(move_id)
            .bind(target);
        let decided = self.decide(query).await?;
        decided.meeting(self.read_home(&met.user)).await
    }

    async fn erase_home(
        &self,
        user: &UserId,
        home: &CellName,
        epoch: Epoch,
    ) -> Result<Written<UserHome>, DirectoryError> {
        let query = sqlx::query_as(ERASE_HOME).bind(user.as_str()).bind(home.as_str()).bind(epoch.as_i64());
        let decided = self.decide(query).await?;
        decided.meeting(self.read_home(user)).await
    }

    async fn homes(&self, from: Option<&HomeCursor>, homes_max: u32) -> Result<HomePage, DirectoryError> {
        let limit = homes_max.clamp(1, PAGE_MAX);
        let query = sqlx::query_as::<_, HomeRow>(PAGE_HOMES)
            .bind(from.map_or("", |cursor| cursor.0.as_str()))
            .bind(i64::from(limit));
        let rows = self.all(query).await?;
        let full = rows.len() == limit as usize;
        let homes: Vec<UserHome> = rows.into_iter().map(HomeRow::read).collect::<Result<_, _>>()?;
        let last = homes.last().map(|home| home.user.as_str().to_owned());
        let next = last.filter(|_| full).map(HomeCursor);
        Ok(HomePage { homes, next })
    }
}
