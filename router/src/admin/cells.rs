//! Questions passed on to a cell's admin listener.

use super::AdminState;
use crate::cells::Cell;
use crate::route::Map;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cellar_model::wire::{CellDecisions, Explanations};
use cellar_model::{CellName, Problem, ProblemType};
use cellar_server::HttpProblem;
use futures::FutureExt;
use http::{HeaderMap, Method, StatusCode, header};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// For an answer's headers. A page of the books of a large cell takes a while.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// So much later than one process the next is asked.
const NEXT_AFTER: Duration = Duration::from_millis(500);
/// Of a process's counts: some hundred bytes a tier.
const DECISIONS_BYTES_MAX: usize = 4 * 1024 * 1024;
/// What cells serve under `/admin/v1/` and routers pass on.
const PASSED_ON: [&str; 6] = ["accounts", "audit", "instances", "ledger", "shards", "users"];

pub(super) async fn ask(
    State(state): State<AdminState>,
    Path((cell, what)): Path<(String, String)>,
    request: Request<Body>,
) -> Result<Response, HttpProblem> {
    let what = PASSED_ON.into_iter().find(|passed| *passed == what).ok_or(ProblemType::NotFound)?;
    let map = state.routing.map().ok_or(ProblemType::TryAgain)?;
    let cell = named(&map, &cell)?;
    let query = request.uri().query().map_or(String::new(), |query| format!("?{query}"));
    send(cell, Method::GET, &format!("/admin/v1/{what}{query}"), request.headers(), Bytes::new()).await
}

/// A month of a cell's ledger: its rows, or that they have been exported.
pub(super) async fn ledger(
    State(state): State<AdminState>,
    Path((cell, month)): Path<(String, String)>,
    Query(with): Query<WithChecks>,
    method: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, HttpProblem> {
    let map = state.routing.map().ok_or(ProblemType::TryAgain)?;
    let cell = named(&map, &cell)?;
    // It stands in a path, so it has to be what a month is made of.
    if !month.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
        return Err(ProblemType::NotFound.into());
    }
    let query = if with.checks { "?checks=true" } else { "" };
    send(cell, method, &format!("/admin/v1/ledger/{month}{query}"), &headers, body).await
}

#[derive(serde::Deserialize)]
pub(super) struct WithChecks {
    #[serde(default)]
    checks: bool,
}

/// What each of a cell's processes has counted of shadows and candidates: all of them, or no answer, for a
/// sum that lacks one is another number.
pub(super) async fn decisions(
    State(state): State<AdminState>,
    Path(cell): Path<String>,
    request: Request<Body>,
) -> Result<Response, HttpProblem> {
    let map = state.routing.map().ok_or(ProblemType::TryAgain)?;
    let cell = named(&map, &cell)?;
    let said: Vec<CellDecisions> = of_processes(cell, "/admin/v1/decisions", request.headers()).await?;
    let processes = said.into_iter().flat_map(|said| said.processes).collect();
    Ok(axum::Json(CellDecisions { processes }).into_response())
}

/// What each of a cell's processes remembers of a request: any may have decided it.
pub(super) async fn explain(
    State(state): State<AdminState>,
    Path(cell): Path<String>,
    request: Request<Body>,
) -> Result<Response, HttpProblem> {
    let map = state.routing.map().ok_or(ProblemType::TryAgain)?;
    let cell = named(&map, &cell)?;
    let path = format!("/admin/v1/explain?{}", request.uri().query().unwrap_or_default());
    let said: Vec<Explanations> = of_processes(cell, &path, request.headers()).await?;
    let processes = said.into_iter().flat_map(|said| said.processes).collect();
    Ok(axum::Json(Explanations { processes }).into_response())
}

fn named<'m>(map: &'m Map, cell: &str) -> Result<&'m Arc<Cell>, ProblemType> {
    CellName::new(cell).ok().and_then(|name| map.cell(&name)).ok_or(ProblemType::NotFound)
}

/// What every process of a cell says, or no answer at all.
async fn of_processes<T: serde::de::DeserializeOwned>(
    cell: &Cell,
    path: &str,
    from: &HeaderMap,
) -> Result<Vec<T>, HttpProblem> {
    let until = Instant::now() + ANSWER_MAX;
    futures::future::try_join_all((0..cell.processes()).map(|n| of_process(cell, n, path, from, until))).await
}

async fn of_process<T: serde::de::DeserializeOwned>(
    cell: &Cell,
    n: usize,
    path: &str,
    from: &HeaderMap,
    until: Instant,
) -> Result<T, HttpProblem> {
    let asked = question(Method::GET, path, from, Bytes::new())?;
    let silent =
        |why: &str| Problem::new(ProblemType::TryAgain).detail(format!("a process of cell {}: {why}", cell.name()));
    let answer = cell.ask_admin(n, asked, until).await.map_err(|fault| silent(fault.reason().label()))?;
    if answer.status() != StatusCode::OK {
        return Err(silent(&format!("it answers {}", answer.status().as_u16())).into());
    }
    let body = axum::body::to_bytes(Body::new(answer.into_body()), DECISIONS_BYTES_MAX).await;
    let body = body.map_err(|_| silent("it broke off"))?;
    Ok(serde_json::from_slice(&body).map_err(|_| silent("it speaks of something else"))?)
}

/// An operator's word that a life of one of a cell's processes is over.
pub(super) async fn fence(
    State(state): State<AdminState>,
    Path((cell, life)): Path<(String, String)>,
    request: Request<Body>,
) -> Result<Response, HttpProblem> {
    let plain = !life.is_empty() && life.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let map = state.routing.map().ok_or(ProblemType::TryAgain)?;
    let cell = named(&map, &cell)?;
    if !plain {
        return Err(ProblemType::NotFound.into());
    }
    let path = format!("/admin/v1/instances/{life}/fence");
    send(cell, Method::POST, &path, request.headers(), Bytes::new()).await
}

/// Asks a cell with the operator's own credential: its first process, and one after the other those behind
/// it while there is no answer. What is asked here may be asked twice.
pub(super) async fn send(
    cell: &Cell,
    method: Method,
    path: &str,
    from: &HeaderMap,
    body: impl Into<Bytes>,
) -> Result<Response, HttpProblem> {
    let (body, now) = (body.into(), Instant::now());
    let mut asking = Vec::with_capacity(cell.processes());
    for n in 0..cell.processes() {
        let request = question(method.clone(), path, from, body.clone())?;
        let ask = async move {
            tokio::time::sleep_until(now + NEXT_AFTER * n as u32).await;
            cell.ask_admin(n, request, now + ANSWER_MAX).await
        };
        asking.push(ask.boxed());
    }
    // The topology gives each cell one process at least.
    let answer = futures::future::select_ok(asking).await.map(|(answer, _)| answer);
    let answer = answer.map_err(|fault| {
        Problem::new(ProblemType::TryAgain).detail(format!("cell {}: {}", cell.name(), fault.reason().label()))
    })?;
    Ok(crate::forward::arrived(answer))
}

/// A request with the operator's own credential.
fn question(method: Method, path: &str, from: &HeaderMap, body: Bytes) -> Result<Request<Body>, HttpProblem> {
    let mut request = http::Request::builder().method(method).uri(path);
    for name in [header::AUTHORIZATION, header::ACCEPT] {
        if let Some(value) = from.get(&name) {
            request = request.header(name, value);
        }
    }
    let request = request.header(header::CONTENT_TYPE, "application/json").body(Body::from(body));
    Ok(request.map_err(|_| Problem::new(ProblemType::Malformed).detail("the query cannot be passed on"))?)
}
