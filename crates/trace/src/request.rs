//! A request under way, and what its task says of it.

use crate::span::{Hop, Span, Value};
use crate::tracer::{Tracer, fresh_span_id};
use cellar_model::{Origin, RequestId, SpanId, TraceId};
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Spans kept of one request: a sign-up that meets others' claims has some twenty.
const SPANS_MAX: usize = 64;
/// Things said of them.
const NOTES_MAX: usize = 64;

tokio::task_local! {
    static CURRENT: Current;
}

/// Where in a request its task is.
#[derive(Clone)]
struct Current {
    request: Arc<Request>,
    span: SpanId,
    /// The hop's name; none: no hop has begun, only the request.
    hop: Option<&'static str>,
}

struct Request {
    tracer: Tracer,
    origin: Origin,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    spans: Vec<Span>,
    notes: Vec<(SpanId, &'static str, Value)>,
    worth: Option<&'static str>,
}

impl Request {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing that holds it can panic half way.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, span: Span) {
        let mut kept = self.kept();
        if kept.spans.len() < SPANS_MAX {
            kept.spans.push(span);
        }
    }
}

/// What became of a request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    pub status: u16,
    /// Where it came to, in a fixed word; empty: nobody says.
    pub route: &'static str,
    /// Why it is worth to be seen, in a fixed word: an error, a degraded answer. None: it is as any other.
    pub worth: Option<&'static str>,
    /// It is an error of ours.
    pub failed: bool,
}

/// A request from its first byte to its answer. Dropped before [`Begun::end`], its caller has gone.
pub struct Begun {
    request: Arc<Request>,
    /// The span of this process that stands for the whole request; none: there is none, and what is done is a
    /// child of the caller's.
    root: Option<Hop>,
    span: SpanId,
    parent: Option<SpanId>,
    began: Instant,
    outcome: Option<Outcome>,
}

impl Begun {
    /// `caller` is what the caller says the request is part of.
    pub fn new(tracer: &Tracer, root: Option<Hop>, caller: Option<Origin>, named: Option<RequestId>) -> Self {
        let (mut origin, parent) = tracer.origin(caller);
        if named.is_some() {
            origin.named = named;
        }
        let span = match root {
            Some(_) if tracer.is_on() && parent.is_some() => fresh_span_id(),
            _ => origin.span,
        };
        let request = Request { tracer: tracer.clone(), origin, kept: Mutex::default() };
        Self { request: Arc::new(request), root, span, parent, began: Instant::now(), outcome: None }
    }

    /// Does the request's work as its own. It stays where it is: a request's work is some kilobytes, which every
    /// move would copy. Of a caller who goes away the work is dropped outside of the request: lines that it writes then
    /// have no id.
    pub async fn run<T>(&self, work: Pin<&mut impl Future<Output = T>>) -> T {
        CURRENT.scope(Current { request: self.request.clone(), span: self.span, hop: None }, work).await
    }

    pub fn request_id(&self) -> impl Deref<Target = str> + use<> {
        self.request.origin.request_id()
    }

    /// Its trace, if all of it will be exported.
    pub fn seen(&self) -> Option<TraceId> {
        let Request { tracer, origin, .. } = &*self.request;
        (tracer.is_on() && origin.sampled).then_some(origin.trace)
    }

    pub fn end(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        let Request { tracer, origin, .. } = &*self.request;
        if !tracer.is_on() {
            return;
        }
        let ended = Instant::now();
        let outcome = self.outcome.unwrap_or(Outcome { worth: Some("abandoned"), failed: true, ..Outcome::default() });
        let slow = tracer.is_slow(ended - self.began);
        let Kept { mut spans, notes, worth } = std::mem::take(&mut *self.request.kept());
        let worth = outcome.worth.or(worth);
        if self.root.is_none() && spans.is_empty() {
            return;
        }
        if !tracer.wants(origin.sampled, slow || worth.is_some()) {
            return;
        }
        if let Some(root) = self.root {
            let mut span = Span::of(root, origin.trace, self.span, self.parent, (self.began, ended));
            span.parent_is_remote = self.parent.is_some();
            span.failed = worth.filter(|_| outcome.failed);
            if !outcome.route.is_empty() {
                span.attributes.push(("cellar.route", Value::Word(outcome.route)));
            }
            if outcome.status > 0 {
                span.attributes.push(("http.response.status_code", Value::Number(i64::from(outcome.status))));
            }
            let why = worth.or(slow.then_some("slow")).filter(|_| !origin.sampled);
            span.attributes.extend(why.map(|why| ("cellar.kept", Value::Word(why))));
            spans.push(span);
        } else {
            // What would be the root's children are the caller's, if there is one.
            for span in spans.iter_mut().filter(|span| span.parent == Some(self.span)) {
                (span.parent, span.parent_is_remote) = (self.parent, self.parent.is_some());
            }
        }
        for (of, name, value) in notes {
            let of = spans.iter_mut().find(|span| span.id == of);
            of.into_iter().for_each(|span| span.attributes.push((name, value)));
        }
        tracer.hand_over(spans);
    }
}

