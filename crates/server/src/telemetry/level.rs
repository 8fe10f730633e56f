//! Which log lines are written, and how that is changed while the process runs.

use crate::problem::HttpProblem;
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use cellar_model::{Problem, ProblemType, Scope};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{EnvFilter, Registry, reload};

/// The longest filter that is read: an operator's own few words.
const FILTER_BYTES_MAX: usize = 1_024;
const DEFAULT: &str = "info";

#[derive(Debug, thiserror::Error)]
pub enum LevelError {
    #[error("{0:?} is no level: off, error, warn, info, debug, trace, or target=level, with commas between them")]
    NoLevel(String),
    #[error("a filter has at most {FILTER_BYTES_MAX} bytes")]
    Long,
    #[error("the filter cannot be read: {0}")]
    Unreadable(#[from] tracing_subscriber::filter::ParseError),
}

/// Reads a filter. A word alone must be a level: as the name of a module it would silence all others.
fn read(text: &str) -> Result<EnvFilter, LevelError> {
    if text.len() > FILTER_BYTES_MAX {
        return Err(LevelError::Long);
    }
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let mut words = parts.iter().filter(|part| !part.contains(['=', '[']));
    if let Some(odd) = words.find(|word| word.is_empty() || LevelFilter::from_str(word).is_err()) {
        return Err(LevelError::NoLevel((*odd).to_owned()));
    }
    // A space would be part of a module's name.
    Ok(EnvFilter::builder().parse(parts.join(","))?)
}

/// Cheap to clone.
#[derive(Clone)]
pub struct LogLevel {
    text: Arc<Mutex<String>>,
    filter: Option<reload::Handle<EnvFilter, Registry>>,
}

impl LogLevel {
    pub(super) fn from_environment() -> Result<(Self, EnvFilter), LevelError> {
        let text = std::env::var("CELLAR_LOG").unwrap_or_else(|_| DEFAULT.to_owned());
        let filter = read(&text)?;
        Ok((Self { text: Arc::new(Mutex::new(text)), filter: None }, filter))
    }

    pub(super) fn on(self, filter: reload::Handle<EnvFilter, Registry>) -> Self {
        Self { filter: Some(filter), ..self }
    }

    fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, text: &str) -> Result<(), LevelError> {
        let filter = read(text)?;
        let mut held = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        // Without a subscriber (a second one in a process) nothing is written.
        if let Some(handle) = &self.filter
            && handle.reload(filter).is_ok()
        {
            text.clone_into(&mut held);
        }
        Ok(())
    }
}

/// `GET` and `PUT /log-level`, for operators: the filter as text, in force until the process ends or the next one.
pub fn log_level_routes(level: LogLevel, keys: crate::Keys) -> Router {
    let operators_only = |State(keys): State<crate::Keys>, request: Request, next: Next| async move {
        match keys.authenticate(request.headers()).and_then(|caller| caller.require(Scope::Admin)) {
            Ok(()) => next.run(request).await,
            Err(problem) => HttpProblem(problem).into_response(),
        }
    };
    Router::new()
        .route("/log-level", get(show).put(set))
        .layer(axum::middleware::from_fn_with_state(keys, operators_only))
        .with_state(level)
}

async fn show(State(level): State<LogLevel>) -> String {
    level.text() + "\n"
}

async fn set(State(level): State<LogLevel>, text: String) -> Response {
    match level.set(text.trim()) {
        Ok(()) => {
            tracing::info!(filter = level.text(), "the log's level is changed");
            (level.text() + "\n").into_response()
        }
        Err(error) => HttpProblem(Problem::new(ProblemType::Invalid).detail(error.to_string())).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_says_nothing_is_refused() {
        for good in ["info", "WARN", "off", "info,cellar_cell=debug", "warn, cellar_quota::shard=trace"] {
            assert!(read(good).is_ok(), "{good}");
        }
        for bad in ["", "loud", "info,cellar_cell", "cellar_cell=loud", "info,,", &"info,".repeat(500)] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
