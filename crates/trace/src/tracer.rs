//! Who decides what is exported, and hands it over.

use crate::counts::SpanCounts;
use crate::limit::Limit;
use crate::sampling::Sampling;
use crate::span::Span;
use cellar_model::{Origin, SpanId, TraceId};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Parts of traces that wait to be sent: some 10,000 spans, 3 MB. A collector that takes nothing for a second is
/// one that is away.
const QUEUE_PARTS: usize = 2_048;
/// Requests exported a second because of what became of them. A store that is away makes every request such a one;
/// a few of them say all there is to say.
const TAIL_A_SECOND: u64 = 50;
/// Requests exported a second because their callers said so. Beyond it a caller's word counts no more than ours.
const CALLERS_A_SECOND: u64 = 1_000;

/// Spans of one request in this process.
pub type Part = Vec<Span>;

/// Where parts wait for whoever sends them.
pub type PartQueue = mpsc::Receiver<Part>;

/// Cheap to clone. Off, it costs a look.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<Inner>>);

struct Inner {
    sampling: Sampling,
    parts: mpsc::Sender<Part>,
    counts: SpanCounts,
    tail: Limit,
    callers: Limit,
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_on() { "Tracer(on)" } else { "Tracer(off)" })
    }
}

impl Tracer {
    /// Keeps nothing.
    pub fn off() -> Self {
        Self::default()
    }

    pub fn new(sampling: Sampling, counts: SpanCounts) -> (Self, PartQueue) {
        let (parts, queue) = mpsc::channel(QUEUE_PARTS);
        let (tail, callers) = (Limit::a_second(TAIL_A_SECOND), Limit::a_second(CALLERS_A_SECOND));
        (Self(Some(Arc::new(Inner { sampling, parts, counts, tail, callers }))), queue)
    }

    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Whether a request that took so long is one to be seen.
    pub fn is_slow(&self, took: Duration) -> bool {
        self.0.as_ref().is_some_and(|inner| took >= inner.sampling.slow)
    }

    /// The request's origin in this process: the caller's trace, else a new one. Its span is the caller's; none
    /// in a new trace.
    pub(crate) fn origin(&self, caller: Option<Origin>) -> (Origin, Option<SpanId>) {
        match caller {
            Some(caller) => {
                let inner = self.0.as_ref();
                let heard = caller.sampled && inner.is_none_or(|inner| inner.callers.take());
                let sampled =
                    heard || (caller.sampled && inner.is_some_and(|inner| inner.sampling.takes(caller.trace)));
                let parent = caller.span;
                (Origin { sampled, ..caller }, Some(parent))
            }
            None => {
                let trace = fresh_trace_id();
                let sampled = self.0.as_ref().is_some_and(|inner| inner.sampling.takes(trace));
                (Origin { trace, span: fresh_span_id(), sampled, named: None }, None)
            }
        }
    }

    /// Whether a part is exported: its trace is, or this is `worth` it, as long as there are not too many.
    pub fn wants(&self, sampled: bool, worth: bool) -> bool {
        self.0.as_ref().is_some_and(|inner| sampled || (worth && inner.tail.take()))
    }

    /// Hands spans over to be sent. Never waits: what finds no room is counted and gone.
    pub fn hand_over(&self, part: Part) {
        let Some(inner) = &self.0 else { return };
        let spans = part.len() as u64;
        if spans > 0 && inner.parts.try_send(part).is_err() {
            inner.counts.dropped("queue").inc_by(spans);
        }
    }
}

fn fresh_trace_id() -> TraceId {
    TraceId(rand::random::<u128>().max(1))
}

pub fn fresh_span_id() -> SpanId {
    SpanId(rand::random::<u64>().max(1))
}
