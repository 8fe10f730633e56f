//! One question and its answer, as callers write them and as the component takes them.

use wasmtime::component::{ComponentType, Lift, Lower};

/// What is being done. A release is a settle at cost 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
pub enum Operation {
    #[component(name = "consume")]
    Consume,
    #[component(name = "reserve")]
    Reserve,
    #[component(name = "settle")]
    Settle,
    #[component(name = "peek")]
    Peek,
}

/// One question to one policy. Amounts are in the policy's own unit.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub operation: Operation,
    pub now_us: u64,
    pub cost: u64,
    /// What a settle's reservation took, and when.
    pub held: u64,
    pub held_at_us: u64,
    pub attributes: &'a [(&'a str, &'a str)],
}

/// A policy's answer, after the host has checked it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub admitted: bool,
    /// The new state; none leaves the old one.
    pub state: Option<Vec<u8>>,
    /// The most one call can ever be admitted.
    pub limit: u64,
    pub remaining: u64,
    /// Zero when admitted, and when no waiting helps.
    pub retry_after_us: u64,
    pub reset_after_us: u64,
    pub note: u32,
}

/// Owned, since a component's typed function keeps its parameter types for its whole life. Without
/// attributes it holds nothing on the heap.
#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct WitRequest {
    operation: Operation,
    now: u64,
    cost: u64,
    held: u64,
    #[component(name = "held-at")]
    held_at: u64,
    attributes: Vec<WitAttribute>,
}

#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct WitAttribute {
    name: String,
    value: String,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct WitOutcome {
    admitted: bool,
    state: Option<Vec<u8>>,
    limit: u64,
    remaining: u64,
    #[component(name = "retry-after")]
    retry_after: u64,
    #[component(name = "reset-after")]
    reset_after: u64,
    note: u32,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct WitProblem {
    pub(crate) pointer: String,
    pub(crate) message: String,
}

impl From<&Request<'_>> for WitRequest {
    fn from(request: &Request<'_>) -> Self {
        let attribute =
            |(name, value): &(&str, &str)| WitAttribute { name: (*name).to_owned(), value: (*value).to_owned() };
        Self {
            operation: request.operation,
            now: request.now_us,
            cost: request.cost,
            held: request.held,
            held_at: request.held_at_us,
            attributes: request.attributes.iter().map(attribute).collect(),
        }
    }
}

impl From<WitOutcome> for Outcome {
    fn from(outcome: WitOutcome) -> Self {
        Self {
            admitted: outcome.admitted,
            state: outcome.state,
            limit: outcome.limit,
            remaining: outcome.remaining,
            retry_after_us: outcome.retry_after,
            reset_after_us: outcome.reset_after,
            note: outcome.note,
        }
    }
}
