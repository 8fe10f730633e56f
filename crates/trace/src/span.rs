//! A finished hop.

use cellar_model::{SpanId, TraceId};
use std::time::Instant;

/// Of W3C's and OpenTelemetry's kinds, those that we have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Answers somebody else's request.
    Server,
    /// Asks a store.
    Client,
    Internal,
}

/// What can be said in a span.
///
/// **Invariant:** numbers and words of the program. Nothing a person wrote or is known by has a place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    Number(i64),
    Word(&'static str),
}

impl From<&'static str> for Value {
    fn from(word: &'static str) -> Self {
        Value::Word(word)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Value::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// A hop as it is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Hop {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// The store that is asked: `redis` or `postgresql`.
    pub(crate) store: Option<&'static str>,
}

impl Hop {
    pub const fn internal(name: &'static str) -> Self {
        Self { name, kind: Kind::Internal, store: None }
    }

    pub const fn server(name: &'static str) -> Self {
        Self { name, kind: Kind::Server, store: None }
    }

    /// A question to a store, by the name that OpenTelemetry has for it.
    pub const fn store(name: &'static str, store: &'static str) -> Self {
        Self { name, kind: Kind::Client, store: Some(store) }
    }
}

#[derive(Clone, Debug)]
pub struct Span {
    pub name: &'static str,
    pub kind: Kind,
    pub trace: TraceId,
    pub id: SpanId,
    pub parent: Option<SpanId>,
    /// The parent is another process's.
    pub parent_is_remote: bool,
    pub began: Instant,
    pub ended: Instant,
    pub attributes: Vec<(&'static str, Value)>,
    /// Spans of other traces that shared this work.
    pub links: Vec<(TraceId, SpanId)>,
    /// Why it is an error.
    pub failed: Option<&'static str>,
}

impl Span {
    /// A hop between two moments, with nothing else said of it.
    pub fn of(
        hop: Hop,
        trace: TraceId,
        id: SpanId,
        parent: Option<SpanId>,
        (began, ended): (Instant, Instant),
    ) -> Self {
        Self {
            name: hop.name,
            kind: hop.kind,
            trace,
            id,
            parent,
            parent_is_remote: false,
            began,
            ended,
            attributes: hop.store.map(|store| ("db.system.name", Value::Word(store))).into_iter().collect(),
            links: Vec::new(),
            failed: None,
        }
    }
}
