//! Users brought from elsewhere: those a router has placed here; at a cell without a router, all of them. And users
//! taken elsewhere.

use super::AdminState;
use crate::accounts::AccountsError;
use axum::Json;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use cellar_model::wire::{BROUGHT_MAX, BringPlacedUsers, BringUsers, Brought, BroughtUser, BroughtUsers, PlacedUser};
use cellar_model::{Problem, ProblemType, UserId};
use cellar_server::{HttpProblem, JsonBody, brought_intent};
use serde::Deserialize;

#[derive(Deserialize)]
pub(super) struct WhichUsers {
    after: Option<UserId>,
    #[serde(default)]
    password_hashes: bool,
}

/// A page of whom this cell has, as an import takes them.
pub(super) async fn export(
    State(state): State<AdminState>,
    Query(which): Query<WhichUsers>,
) -> Result<Response, AccountsError> {
    let page = state.accounts.users_page(which.after.as_ref(), which.password_hashes).await?;
    Ok(Json(page).into_response())
}

pub(super) async fn import_placed(
    State(state): State<AdminState>,
    JsonBody(body): JsonBody<BringPlacedUsers>,
) -> Result<Json<BroughtUsers>, HttpProblem> {
    bounded(body.users.len())?;
    Ok(Json(BroughtUsers { results: state.accounts.bring_all(body.users).await }))
}

pub(super) async fn import(
    State(state): State<AdminState>,
    JsonBody(body): JsonBody<BringUsers>,
) -> Result<Json<BroughtUsers>, HttpProblem> {
    bounded(body.users.len())?;
    let placed: Vec<Result<PlacedUser, Brought>> = body.users.into_iter().map(|user| placed(&state, user)).collect();
    let good = placed.iter().filter_map(|placed| placed.as_ref().ok().cloned()).collect();
    let mut brought = state.accounts.bring_all(good).await.into_iter();
    let results = placed.into_iter().map(|placed| match placed {
        Ok(_) => brought.next().unwrap_or_else(|| Brought::again("no answer")),
        Err(brought) => brought,
    });
    Ok(Json(BroughtUsers { results: results.collect() }))
}

fn bounded(users: usize) -> Result<(), HttpProblem> {
    match users {
        0..=BROUGHT_MAX => Ok(()),
        _ => Err(Problem::new(ProblemType::TooLarge).detail(format!("at most {BROUGHT_MAX} users a call")).into()),
    }
}

/// As a router would.
fn placed(state: &AdminState, user: BroughtUser) -> Result<PlacedUser, Brought> {
    if user.region.as_ref().is_some_and(|region| *region != state.region) {
        return Err(Brought::invalid("/region", &format!("this cell serves {} only", state.region)));
    }
    let keyed = state.accounts.keyed(&user.email).map_err(|error| Brought::invalid("/email", &error.to_string()))?;
    let said = serde_json::to_vec(&BroughtUser { email: String::new(), ..user.clone() });
    let said = said.map_err(|_| Brought::invalid("", "it cannot be written down"))?;
    let intent = brought_intent(&keyed, &said);
    let drawn = u128::from_str_radix(&brought_intent(&keyed, &[&said[..], &0_u64.to_be_bytes()].concat()), 16);
    let mint = || UserId::mint(&state.region, drawn.unwrap_or_default());
    Ok(PlacedUser { user_id: user.user_id.clone().unwrap_or_else(mint), intent, user })
}
