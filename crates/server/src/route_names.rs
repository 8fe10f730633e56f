//! Routes by the names they are counted under: a path is its caller's, and labels must be bounded.

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;

/// What matches no route, and what has no name here.
pub(crate) const OTHER: &str = "other";

/// A route's path, as it is registered, and its name.
const NAMES: [(&str, &str); 32] = [
    ("/v1/internal/quota/consume", "consume"),
    ("/v1/internal/admit", "admit"),
    ("/v1/internal/quota/batch", "batch"),
    ("/v1/internal/quota/reserve", "reserve"),
    ("/v1/internal/quota/settle", "settle"),
    ("/v1/internal/quota/refund", "refund"),
    ("/v1/internal/quota/grant", "grant"),
    ("/v1/internal/users/{id}/override", "override"),
    ("/v1/user/quota", "quota"),
    ("/v1/user/usage", "usage"),
    ("/v1/users", "users"),
    ("/v1/user", "users"),
    ("/v1/internal/users/{id}", "users"),
    ("/v1/internal/users/{id}/tier", "users"),
    ("/v1/internal/users/{id}/block", "users"),
    ("/v1/internal/users/{id}/password", "password"),
    ("/v1/user/password", "password"),
    ("/v1/internal/users/{id}/export", "export"),
    ("/v1/user/export", "export"),
    ("/v1/sessions", "sessions"),
    ("/v1/sessions/{id}", "sessions"),
    ("/v1/user/profile", "profile"),
    ("/v1/user/preferences", "preferences"),
    ("/openapi.json", "contract"),
    ("/docs", "contract"),
    ("/problems", "contract"),
    ("/problems/{slug}", "contract"),
    ("/cell/v1/decide", "decide"),
    ("/cell/v1/users", "users"),
    ("/cell/v1/enrolments", "enrolments"),
    ("/cell/v1/forwards/{user}", "forwards"),
    ("/cell/v1/intents/{intent}", "intents"),
];

/// Every name once, in order.
pub(crate) fn all() -> Vec<&'static str> {
    let mut all: Vec<&str> = NAMES.iter().map(|(_, name)| *name).collect();
    all.push(OTHER);
    all.sort_unstable();
    all.dedup();
    all
}

/// The name of a route, beside the answer that came from it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RouteName(pub(crate) &'static str);

/// Notes on each answer which route it came from.
pub(crate) async fn note(request: Request, next: Next) -> Response {
    let name = request.extensions().get::<MatchedPath>().map_or(OTHER, |path| name_of(path.as_str()));
    let mut response = next.run(request).await;
    response.extensions_mut().insert(RouteName(name));
    response
}

fn name_of(path: &str) -> &'static str {
    NAMES.iter().find(|(known, _)| *known == path).map_or(OTHER, |(_, name)| name)
}
