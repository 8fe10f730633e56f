//! When what happened to a check, for its trace.
//!
//! A shard serves many traces at once, so a check carries its own moments along: a few clock readings that the batch
//! makes anyway, or shares. Spans are made of them only for who is seen.

use cellar_model::{Check, Operation, Origin, Refusal, SpanId, TraceId, Verdict};
use cellar_trace::{Hop, Span, Value, fresh_span_id};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Other traces that a commit's span names: a batch of 256 says no more with all of them.
const LINKS_MAX: usize = 16;
/// Checks of one call of one request that have spans of their own. A batch of 1,000 is seen by its first ones.
pub(crate) const SEEN_OF_A_REQUEST: usize = 16;

/// Spans of other requests that shared a batch.
pub(crate) type Links = Arc<[(TraceId, SpanId)]>;

/// From and to, in tenths of microseconds after the check was asked; both 0: it did not happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stretch(u32, u32);

/// The batch that a check was decided in.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Batch {
    pub(crate) shard: u16,
    pub(crate) users: u16,
    pub(crate) checks: u16,
    pub(crate) on_postgres: bool,
}

#[derive(Clone, Debug)]
pub(crate) struct Moments {
    asked: Instant,
    /// The id that the span of a sampled check will have: other traces' spans name it before it is there.
    span: Option<SpanId>,
    from_redis: Stretch,
    from_postgres: Stretch,
    policies: Stretch,
    commit: Stretch,
    /// Checks of the user that the policies were asked about in one go.
    of_user: u16,
    batch: Batch,
    links: Option<Links>,
}

impl Moments {
    pub(crate) fn new(asked: Instant) -> Self {
        Self {
            asked,
            span: None,
            from_redis: Stretch::default(),
            from_postgres: Stretch::default(),
            policies: Stretch::default(),
            commit: Stretch::default(),
            of_user: 0,
            batch: Batch::default(),
            links: None,
        }
    }

    /// Of a check of a sampled trace.
    pub(crate) fn sampled(self) -> Self {
        Self { span: Some(fresh_span_id()), ..self }
    }

    pub(crate) fn asked(&self) -> Instant {
        self.asked
    }

    pub(crate) fn is_sampled(&self) -> bool {
        self.span.is_some()
    }

    fn stretch(&self, from: Instant, to: Instant) -> Stretch {
        let tenths = |moment: Instant| {
            let since = moment.saturating_duration_since(self.asked).as_nanos() / 100;
            u32::try_from(since).unwrap_or(u32::MAX)
        };
        // What happened in the first tenth has happened.
        Stretch(tenths(from), tenths(to).max(1))
    }

    fn between(&self, Stretch(from, to): Stretch) -> Option<(Instant, Instant)> {
        let at = |tenths: u32| self.asked + Duration::from_nanos(u64::from(tenths) * 100);
        (to > 0).then(|| (at(from), at(to)))
    }

    /// The user's record was fetched.
    pub(crate) fn loaded(&mut self, from_postgres: bool, from: Instant, to: Instant) {
        let stretch = self.stretch(from.max(self.asked), to);
        if from_postgres {
            self.from_postgres = stretch;
        } else {
            self.from_redis = stretch;
        }
    }

    /// The policies were asked, about so many checks of the user.
    pub(crate) fn decided(&mut self, of_user: usize, from: Instant, to: Instant) {
        self.policies = self.stretch(from, to);
        self.of_user = u16::try_from(of_user).unwrap_or(u16::MAX);
    }

    /// The store answered the batch.
    pub(crate) fn committed(&mut self, batch: Batch, links: Option<&Links>, from: Instant, to: Instant) {
        self.commit = self.stretch(from, to);
        self.batch = batch;
        self.links = links.cloned();
    }

    /// `quota.decide` and what it did, as a child of the request that asked.
    pub(crate) fn spans(&self, told: &Told<'_>) -> Vec<Span> {
        let (trace, id) = (told.origin.trace, self.span.unwrap_or_else(fresh_span_id));
        let parent = Some(told.origin.span);
        let mut decide = Span::of(Hop::server("quota.decide"), trace, id, parent, (self.asked, told.ended));
        decide.parent_is_remote = told.remote;
        decide.failed = told.why.filter(|why| *why == "error");
        decide.attributes.push(("cellar.operation", Value::Word(told.operation)));
        decide.attributes.push(("cellar.verdict", Value::Word(verdict(told.verdict))));
        let waited = self.between(self.policies).map(|(from, _)| from.saturating_duration_since(self.asked));
        let waited = waited.map(|waited| ("cellar.wait_us", Value::from(waited.as_micros() as u64)));
        decide.attributes.extend(waited);
        if !told.origin.sampled {
            decide.attributes.extend(told.why.map(|why| ("cellar.kept", Value::Word(why))));
        }
        let mut spans = vec![decide];
        let child = |hop: Hop, stretch: Stretch| {
            let at = self.between(stretch)?;
            Some(Span::of(hop, trace, fresh_span_id(), Some(id), at))
        };
        spans.extend(child(Hop::store("quota.decide", "redis"), self.from_redis));
        spans.extend(child(Hop::store("quota.decide", "postgresql"), self.from_postgres));
        if let Some(mut call) = child(Hop::internal("policy.call"), self.policies) {
            call.attributes.push(("cellar.checks", u64::from(self.of_user).into()));
            spans.push(call);
        }
        let store = if self.batch.on_postgres { "postgresql" } else { "redis" };
        if let Some(mut commit) = child(Hop::store("store.commit", store), self.commit) {
            let Batch { shard, users, checks, .. } = self.batch;
            let said = [("cellar.shard", shard), ("cellar.batch_users", users), ("cellar.batch_checks", checks)];
            commit.attributes.extend(said.map(|(name, number)| (name, u64::from(number).into())));
            let others = self.links.iter().flat_map(|links| links.iter().copied());
            commit.links = others.filter(|(_, other)| *other != id).collect();
            spans.push(commit);
        }
        spans
    }
}

