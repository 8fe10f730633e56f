//! What stands in a request's path and query: what cannot be read is 400, as a problem document.

use crate::problem::HttpProblem;
use axum::extract::{FromRequestParts, Path, Query};
use cellar_model::{Problem, ProblemType};
use http::request::Parts;
use serde::de::DeserializeOwned;

/// The one variable part of a route's path.
pub struct PathPart(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathPart {
    type Rejection = HttpProblem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, HttpProblem> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(part)) => Ok(Self(part)),
            Err(_) => Err(Problem::new(ProblemType::Malformed).detail("the path cannot be read").into()),
        }
    }
}

/// A route's query.
pub struct QueryOf<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for QueryOf<T> {
    type Rejection = HttpProblem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, HttpProblem> {
        match Query::<T>::from_request_parts(parts, state).await {
            Ok(Query(query)) => Ok(Self(query)),
            Err(_) => Err(Problem::new(ProblemType::Malformed).detail("the query cannot be read").into()),
        }
    }
}
