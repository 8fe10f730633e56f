//! The admin API, for operator keys: `/admin/v1/…`.

mod cells;
mod policies;
mod tiers;
mod users;

use crate::app::Shared;
use crate::forward::try_again;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, put};
use cellar_directory::{ARTIFACT_BYTES_MAX, DirectoryError, ErrorKind};
use cellar_model::{Problem, ProblemType, Scope, SettingProblem, Topology, TryAgain};
use cellar_server::HttpProblem;

/// All of them, at a glance.
pub(crate) fn routes(app: Shared) -> Router {
    Router::new()
        .route("/admin/v1/topology", get(topology))
        .route("/admin/v1/tiers", get(tiers::list))
        .route("/admin/v1/tiers/{name}", get(tiers::show).put(tiers::apply))
        .route("/admin/v1/policies", get(policies::list))
        .route("/admin/v1/policies/{name}/{version}", put(policies::publish))
        .route("/admin/v1/users/{id}", get(users::whereabouts))
        .route("/admin/v1/cells/{cell}/{*rest}", any(cells::pass_on))
        .layer(DefaultBodyLimit::max(ARTIFACT_BYTES_MAX))
        .layer(axum::middleware::from_fn_with_state(app.clone(), operators_only))
        .with_state(app)
}

async fn operators_only(State(app): State<Shared>, request: Request, next: Next) -> Response {
    match app.keys.authenticate(request.headers()).and_then(|caller| caller.require(Scope::Admin)) {
        Ok(()) => next.run(request).await,
        Err(problem) => HttpProblem(problem).into_response(),
    }
}

async fn topology(State(app): State<Shared>) -> Result<axum::Json<Topology>, HttpProblem> {
    let world = app.world().ok_or_else(|| try_again(TryAgain::NotReady))?;
    Ok(axum::Json(world.topology.clone()))
}

/// What an operator is told of a directory that failed.
fn failed(error: &DirectoryError) -> HttpProblem {
    tracing::warn!(error = error as &dyn std::error::Error, "an admin call failed in the directory");
    let problem = match error.kind() {
        ErrorKind::TryAgain { after } => try_again(TryAgain::DirectoryDown).retry_after_s(after.as_secs().max(1)),
        ErrorKind::CallerMistake => Problem::new(ProblemType::TooLarge).detail(error.to_string()),
        ErrorKind::OurFault => Problem::new(ProblemType::Internal),
    };
    HttpProblem(problem)
}

fn invalid(pointer: &str, message: &str) -> HttpProblem {
    HttpProblem(Problem::new(ProblemType::Invalid).errors(vec![SettingProblem::new(pointer, message)]))
}