/// A hop under way.
struct Open {
    at: Current,
    parent: SpanId,
    hop: Hop,
    began: Instant,
    /// Nothing: it was let go of half way.
    ended: Option<Option<&'static str>>,
}

impl Drop for Open {
    fn drop(&mut self) {
        let Current { request, span, .. } = &self.at;
        let between = (self.began, Instant::now());
        let mut span = Span::of(self.hop, request.origin.trace, *span, Some(self.parent), between);
        span.failed = self.ended.unwrap_or(Some("abandoned"));
        request.keep(span);
    }
}

/// Does `work` as a hop of the request that is under way, if there is one and anybody collects spans.
/// `failed` says of what came of it whether it is an error, in a fixed word.
pub async fn span<T>(hop: Hop, work: impl Future<Output = T>, failed: impl FnOnce(&T) -> Option<&'static str>) -> T {
    let Some(here) = current().filter(|here| here.request.tracer.is_on()) else { return work.await };
    let at = Current { request: here.request, span: fresh_span_id(), hop: Some(hop.name) };
    let mut open = Open { at: at.clone(), parent: here.span, hop, began: Instant::now(), ended: None };
    let done = CURRENT.scope(at, work).await;
    open.ended = Some(failed(&done));
    done
}

/// A question to a store, by the name of the hop that asks it: there are as many names as hops, and what a hop spends
/// its time on is told apart by the store. Outside of a hop it is not kept.
pub async fn store<T>(
    store: &'static str,
    work: impl Future<Output = T>,
    failed: impl FnOnce(&T) -> Option<&'static str>,
) -> T {
    match current().and_then(|here| here.hop) {
        Some(name) => span(Hop::store(name, store), work, failed).await,
        None => work.await,
    }
}

/// Says something of the hop under way.
pub fn note(name: &'static str, value: impl Into<Value>) {
    notes(|| [(name, value.into())]);
}

