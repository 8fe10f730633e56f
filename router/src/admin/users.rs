//! Where a user is, by everything a router can ask.

use super::failed;
use crate::app::Shared;
use crate::forward::try_again;
use axum::Json;
use axum::extract::{Path, State};
use cellar_directory::{HomeState, Homes};
use cellar_model::{CellName, Epoch, TryAgain, UserId};
use cellar_server::HttpProblem;
use serde::Serialize;

#[derive(Serialize)]
pub(super) struct Whereabouts {
    user_id: UserId,
    /// Where the ring places the id.
    ring_cell: CellName,
    /// Where this router sends them, if not there.
    exception: Option<Home>,
    /// What the directory says; absent if it knows no such user.
    directory: Option<DirectoryHome>,
}

#[derive(Serialize)]
struct Home {
    home: CellName,
    epoch: Epoch,
}

#[derive(Serialize)]
struct DirectoryHome {
    home: CellName,
    epoch: Epoch,
    state: &'static str,
}

/// `GET /admin/v1/users/{id}`
pub(super) async fn whereabouts(
    State(app): State<Shared>,
    Path(user): Path<UserId>,
) -> Result<Json<Whereabouts>, HttpProblem> {
    let world = app.world().ok_or_else(|| try_again(TryAgain::NotReady))?;
    let row = app.directory.read_home(&user).await.map_err(|error| failed(&error))?;
    Ok(Json(Whereabouts {
        ring_cell: world.ring_cell(&user).clone(),
        exception: app.exceptions.get(&user).map(|(home, epoch)| Home { home, epoch }),
        directory: row.map(|row| DirectoryHome { home: row.home, epoch: row.epoch, state: word(&row.state) }),
        user_id: user,
    }))
}

fn word(state: &HomeState) -> &'static str {
    match state {
        HomeState::Creating { .. } => "creating",
        HomeState::Active => "active",
        HomeState::Moving { .. } => "moving",
        HomeState::Erased => "erased",
    }
}
