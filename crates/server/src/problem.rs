//! Problem documents as HTTP answers.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cellar_model::{Problem, ProblemType};
use http::{HeaderValue, StatusCode, header};
use http_body_util::Full;
use std::sync::atomic::{AtomicU64, Ordering};

/// A problem that is to leave as `application/problem+json`.
#[derive(Clone, Debug)]
pub struct HttpProblem(pub Problem);

impl From<Problem> for HttpProblem {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<ProblemType> for HttpProblem {
    fn from(kind: ProblemType) -> Self {
        Self(Problem::new(kind))
    }
}

impl HttpProblem {
    pub fn into_http(self) -> http::Response<Full<Bytes>> {
        let problem = self.0;
        let (problem_type, detail) = (problem.kind.slug(), problem.detail.as_deref());
        match problem.kind {
            ProblemType::Internal => tracing::error!(problem_type, detail, "a request failed"),
            // Counted by reason; a line each would drown the log when a store is away.
            ProblemType::TryAgain => tracing::debug!(problem_type, detail, "a request was put off"),
            _ => {}
        }
        let body = serde_json::Value::from(problem.to_json()).to_string();
        let mut response = problem_response(problem.kind, body);
        let retry_after_s = match (problem.retry_after_s, problem.kind) {
            (Some(seconds), _) => Some(seconds),
            (None, ProblemType::TryAgain) => Some(jittered_retry_s()),
            (None, _) => None,
        };
        if let Some(seconds) = retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        if problem.kind == ProblemType::Unauthorized {
            // RFC 9110, 11.6.1: a 401 names the scheme it wants.
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if problem.kind == ProblemType::TooLarge {
            // The rest of the body is not read, so the connection ends here: the next request must not
            // be sent on it.
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl IntoResponse for HttpProblem {
    fn into_response(self) -> Response {
        self.into_http().map(axum::body::Body::new)
    }
}

/// A problem document of `kind` with a body made elsewhere.
pub(crate) fn problem_response(kind: ProblemType, body: String) -> http::Response<Full<Bytes>> {
    let mut response = http::Response::new(Full::new(Bytes::from(body)));
    // Statuses of problem types are constants of the contract.
    *response.status_mut() = StatusCode::from_u16(kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// 1 to 3 seconds, so that callers who failed together do not come back together.
fn jittered_retry_s() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    1 + NEXT.fetch_add(1, Ordering::Relaxed) % 3
}
