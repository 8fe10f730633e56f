//! The HTTP contract, for tools and for people: one document, which routers and public cells serve alike.
//!
//! A route that is served is described by its row, in `accounts.rs`, `whole_accounts.rs` or `quota.rs`.

mod accounts;
mod document;
mod guidance;
mod headers;
mod operation;
mod page;
mod parameters;
mod problem_pages;
mod quota;
mod reference;
mod schemas;
mod whole_accounts;

use crate::problem::HttpProblem;
use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use cellar_model::ProblemType;
use http::{HeaderName, HeaderValue, header};
use utoipa::openapi::OpenApi;

/// Pages need nothing from elsewhere, and are allowed nothing.
const PAGE_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";

/// `/openapi.json`, `/docs` and `/problems/…`, of the routes that are `served`. No credential is asked for.
pub fn contract_routes(served: &OpenApi) -> Router {
    let document = document::document(served);
    let reference = Bytes::from(reference::page(&document));
    let problems = Bytes::from(problem_pages::index());
    // Plain data with string keys: nothing in it can fail to serialize.
    let json = Bytes::from(serde_json::to_vec(&document).unwrap_or_default());
    Router::new()
        .route("/openapi.json", get(move || async move { ([(header::CONTENT_TYPE, "application/json")], json) }))
        .route("/docs", get(move || async move { html(reference) }))
        .route("/problems", get(move || async move { html(problems) }))
        .route("/problems/{slug}", get(problem))
}

async fn problem(slug: Result<Path<String>, axum::extract::rejection::PathRejection>) -> Response {
    let kind = slug.ok().and_then(|Path(slug)| ProblemType::ALL.iter().find(|kind| kind.slug() == slug));
    match kind {
        Some(kind) => html(Bytes::from(problem_pages::page_of(*kind))),
        None => HttpProblem::from(ProblemType::NotFound).into_response(),
    }
}

fn html(page: Bytes) -> Response {
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    let policy = (HeaderName::from_static("content-security-policy"), HeaderValue::from_static(PAGE_POLICY));
    ([(header::CONTENT_TYPE, kind), policy], page).into_response()
}
