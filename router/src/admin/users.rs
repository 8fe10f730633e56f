//! Users brought from elsewhere: each to the cell where it is to live.

use super::{AdminState, cells};
use crate::forward::{DRAWS_MAX, place};
use crate::route::Map;
use axum::Json;
use axum::extract::State;
use bytes::Bytes;
use cellar_directory::Email;
use cellar_model::wire::{
    BROUGHT_MAX, BringPlacedUsers, BringUsers, Brought, BroughtUser, BroughtUsers, PlacedUser, SignUpBody,
};
use cellar_model::{CellName, Problem, ProblemType};
use cellar_server::{HttpProblem, JsonBody, brought_intent};
use http::{HeaderMap, Method, StatusCode};
use std::collections::BTreeMap;

/// Times a user is sent on, each to the cell of a claim that an earlier attempt left.
const FOLLOWED_MAX: usize = 3;
/// Of a cell's answer: some hundred bytes a user.
const ANSWER_BYTES_MAX: usize = 512 * 1024;

/// By cell, each with its place in the call.
type Waiting = BTreeMap<CellName, Vec<(usize, PlacedUser)>>;

pub(super) async fn import(
    State(state): State<AdminState>,
    headers: HeaderMap,
    JsonBody(body): JsonBody<BringUsers>,
) -> Result<Json<BroughtUsers>, HttpProblem> {
    if body.users.len() > BROUGHT_MAX {
        return Err(Problem::new(ProblemType::TooLarge).detail(format!("at most {BROUGHT_MAX} users a call")).into());
    }
    let map = state.routing.map().ok_or(ProblemType::TryAgain)?;
    let unknown = Brought::again("an earlier attempt is at another cell, which was not found");
    let mut results = vec![unknown; body.users.len()];
    let mut waiting = Waiting::new();
    for (n, user) in body.users.into_iter().enumerate() {
        match placed(&state, &map, user) {
            Ok((cell, placed)) => waiting.entry(cell).or_default().push((n, placed)),
            Err(brought) => results[n] = brought,
        }
    }
    for _ in 0..=FOLLOWED_MAX {
        let asking = std::mem::take(&mut waiting).into_iter().map(|(cell, users)| ask(&map, &headers, cell, users));
        for (n, placed, brought) in futures::future::join_all(asking).await.into_iter().flatten() {
            match brought {
                Brought::Elsewhere { cell } => waiting.entry(cell).or_default().push((n, placed)),
                brought => results[n] = brought,
            }
        }
        if waiting.is_empty() {
            break;
        }
    }
    Ok(Json(BroughtUsers { results }))
}

/// Where a user is to live, and by which intent. Both are of what is said of it: a repeat goes to the same cell.
fn placed(state: &AdminState, map: &Map, user: BroughtUser) -> Result<(CellName, PlacedUser), Brought> {
    let email = Email::parse(&user.email).map_err(|error| Brought::invalid("/email", &error.to_string()))?;
    // Keyed, so that neither intent nor id can be used to test an address.
    let keyed = state.peppers.hashes(&email).first().map(|email| email.hash).unwrap_or_default();
    let said = serde_json::to_vec(&BroughtUser { email: String::new(), ..user.clone() });
    let said = said.map_err(|_| Brought::invalid("", "it cannot be written down"))?;
    let intent = brought_intent(&keyed, &said);
    let body = SignUpBody {
        email: String::new(),
        name: None,
        password: None,
        tier: user.tier.clone(),
        region: user.region.clone(),
        user_id: user.user_id.clone(),
    };
    let mut draws = (0..DRAWS_MAX as u64).map(|n| brought_intent(&keyed, &[&said[..], &n.to_be_bytes()].concat()));
    let draw = || draws.next().and_then(|digits| u128::from_str_radix(&digits, 16).ok()).unwrap_or_default();
    let (user_id, _, cell) = place(map, &body, &state.region, draw).map_err(|problem| {
        let error = problem.errors.first();
        let said = || Brought::again(problem.detail.clone().unwrap_or_default());
        error.map_or_else(said, |error| Brought::invalid(&error.pointer, &error.message))
    })?;
    Ok((cell, PlacedUser { user_id, intent, user }))
}

async fn ask(
    map: &Map,
    headers: &HeaderMap,
    cell: CellName,
    users: Vec<(usize, PlacedUser)>,
) -> Vec<(usize, PlacedUser, Brought)> {
    let (places, users): (Vec<usize>, Vec<PlacedUser>) = users.into_iter().unzip();
    let body = BringPlacedUsers { users };
    let results = match answer(map, headers, &cell, &body).await {
        Some(results) if results.len() == places.len() => results,
        _ => vec![Brought::again(format!("cell {cell} did not answer")); places.len()],
    };
    places.into_iter().zip(body.users).zip(results).map(|((n, placed), brought)| (n, placed, brought)).collect()
}

async fn answer(map: &Map, headers: &HeaderMap, cell: &CellName, body: &BringPlacedUsers) -> Option<Vec<Brought>> {
    let body = Bytes::from(serde_json::to_vec(body).ok()?);
    let sent = cells::send(map.cell(cell)?, Method::POST, "/admin/v1/users/import-placed", headers, body).await;
    let answer = sent.ok().filter(|answer| answer.status() == StatusCode::OK)?;
    let body = axum::body::to_bytes(answer.into_body(), ANSWER_BYTES_MAX).await.ok()?;
    serde_json::from_slice(&body).ok().map(|answer: BroughtUsers| answer.results)
}
