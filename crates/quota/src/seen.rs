//! Whose checks are told of to whoever collects spans.

use crate::moments::{Moments, SEEN_OF_A_REQUEST, Told, operation};
use cellar_model::{Check, Origin, SpanId, Verdict};
use cellar_trace::Tracer;
use std::sync::Arc;
use std::time::Instant;

/// The checks of one call, one after another.
pub(crate) struct Seen {
    on: bool,
    /// The request that is under way here, for checks that nobody sent from elsewhere.
    here: Option<Option<Arc<Origin>>>,
    /// The last request, and how many of its checks there were.
    last: Option<(SpanId, usize)>,
}

/// A check that is told of if it turns out to be worth it.
pub(crate) struct Watched {
    pub(crate) origin: Arc<Origin>,
    remote: bool,
    operation: &'static str,
}

impl Seen {
    pub(crate) fn new(on: bool) -> Self {
        Self { on, here: None, last: None }
    }

    /// None: nobody will hear of it.
    pub(crate) fn watch(&mut self, check: &mut Check) -> Option<Watched> {
        let remote = check.origin.is_some();
        if !remote {
            // Also while nobody collects spans: who asks later what became of a request asks by this.
            check.origin = self.here.get_or_insert_with(|| cellar_trace::origin().map(Arc::new)).clone();
        }
        if !self.on {
            return None;
        }
        let origin = check.origin.clone()?;
        let before = self.last.filter(|(span, _)| *span == origin.span).map_or(0, |(_, before)| before);
        self.last = Some((origin.span, before + 1));
        (before < SEEN_OF_A_REQUEST).then(|| Watched { origin, remote, operation: operation(&check.operation) })
    }
}

impl Watched {
    pub(crate) fn tell(self, tracer: &Tracer, moments: &Moments, verdict: &Verdict, asked: Instant) {
        let ended = Instant::now();
        let why = verdict.trouble().or_else(|| tracer.is_slow(ended - asked).then_some("slow"));
        if !tracer.wants(self.origin.sampled, why.is_some()) {
            return;
        }
        let Self { origin, remote, operation } = self;
        tracer.hand_over(moments.spans(&Told { origin: &origin, remote, operation, verdict, why, ended }));
    }
}
