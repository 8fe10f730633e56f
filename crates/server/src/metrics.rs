//! What every HTTP service of ours counts.

use crate::route_names;
use crate::verdict::{self, VERDICTS};
use cellar_metrics::{Latency, TraceLabel, latency};
use cellar_model::{Degraded, Refusal, TryAgain, Verdict, header as ours};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::sync::Arc;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteStatus {
    route: &'static str,
    status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    route: &'static str,
}

type Word = [(&'static str, &'static str); 1];

/// Counters by a word, each at 0 from the start and found without a hash or a lock: there are few, and at a cell that
/// need not flush each answer is counted under one.
#[derive(Clone)]
struct Words(Arc<[(&'static str, Counter)]>);

impl Words {
    fn of(label: &'static str, words: impl IntoIterator<Item = &'static str>, family: &Family<Word, Counter>) -> Self {
        Self(words.into_iter().map(|word| (word, family.get_or_create_owned(&[(label, word)]))).collect())
    }

    /// A word that is none of them is not counted: a cell of another build may have one that is new.
    fn inc(&self, word: &[u8]) {
        if let Some((_, counter)) = self.0.iter().find(|(known, _)| known.as_bytes() == word) {
            counter.inc();
        }
    }
}

/// What almost every answer of a route is counted under.
struct RouteSeries {
    route: &'static str,
    ok: Counter,
    seconds: Latency,
}

/// At 0 from the start of each route: an answer, and those that spend the error budget. A series that began with
/// its first failure would hide it, for a rate needs two values.
const STATUSES: [u16; 3] = [200, 500, 503];

/// What `Cellar-Degraded` says of answers that are no verdicts.
const DEGRADED_READS: [&str; 3] = ["cache", "journal", "stale"];

/// Why a request was turned away although nothing was wrong with it: too many others were there. Beside the
/// answer that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// Too many checks wait for the user's shard, or too much for his cell or the directory.
    Queue,
    /// Too many passwords wait to be hashed.
    Passwords,
}

impl Shed {
    const ALL: [Shed; 2] = [Shed::Queue, Shed::Passwords];

    fn label(self) -> &'static str {
        match self {
            Shed::Queue => "queue",
            Shed::Passwords => "passwords",
        }
    }
}

/// Cheap to clone; all clones count together.
#[derive(Clone)]
pub struct HttpMetrics {
    requests: Family<RouteStatus, Counter>,
    routes: Arc<[RouteSeries]>,
    /// Looked up once: a batch has up to a thousand.
    verdicts: [Counter; VERDICTS.len()],
    unknowns: Words,
    degraded: Words,
    shed: Words,
    in_flight: Gauge,
    in_flight_max: Gauge,
}

impl HttpMetrics {
    /// Registers every series, each at 0 from the start.
    pub fn register(registry: &mut Registry) -> Self {
        let [verdicts, unknowns, degraded, shed] = std::array::from_fn(|_| Family::<Word, Counter>::default());
        let requests = Family::<RouteStatus, Counter>::default();
        let seconds = Family::<Route, Latency, fn() -> Latency>::new_with_constructor(latency);
        let series = |route| {
            for status in STATUSES.map(status_label) {
                let _ = requests.get_or_create(&RouteStatus { route, status });
            }
            let ok = requests.get_or_create_owned(&RouteStatus { route, status: status_label(200) });
            RouteSeries { route, ok, seconds: seconds.get_or_create_owned(&Route { route }) }
        };
        let degraded_words = Degraded::ALL.map(Degraded::label).into_iter().chain(DEGRADED_READS);
        let metrics = Self {
            routes: route_names::all().into_iter().map(series).collect(),
            requests: requests.clone(),
            verdicts: VERDICTS.map(|verdict| verdicts.get_or_create_owned(&[("verdict", verdict)])),
            unknowns: Words::of("reason", TryAgain::ALL.map(TryAgain::label), &unknowns),
            degraded: Words::of("how", degraded_words, &degraded),
            shed: Words::of("reason", Shed::ALL.map(Shed::label), &shed),
            in_flight: Gauge::default(),
            in_flight_max: Gauge::default(),
        };
        registry.register("cellar_requests", "Requests answered, by route and status", requests);
        let help = "From a request's arrival to its answer";
        registry.register_with_unit("cellar_request", help, Unit::Seconds, seconds);
        registry.register("cellar_verdicts", "Checks decided, by verdict", verdicts);
        registry.register("cellar_unknowns", "Checks answered 503, by reason", unknowns);
        registry.register("cellar_degraded_answers", "Answers that say Cellar-Degraded, by what it says", degraded);
        let help = "Requests and checks turned away because too many others were there, by where";
        registry.register("cellar_shed_requests", help, shed);
        let help = "Requests that have come and are not answered";
        registry.register("cellar_in_flight_requests", help, metrics.in_flight.clone());
        let help = "The most requests that can be in flight, 0 where no listener is counted: one a connection";
        registry.register("cellar_in_flight_requests_max", help, metrics.in_flight_max.clone());
        metrics
    }

    /// How many requests the listener that is counted can have at once.
    pub(crate) fn takes_at_most(&self, requests: usize) {
        self.in_flight_max.set(i64::try_from(requests).unwrap_or(i64::MAX));
    }

    /// A request has come; it is in flight as long as this is held.
    pub(crate) fn came(&self) -> InFlight<'_> {
        self.in_flight.inc();
        InFlight(&self.in_flight)
    }

    /// An answer leaves.
    pub(crate) fn answered<B>(
        &self,
        route: &'static str,
        response: &http::Response<B>,
        elapsed: Duration,
        trace: Option<TraceLabel>,
    ) {
        let known = self.routes.iter().find(|known| known.route == route);
        match known.filter(|_| response.status() == http::StatusCode::OK) {
            Some(known) => {
                known.ok.inc();
            }
            None => {
                let status = status_label(response.status().as_u16());
                self.requests.get_or_create(&RouteStatus { route, status }).inc();
            }
        }
        if let Some(known) = known {
            known.seconds.observe(elapsed.as_secs_f64(), trace, None);
        }
        if let Some(how) = response.headers().get(ours::DEGRADED) {
            self.degraded.inc(how.as_bytes());
        }
        if let Some(shed) = response.extensions().get::<Shed>() {
            self.shed.inc(shed.label().as_bytes());
        }
    }

    /// A check is decided.
    pub fn verdict(&self, verdict: &Verdict) {
        self.verdicts[verdict::place(verdict)].inc();
        if let Verdict::Refused(Refusal::TryAgain { reason }) = verdict {
            self.unknowns.inc(reason.label().as_bytes());
        }
    }

    /// The same of one of many whose answer is a list: what a single one's own answer would say in its head is
    /// counted here.
    pub fn verdict_of_many(&self, verdict: &Verdict) {
        self.verdict(verdict);
        if let Some(degraded) = verdict::degraded(verdict) {
            self.degraded.inc(degraded.label().as_bytes());
        }
        if matches!(verdict, Verdict::Refused(Refusal::TryAgain { reason: TryAgain::Overloaded })) {
            self.shed.inc(Shed::Queue.label().as_bytes());
        }
    }
}