/// Says several things of it, which are not asked for if nobody collects spans.
pub fn notes<const N: usize>(said: impl FnOnce() -> [(&'static str, Value); N]) {
    let _ = CURRENT.try_with(|here| {
        if !here.request.tracer.is_on() {
            return;
        }
        let mut kept = here.request.kept();
        let room = NOTES_MAX.saturating_sub(kept.notes.len());
        kept.notes.extend(said().into_iter().take(room).map(|(name, value)| (here.span, name, value)));
    });
}

/// The request under way is worth to be seen, for a reason in a fixed word, though its status does not say so.
pub fn worth(why: &'static str) {
    let _ = CURRENT.try_with(|here| here.request.kept().worth = Some(why));
}

/// The request under way, for whoever does a part of it elsewhere.
pub fn origin() -> Option<Origin> {
    CURRENT.try_with(|here| Origin { span: here.span, ..here.request.origin.clone() }).ok()
}

/// What the request under way is known by.
pub fn request_id() -> Option<impl Deref<Target = str>> {
    CURRENT.try_with(|here| here.request.origin.request_id()).ok()
}

/// Work of a task of its own that belongs to the request under way.
pub fn carry<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let here = current();
    async move {
        match here {
            Some(here) => CURRENT.scope(here, work).await,
            None => work.await,
        }
    }
}

fn current() -> Option<Current> {
    CURRENT.try_with(Clone::clone).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counts::SpanCounts;
    use crate::sampling::Sampling;
    use crate::tracer::{Part, PartQueue};
    use std::pin::pin;

    const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const ROOT: Hop = Hop::server("route.forward");

    fn tracer(ratio: f64) -> (Tracer, PartQueue) {
        Tracer::new(Sampling::new(ratio, 60_000).unwrap(), SpanCounts::default())
    }

    async fn read() -> Result<(), ()> {
        note("users", 1_u64);
        Ok(())
    }

    /// One request with a hop in it, and what is exported of it.
    async fn part(tracer: &Tracer, queue: &mut PartQueue, caller: Option<&str>, outcome: Outcome) -> Option<Part> {
        let begun = Begun::new(tracer, Some(ROOT), caller.and_then(Origin::parse), None);
        let hop = Hop::store("directory.read", "postgresql");
        begun.run(pin!(span(hop, read(), |done| done.is_err().then_some("error")))).await.unwrap();
        begun.end(outcome);
        queue.try_recv().ok()
    }

    #[tokio::test]
    async fn a_callers_trace_is_gone_on_with_and_parents_are_right() {
        let (tracer, mut queue) = tracer(0.0);
        let part = part(&tracer, &mut queue, Some(CALLER), Outcome::default()).await.unwrap();
        let [read, root] = &part[..] else { panic!("{part:?}") };
        let caller = Origin::parse(CALLER).unwrap();
        assert_eq!((root.name, root.trace, root.parent), ("route.forward", caller.trace, Some(caller.span)));
        assert_eq!((read.name, read.trace, read.parent), ("directory.read", caller.trace, Some(root.id)));
        assert!(root.parent_is_remote && !read.parent_is_remote);
        assert!(read.attributes.contains(&("users", Value::Number(1))), "{read:?}");
    }

    #[tokio::test]
    async fn what_is_as_any_other_is_not_exported_and_what_is_not_is() {
        let (tracer, mut queue) = tracer(0.0);
        let plain = Outcome { status: 200, ..Outcome::default() };
        assert!(part(&tracer, &mut queue, None, plain).await.is_none());
        let unsampled = CALLER.replace("-01", "-00");
        assert!(part(&tracer, &mut queue, Some(&unsampled), plain).await.is_none());
        let failed = Outcome { status: 503, worth: Some("error"), failed: true, ..Outcome::default() };
        let part = part(&tracer, &mut queue, None, failed).await.unwrap();
        assert_eq!(part[1].failed, Some("error"));
        assert!(part[1].attributes.contains(&("cellar.kept", Value::Word("error"))));
        assert_eq!(part[1].parent, None);
    }

    #[tokio::test]
    async fn a_storm_of_errors_is_seen_by_a_few_of_them() {
        let (tracer, mut queue) = tracer(0.0);
        let failed = Outcome { status: 503, worth: Some("error"), failed: true, ..Outcome::default() };
        let mut seen = 0;
        for _ in 0..500 {
            seen += usize::from(part(&tracer, &mut queue, None, failed).await.is_some());
        }
        // A second may have ended meanwhile, or several.
        assert!((50..500).contains(&seen), "{seen}");
    }

    #[tokio::test]
    async fn what_finds_no_room_is_counted_and_nobody_waits() {
        let counts = SpanCounts::default();
        let (tracer, queue) = Tracer::new(Sampling::new(1.0, 60_000).unwrap(), counts.clone());
        for _ in 0..3_000 {
            Begun::new(&tracer, Some(ROOT), None, None).end(Outcome::default());
        }
        assert_eq!(queue.len() as u64 + counts.dropped("queue").get(), 3_000);
        assert!(counts.dropped("queue").get() > 0);
    }

    #[tokio::test]
    async fn without_a_span_of_its_own_a_process_goes_on_from_the_callers() {
        let (tracer, mut queue) = tracer(0.0);
        let begun = Begun::new(&tracer, None, Origin::parse(CALLER), None);
        begun.run(pin!(span(Hop::server("profile.read"), read(), |_| None))).await.unwrap();
        begun.end(Outcome::default());
        let part = queue.try_recv().unwrap();
        let [read] = &part[..] else { panic!("{part:?}") };
        assert_eq!(read.parent, Origin::parse(CALLER).map(|caller| caller.span));
        assert!(read.parent_is_remote);
    }

    #[tokio::test]
    async fn a_hop_that_is_let_go_of_says_so() {
        let (tracer, mut queue) = tracer(1.0);
        let begun = Begun::new(&tracer, Some(ROOT), None, None);
        let hangs = span(Hop::internal("directory.read"), std::future::pending::<()>(), |_| None);
        let _ = begun.run(pin!(tokio::time::timeout(std::time::Duration::from_millis(1), hangs))).await;
        drop(begun);
        let part = queue.try_recv().unwrap();
        assert_eq!([part[0].failed, part[1].failed], [Some("abandoned"); 2]);
    }

    #[tokio::test]
    async fn another_task_goes_on_in_the_same_request() {
        let begun = Begun::new(&Tracer::off(), None, None, RequestId::new("r-1"));
        let named = async { request_id().map(|id| id.to_owned()) };
        let there = begun.run(pin!(async { tokio::spawn(carry(named)).await.unwrap() })).await;
        assert_eq!(there.as_deref(), Some("r-1"));
        assert!(request_id().is_none());
    }
}
