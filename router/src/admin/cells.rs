//! Questions passed on to a cell's admin listener.

use super::AdminState;
use crate::cells::Cell;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use cellar_model::{CellName, Problem, ProblemType};
use cellar_server::HttpProblem;
use http::{HeaderMap, Method, header};
use std::time::Duration;
use tokio::time::Instant;

/// For an answer's headers. A page of the books of a large cell takes a while.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// What cells serve under `/admin/v1/` and routers pass on.
const PASSED_ON: [&str; 4] = ["audit", "instances", "ledger", "shards"];

pub(super) async fn ask(
    State(state): State<AdminState>,
    Path((cell, what)): Path<(String, String)>,
    request: Request<Body>,
) -> Result<Response, HttpProblem> {
    let what = PASSED_ON.into_iter().find(|passed| *passed == what).ok_or(ProblemType::NotFound)?;
    let map = state.routing.map().ok_or(ProblemType::TryAgain)?;
    let cell = CellName::new(&cell).ok().and_then(|name| map.cell(&name)).ok_or(ProblemType::NotFound)?;
    let query = request.uri().query().map_or(String::new(), |query| format!("?{query}"));
    send(cell, Method::GET, &format!("/admin/v1/{what}{query}"), request.headers(), Body::empty()).await
}

/// A month of a cell's ledger: its rows, or that they have been exported.
pub(super) async fn ledger(
    State(state): State<AdminState>,
    Path((cell, month)): Path<(String, String)>,
    request: Request<Body>,
) -> Result<Response, HttpProblem> {
    let map = state.routing.map().ok_or(ProblemType::TryAgain)?;
    let cell = CellName::new(&cell).ok().and_then(|name| map.cell(&name)).ok_or(ProblemType::NotFound)?;
    // It stands in a path, so it has to be what a month is made of.
    if !month.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        return Err(ProblemType::NotFound.into());
    }
    let (parts, body) = request.into_parts();
    send(cell, parts.method, &format!("/admin/v1/ledger/{month}"), &parts.headers, body).await
}

/// Asks a cell with the operator's own credential.
pub(super) async fn send(
    cell: &Cell,
    method: Method,
    path: &str,
    from: &HeaderMap,
    body: impl Into<Body>,
) -> Result<Response, HttpProblem> {
    let mut request = http::Request::builder().method(method).uri(path);
    for name in [header::AUTHORIZATION, header::ACCEPT] {
        if let Some(value) = from.get(&name) {
            request = request.header(name, value);
        }
    }
    let request = request
        .header(header::CONTENT_TYPE, "application/json")
        .body(body.into())
        .map_err(|_| Problem::new(ProblemType::Malformed).detail("the query cannot be passed on"))?;
    let answer = cell.ask_admin(request, Instant::now() + ANSWER_MAX).await;
    let answer = answer.map_err(|fault| {
        Problem::new(ProblemType::TryAgain).detail(format!("cell {}: {}", cell.name(), fault.reason().label()))
    })?;
    Ok(crate::forward::arrived(answer))
}
