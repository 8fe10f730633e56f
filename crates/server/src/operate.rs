//! The routes of admit, reserve, settle, refund, grant and override.

use crate::address::PathPart;
use crate::operations;
use crate::quota::{Hot, Routed};
use axum::extract::{Request, State};
use axum::response::Response;

/// Who is this, and may they spend this now: a session and a check in one call
#[utoipa::path(post, path = "/v1/internal/admit")]
pub(crate) async fn admit(State(api): State<Routed>, request: Request) -> Response {
    api.hot(Hot::Admit, request).await
}

/// Charge now what a request may use, and settle later what it did use
#[utoipa::path(post, path = "/v1/internal/quota/reserve")]
pub(crate) async fn reserve(State(api): State<Routed>, request: Request) -> Response {
    api.operate(request, Box::new(operations::reserve)).await
}

/// Say what a reservation really used: the difference is charged or given back, once
#[utoipa::path(post, path = "/v1/internal/quota/settle")]
pub(crate) async fn settle(State(api): State<Routed>, request: Request) -> Response {
    api.operate(request, Box::new(operations::settle)).await
}

/// Give a charge back, once
#[utoipa::path(post, path = "/v1/internal/quota/refund")]
pub(crate) async fn refund(State(api): State<Routed>, request: Request) -> Response {
    api.operate(request, Box::new(operations::refund)).await
}

/// Give a user extra in one slot until a date
#[utoipa::path(post, path = "/v1/internal/quota/grant")]
pub(crate) async fn grant(State(api): State<Routed>, request: Request) -> Response {
    api.operate(request, Box::new(operations::grant)).await
}

/// Give a user other settings of one slot until a date
#[utoipa::path(put, path = "/v1/internal/users/{id}/override")]
pub(crate) async fn override_slot(State(api): State<Routed>, PathPart(id): PathPart, request: Request) -> Response {
    api.operate(request, Box::new(move |body, asked| operations::override_slot(&id, body, asked))).await
}