/// A request that is not answered yet; one whose caller goes away is in flight no longer.
pub(crate) struct InFlight<'m>(&'m Gauge);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A status that somebody of ours answers with; others are counted together, for a cell of another build, or
/// whoever stands at its address, may answer with any.
fn status_label(status: u16) -> &'static str {
    macro_rules! labels {
        ($($status:literal)*) => { match status { $($status => stringify!($status),)* _ => "other" } };
    }
    labels!(200 201 202 204 304 400 401 403 404 405 408 409 411 412 413 415 421 422 423 428 429 431 500 502 503 504)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::Hot;
    use prometheus_client::encoding::text::encode;

    fn text(registry: &Registry) -> String {
        let mut text = String::new();
        encode(&mut text, registry).unwrap();
        text
    }

    #[test]
    fn whatever_is_answered_there_are_only_so_many_series() {
        let mut registry = Registry::default();
        let metrics = HttpMetrics::register(&mut registry);
        for status in 100..1_000 {
            let mut response = http::Response::new(());
            *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
            response.headers_mut().insert(ours::DEGRADED, http::HeaderValue::from(status));
            metrics.answered("profile", &response, Duration::from_millis(1), None);
        }
        let text = text(&registry);
        let statuses = text.lines().filter(|line| line.contains("cellar_requests_total{route=\"profile\"")).count();
        assert_eq!(statuses, 27, "26 known ones, and all others together");
        assert!(text.contains("{route=\"profile\",status=\"other\"} 874\n"), "{text}");
        assert!(!text.contains("how=\"100\""));
    }

    #[test]
    fn every_route_that_is_answered_has_its_series() {
        let metrics = HttpMetrics::register(&mut Registry::default());
        for route in [Hot::Consume, Hot::Admit].map(Hot::name).into_iter().chain([route_names::OTHER]) {
            assert!(metrics.routes.iter().any(|known| known.route == route), "{route}");
        }
    }

    #[test]
    fn an_answer_is_counted_by_what_it_says() {
        let mut registry = Registry::default();
        let metrics = HttpMetrics::register(&mut registry);
        let mut response = http::Response::new(());
        response.headers_mut().insert(ours::DEGRADED, http::HeaderValue::from_static("stale"));
        response.extensions_mut().insert(Shed::Passwords);
        let in_flight = metrics.came();
        metrics.answered("preferences", &response, Duration::from_millis(30), Some(TraceLabel(7)));
        let during = text(&registry);
        drop(in_flight);
        for line in [
            "cellar_degraded_answers_total{how=\"stale\"} 1",
            "cellar_degraded_answers_total{how=\"postgres\"} 0",
            "cellar_shed_requests_total{reason=\"passwords\"} 1",
            "cellar_in_flight_requests 1",
            "cellar_request_seconds_bucket{le=\"0.05\",route=\"preferences\"} 1 # {trace_id=\"00000000000000000000000000000007\"} 0.03",
        ] {
            assert!(during.lines().any(|one| one == line), "{line} is not in\n{during}");
        }
        assert!(text(&registry).contains("cellar_in_flight_requests 0\n"));
    }
}
