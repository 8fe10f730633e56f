//! A read of the directory, in the trace of the request that it is for.

use crate::error::DirectoryError;
use cellar_trace::{Hop, span};
use std::future::Future;

/// By OpenTelemetry's names.
pub(crate) const CQL: &str = "cassandra";
pub(crate) const POSTGRES: &str = "postgresql";

/// `store` is the database's name.
pub(crate) async fn traced<T>(
    store: &'static str,
    read: impl Future<Output = Result<T, DirectoryError>>,
) -> Result<T, DirectoryError> {
    span(Hop::store("directory.read", store), read, |read| read.is_err().then_some("directory")).await
}
