//! The bounds of every listener, each with its reason.

use std::time::Duration;

/// A batch of 1,000 checks with attributes is about 300 KiB.
pub const BODY_MAX: usize = 1024 * 1024;
/// A request's first line and all its headers: tokens and trace context are a few hundred bytes. More
/// is 431.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;
/// What is read of a connection ahead of its parsing: bodies come in pieces of up to this.
pub const READ_BYTES_MAX: usize = 64 * 1024;
pub const HEADERS_MAX: usize = 64;
/// From a connection's first byte to the end of the headers: what a slow sender may hold a place for.
pub const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(10);
/// From the end of the headers to the end of a body that is read whole.
pub const BODY_READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Of a body that is too long, what is read and dropped before the 413, and for how long: a caller who sends the
/// whole of it before he reads should find the answer.
pub const LINGER_BYTES_MAX: usize = 8 * BODY_MAX;
pub const LINGER_MAX: Duration = Duration::from_secs(2);
/// Connections at once; more wait in the kernel's queue.
pub const CONNECTIONS_MAX: usize = 10_000;
/// For how long a stopping process lets requests under way finish.
pub const DRAIN_MAX: Duration = Duration::from_secs(10);
