//! What every admin listener answers: metrics and health.

use crate::conditions::Conditions;
use crate::plaintext::Plaintext;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use cellar_metrics::{CONTENT_TYPE, Exposition};
use http::{StatusCode, header};
use prometheus_client::registry::Registry;
use std::sync::Arc;

/// `/metrics`, `/healthz` (the process runs), `/readyz` (it can serve; else 503 with the reasons) and `/conditions`.
/// What is in `plaintext` is said by all of them; neither that nor a condition is a reason not to be ready.
pub fn admin_routes(
    mut registry: Registry,
    plaintext: &Plaintext,
    conditions: &Conditions,
    ready: impl Fn() -> Vec<String> + Clone + Send + Sync + 'static,
) -> Router {
    plaintext.announce(&mut registry);
    let remarks = plaintext.remarks();
    let (more, asked) = (conditions.clone(), ready.clone());
    let ready = move || {
        let remarks = remarks.iter().cloned().chain(more.remarks()).collect::<Vec<_>>();
        readiness(ready(), &remarks)
    };
    Router::new()
        .route("/metrics", get(metrics))
        .with_state(Arc::new(Exposition::new(registry)))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(move || async move { ready() }))
        .merge(conditions.routes(asked))
}

fn readiness(reasons: Vec<String>, remarks: &[String]) -> Response {
    if reasons.is_empty() {
        let lines = remarks.iter().map(|remark| format!("but {remark}\n"));
        return format!("ready\n{}", lines.collect::<String>()).into_response();
    }
    let mut body = serde_json::json!({ "reasons": reasons });
    if !remarks.is_empty() {
        body["remarks"] = remarks.into();
    }
    (StatusCode::SERVICE_UNAVAILABLE, axum::Json(body)).into_response()
}

async fn metrics(State(exposition): State<Arc<Exposition>>) -> Response {
    match exposition.page().await {
        Ok(page) => ([(header::CONTENT_TYPE, CONTENT_TYPE)], page).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