/// What is known of a check when it is answered.
pub(crate) struct Told<'t> {
    pub(crate) origin: &'t Origin,
    /// The origin is another process's.
    pub(crate) remote: bool,
    pub(crate) operation: &'static str,
    pub(crate) verdict: &'t Verdict,
    /// Why it is worth to be seen.
    pub(crate) why: Option<&'static str>,
    pub(crate) ended: Instant,
}

/// The spans of sampled checks in a batch; none, as for almost all batches. The first is the exemplar of how long the
/// commit took, and each is a link of the others.
pub(crate) fn links<'c>(checks: impl Iterator<Item = (&'c Check, &'c Moments)>) -> Option<Links> {
    let link = |(check, moments): (&Check, &Moments)| Some((check.origin.as_ref()?.trace, moments.span?));
    let links: Vec<_> = checks.filter_map(link).take(LINKS_MAX).collect();
    (!links.is_empty()).then(|| links.into())
}

fn verdict(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Admitted { replayed: true, .. } => "replayed",
        Verdict::Admitted { .. } => "allowed",
        Verdict::Denied { .. } => "denied",
        Verdict::Seen { .. } => "seen",
        Verdict::Refused(Refusal::TryAgain { reason }) => reason.label(),
        Verdict::Refused(_) => "refused",
    }
}

pub(crate) fn operation(operation: &Operation) -> &'static str {
    match operation {
        Operation::Consume => "consume",
        Operation::Peek => "peek",
        Operation::Reserve { .. } => "reserve",
        Operation::Settle { .. } => "settle",
        Operation::Refund { .. } => "refund",
        Operation::Grant(_) => "grant",
        Operation::Override(_) => "override",
        _ => "account",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decisions::tests::check;
    use cellar_model::TryAgain;

    const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_happened_is_a_tree_under_the_requests_span_and_names_who_shared_the_commit() {
        let (origin, asked) = (Origin::parse(CALLER).unwrap(), Instant::now());
        let after = |us: u64| asked + Duration::from_micros(us);
        let mut moments = Moments::new(asked).sampled();
        let me = (origin.trace, moments.span.unwrap());
        let other = (TraceId(7), SpanId(8));
        moments.loaded(false, after(5), after(105));
        moments.decided(2, after(110), after(112));
        let batch = Batch { shard: 3, users: 2, checks: 3, on_postgres: false };
        moments.committed(batch, Some(&vec![me, other].into()), after(113), after(900));
        let verdict = Verdict::try_again(TryAgain::Unknown);
        let operation = operation(&Operation::Consume);
        let told = Told { origin: &origin, remote: true, operation, verdict: &verdict, why: None, ended: after(950) };
        let spans = moments.spans(&told);
        let names: Vec<_> = spans.iter().map(|span| span.name).collect();
        assert_eq!(names, ["quota.decide", "quota.decide", "policy.call", "store.commit"]);
        assert_eq!(spans[0].parent, Some(origin.span));
        assert!(spans[1..].iter().all(|span| span.parent == Some(spans[0].id) && span.trace == origin.trace));
        assert_eq!((spans[2].began, spans[2].ended), (after(110), after(112)));
        assert_eq!(spans[3].links, [other]);
        assert!(spans[0].attributes.contains(&("cellar.wait_us", Value::Number(110))));
    }

    #[test]
    fn one_sampled_check_is_enough_for_an_exemplar_and_others_are_not_named() {
        let checks = [check("r-1"), check("r-2")];
        let [sampled, not] = [Moments::new(Instant::now()).sampled(), Moments::new(Instant::now())];
        let named = links(checks.iter().zip([&sampled, &not])).unwrap();
        assert_eq!(named.iter().map(|(_, span)| Some(*span)).collect::<Vec<_>>(), [sampled.span]);
        assert!(links(checks.iter().zip([&not, &not])).is_none());
    }

    #[test]
    fn what_did_not_happen_is_not_there() {
        let (origin, asked) = (Origin::parse(CALLER).unwrap(), Instant::now());
        let verdict = Verdict::try_again(TryAgain::Overloaded);
        let (operation, why) = (operation(&Operation::Consume), verdict.trouble());
        let told = Told { origin: &origin, remote: true, operation, verdict: &verdict, why, ended: asked };
        let spans = Moments::new(asked).spans(&told);
        assert_eq!((spans.len(), spans[0].failed), (1, Some("error")));
    }
}
