//! What happened to one request, kept until it ends: only then is it known whether anybody wants to see it.
//!
//! A span here is two moments, a name and a few numbers. It costs a push into the request's own list; what a
//! collector needs besides is made for the few that are exported.

mod counts;
mod limit;
mod request;
mod sampling;
mod span;
mod tracer;

pub use counts::SpanCounts;
pub use request::{Begun, Outcome, carry, note, notes, origin, request_id, span, store, worth};
pub use sampling::{Sampling, SamplingError};
pub use span::{Hop, Kind, Span, Value};
pub use tracer::{Part, PartQueue, Tracer, fresh_span_id};
