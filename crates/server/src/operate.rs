//! The routes of admit, reserve, settle, refund, grant and override.

use crate::operations;
use crate::quota::{Hot, Routed};
use axum::extract::{Path, Request, State};
use axum::response::Response;

/// Who is this, and may they spend this now: a session and a check in one call
#[utoipa::path(post, path = "/v1/internal/admit", tag = "quota",
    responses((status = 200, description = "The session is in force, and the check admitted and charged"),
              (status = 401, description = "invalid-session: no token of this service, revoked or expired; nothing charged"),
              (status = 403, description = "The account is blocked"), (status = 429, description = "Denied, nothing charged"),
              (status = 422, description = "The check makes no sense"), (status = 503, description = "Unknown: repeat with the same Idempotency-Key")))]
pub(crate) async fn admit(State(api): State<Routed>, request: Request) -> Response {
    api.hot(Hot::Admit, request).await
}

/// Charge now what a request may use, and settle later what it did use
#[utoipa::path(post, path = "/v1/internal/quota/reserve", tag = "quota",
    responses((status = 200, description = "Charged; charge_id names the reservation, expires_at says until when it is open"),
              (status = 409, description = "The user has 64 open reservations"),
              (status = 429, description = "Denied, nothing charged"),
              (status = 422, description = "The check makes no sense"), (status = 503, description = "Unknown: repeat with the same Idempotency-Key")))]
pub(crate) async fn reserve(State(api): State<Routed>, request: Request) -> Response {
    api.operate("reserve", request, Box::new(operations::reserve)).await
}

/// Say what a reservation really used: the difference is charged or given back, once
#[utoipa::path(post, path = "/v1/internal/quota/settle", tag = "quota",
    responses((status = 200, description = "Settled; overshoot says by unit what was charged above what was left"),
              (status = 404, description = "The user has no such charge of the last 40 days"),
              (status = 409, description = "It is no reservation, or has been refunded"),
              (status = 422, description = "It has been settled with another cost"), (status = 503, description = "Unknown: repeat")))]
pub(crate) async fn settle(State(api): State<Routed>, request: Request) -> Response {
    api.operate("settle", request, Box::new(operations::settle)).await
}

/// Give a charge back, once
#[utoipa::path(post, path = "/v1/internal/quota/refund", tag = "quota",
    responses((status = 200, description = "Given back"),
              (status = 404, description = "The user has no such charge of the last 40 days"),
              (status = 409, description = "It has been settled, or given back at its expiry"), (status = 503, description = "Unknown: repeat")))]
pub(crate) async fn refund(State(api): State<Routed>, request: Request) -> Response {
    api.operate("refund", request, Box::new(operations::refund)).await
}

/// Give a user extra in one slot until a date
#[utoipa::path(post, path = "/v1/internal/quota/grant", tag = "quota",
    responses((status = 200, description = "In force"), (status = 409, description = "Eight grants are in force"),
              (status = 422, description = "No such slot, no amount, or a date that has passed"),
              (status = 503, description = "Unknown: repeat with the same Idempotency-Key")))]
pub(crate) async fn grant(State(api): State<Routed>, request: Request) -> Response {
    api.operate("grant", request, Box::new(operations::grant)).await
}

/// Give a user other settings of one slot until a date
#[utoipa::path(put, path = "/v1/internal/users/{id}/override", tag = "quota",
    params(("id" = String, Path, description = "The user's id")),
    responses((status = 200, description = "In force"),
              (status = 422, description = "No such slot, a date that has passed, or settings the policy does not take, each by its pointer"),
              (status = 503, description = "Unknown: repeat with the same Idempotency-Key")))]
pub(crate) async fn override_slot(State(api): State<Routed>, Path(id): Path<String>, request: Request) -> Response {
    api.operate("override", request, Box::new(move |body, asked| operations::override_slot(&id, body, asked))).await
}
