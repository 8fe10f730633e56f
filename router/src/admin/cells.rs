//! What operators ask of a cell, passed on to its admin listener. The cell checks the key itself.

use crate::app::Shared;
use crate::cell::Cell;
use crate::forward::{end_to_end, try_again};
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use cellar_model::{CellName, Problem, ProblemType, TryAgain};
use cellar_server::HttpProblem;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use http_body_util::{BodyExt, Limited};
use std::time::Duration;

/// A page of an audit reads some thousand users' ledgers.
const ADMIN_CALL_MAX: Duration = Duration::from_secs(30);
const CHECK_MAX: Duration = Duration::from_secs(5);
const CHECK_BYTES_MAX: usize = 256 * 1024;

/// `/admin/v1/cells/{cell}/{rest}` -> the cell's `/admin/v1/{rest}`
pub(super) async fn pass_on(
    State(app): State<Shared>,
    Path((cell, rest)): Path<(CellName, String)>,
    request: Request,
) -> Result<Response, HttpProblem> {
    let world = app.world().ok_or_else(|| try_again(TryAgain::NotReady))?;
    let missing = || Problem::new(ProblemType::NotFound).detail(format!("there is no cell {cell} with an admin listener"));
    let held = world.cell(&cell).ok_or_else(missing)?;
    let address = held.admin_address().ok_or_else(missing)?;
    let query = request.uri().query().map_or_else(String::new, |query| format!("?{query}"));
    let target = format!("http://{address}/admin/v1/{rest}{query}");
    let uri: Uri = target.parse().map_err(|_| Problem::new(ProblemType::Malformed))?;
    let (mut head, body) = request.into_parts();
    head.uri = uri;
    head.headers = end_to_end(head.headers);
    head.extensions.clear();
    let sent = tokio::time::timeout(ADMIN_CALL_MAX, held.http.request(Request::from_parts(head, body)));
    match sent.await {
        Ok(Ok(mut response)) => {
            *response.headers_mut() = end_to_end(std::mem::take(response.headers_mut()));
            Ok(response.map(Body::new))
        }
        Ok(Err(error)) if error.is_connect() => Err(HttpProblem(try_again(TryAgain::CellDown))),
        Ok(Err(_)) | Err(_) => Err(HttpProblem(try_again(TryAgain::Unknown))),
    }
}

pub(super) struct AdminAnswer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// A JSON body to a cell's admin listener, with the operator's own key. `None` if there was no answer.
pub(super) async fn admin_call(cell: &Cell, path: &str, by: &HeaderMap, body: Vec<u8>) -> Option<AdminAnswer> {
    let uri: Uri = format!("http://{}{path}", cell.admin_address()?).parse().ok()?;
    let mut request = Request::new(Body::from(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(key) = by.get(header::AUTHORIZATION) {
        headers.insert(header::AUTHORIZATION, key.clone());
    }
    let answer = async {
        let response = cell.http.request(request).await.ok()?;
        let status = response.status();
        let body = Limited::new(response.into_body(), CHECK_BYTES_MAX).collect().await.ok()?;
        Some(AdminAnswer { status, body: body.to_bytes() })
    };
    tokio::time::timeout(CHECK_MAX, answer).await.ok().flatten()
}
