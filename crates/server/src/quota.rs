//! The quota routes, over anyone who decides.

use crate::body::{parse_json, read_body};
use crate::caller::Enrolment;
use crate::front;
use crate::keys::Keys;
use crate::metrics::HttpMetrics;
use crate::operate;
use crate::operations::{self, Asked};
use crate::problem::HttpProblem;
use crate::verdict::{SessionOf, batch_item, response_of};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cellar_model::wire::{BATCH_CHECKS_MAX, BatchBody, ConsumeBody};
use cellar_model::{
    ATTRIBUTES_MAX, Check, Cost, DeadlineMs, IDEMPOTENCY_KEY_MAX, Micros, Operation, Problem, ProblemType, Refusal,
    Scope, SettingProblem, TryAgain, Verdict, header as ours,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body_util::Full;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Between two questions about a charge that is not in the ledger yet: a drain gathers for 50 ms.
const UNDRAINED_PAUSE: Duration = Duration::from_millis(20);
/// The most bytes an attribute's name or value may have.
const ATTRIBUTE_BYTES_MAX: usize = 64;

/// Who decides checks: the router's forwarder, or the cell's engine.
///
/// **Contract:** one verdict a check, in their order.
pub trait Decider: Clone + Send + Sync + 'static {
    fn decide(&self, checks: Vec<Check>) -> impl Future<Output = Vec<Verdict>> + Send;

    /// The same for a caller whose first sight of a user is a sign-up. Who cannot tell that a user is nowhere
    /// answers as ever.
    fn decide_or_enrol(&self, checks: Vec<Check>, _by: Enrolment) -> impl Future<Output = Vec<Verdict>> + Send {
        self.decide(checks)
    }
}

/// A check, and what becomes of its user if there is none.
struct Question {
    check: Check,
    enrol: Option<Enrolment>,
}

/// What an application asks for each of its own requests. These go past the framework.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hot {
    Consume,
    Admit,
}

impl Hot {
    pub(crate) fn at(method: &Method, path: &str) -> Option<Self> {
        match path {
            _ if method != Method::POST => None,
            "/v1/internal/quota/consume" => Some(Hot::Consume),
            "/v1/internal/admit" => Some(Hot::Admit),
            _ => None,
        }
    }

    /// As it is counted.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Hot::Consume => "consume",
            Hot::Admit => "admit",
        }
    }
}

/// The routes under `/v1/internal/quota/`, admit, and a user's override.
#[derive(Clone)]
pub struct QuotaApi<D> {
    decider: D,
    keys: Keys,
    metrics: HttpMetrics,
}

impl<D: Decider> QuotaApi<D> {
    pub fn new(decider: D, keys: Keys, metrics: HttpMetrics) -> Self {
        Self { decider, keys, metrics }
    }

    pub(crate) fn metrics(&self) -> &HttpMetrics {
        &self.metrics
    }

    pub fn routes(&self) -> OpenApiRouter {
        let api: Routed = Arc::new(self.clone());
        OpenApiRouter::new()
            .routes(routes!(consume))
            .routes(routes!(batch))
            .routes(routes!(operate::admit))
            .routes(routes!(operate::reserve))
            .routes(routes!(operate::settle))
            .routes(routes!(operate::refund))
            .routes(routes!(operate::grant))
            .routes(routes!(operate::override_slot))
            .with_state(api)
    }

    /// The hot routes, without a framework around them: their callers hand over headers and body.
    pub(crate) async fn hot(&self, hot: Hot, headers: &HeaderMap, body: Bytes) -> http::Response<Full<Bytes>> {
        match hot {
            Hot::Consume => {
                let read = |body: &[u8], asked: &Asked<'_>| consumed(headers, body, asked);
                self.decide_one(self.operation(headers, &body, read)).await
            }
            Hot::Admit => {
                let read = |body: &[u8], asked: &Asked<'_>| operations::admit(&self.keys.mac(), body, asked);
                self.decide_one(self.operation(headers, &body, read)).await
            }
        }
    }

    async fn decide_one(&self, question: Result<Question, Problem>) -> http::Response<Full<Bytes>> {
        let began = Instant::now();
        let mut response = match question {
            Ok(question) => {
                let of = SessionOf::check(&question.check);
                let verdict = self.decide_known(question).await;
                self.metrics.verdict(&verdict);
                response_of(&verdict, of.as_ref())
            }
            Err(problem) => HttpProblem(problem).into_http(),
        };
        server_timing(response.headers_mut(), began.elapsed());
        response
    }

    /// A verdict that is not "not yet": what closes a charge may be asked before the ledger has it.
    async fn decide_known(&self, question: Question) -> Verdict {
        let Question { mut check, enrol } = question;
        if check.operation.closes().is_none() {
            return only(self.ask(vec![check], enrol).await);
        }
        let until = tokio::time::Instant::now() + check.deadline.duration();
        loop {
            let verdict = only(self.ask(vec![check.clone()], None).await);
            if !matches!(verdict, Verdict::Refused(Refusal::Undrained { .. })) {
                return verdict;
            }
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            if left <= UNDRAINED_PAUSE {
                return Verdict::try_again(TryAgain::Undrained);
            }
            tokio::time::sleep(UNDRAINED_PAUSE).await;
            check.deadline = DeadlineMs::new((left - UNDRAINED_PAUSE).as_millis() as u64);
        }
    }

    async fn ask(&self, checks: Vec<Check>, enrol: Option<Enrolment>) -> Vec<Verdict> {
        match enrol {
            None => self.decider.decide(checks).await,
            Some(by) => self.decider.decide_or_enrol(checks, by).await,
        }
    }

    /// A check made by `read` of a body, as the one caller asks it who may.
    fn operation(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        read: impl FnOnce(&[u8], &Asked<'_>) -> Result<Check, Problem>,
    ) -> Result<Question, Problem> {
        let caller = self.keys.authenticate(headers)?;
        caller.require(Scope::Quota)?;
        let key = idempotency_key(headers)?;
        let deadline = front::deadline(headers, DeadlineMs::QUOTA)?;
        let check = read(body, &Asked { caller: &caller.name(), key: key.as_deref(), deadline })?;
        Ok(Question { check, enrol: caller.enrolment() })
    }

    async fn decide_batch(&self, headers: &HeaderMap, body: &[u8]) -> Result<serde_json::Value, Problem> {
        let caller = self.keys.authenticate(headers)?;
        caller.require(Scope::Quota)?;
        let key = idempotency_key(headers)?;
        let deadline = front::deadline(headers, DeadlineMs::QUOTA)?;
        let body: BatchBody = parse_json(body)?;
        if body.checks.len() > BATCH_CHECKS_MAX {
            return Err(invalid("/checks", &format!("at most {BATCH_CHECKS_MAX} checks")));
        }
        let (mut checks, mut errors) = (Vec::with_capacity(body.checks.len()), Vec::new());
        let name = caller.name();
        for (n, mut item) in body.checks.into_iter().enumerate() {
            let at = format!("/checks/{n}");
            let own = item.idempotency_key.take();
            if own.as_ref().is_some_and(|own| !is_key(own)) {
                errors.push(SettingProblem::new(&format!("{at}/idempotency_key"), &key_rule()));
            }
            let key = own.or_else(|| key.as_ref().map(|key| format!("{key}/{n}")));
            match check(item, &at, &Asked { caller: &name, key: key.as_deref(), deadline }) {
                Ok(check) => checks.push(check),
                Err(problem) => errors.extend(problem.errors),
            }
        }
        if !errors.is_empty() {
            return Err(Problem::new(ProblemType::Invalid).errors(errors));
        }
        let verdicts = self.ask(checks, caller.enrolment()).await;
        // The whole is a 200 whatever became of its items.
        if let Some(why) = verdicts.iter().find_map(Verdict::trouble) {
            cellar_trace::worth(why);
        }
        let results = verdicts.iter().inspect(|verdict| self.metrics.verdict_of_many(verdict)).map(batch_item);
        Ok(serde_json::json!({ "results": results.collect::<Vec<_>>() }))
    }
}

/// The routes as the framework sees them: its route macro takes no type parameters, so the decider is
/// hidden here. The hot routes do not pass by this way.
pub(crate) trait QuotaRoutes: Send + Sync {
    fn hot(&self, hot: Hot, request: Request) -> Answering<'_>;
    fn batch(&self, request: Request) -> Answering<'_>;
    /// Any of the others: a body that `read` makes a check of.
    fn operate<'a>(&'a self, request: Request, read: operations::Read) -> Answering<'a>;
}

pub(crate) type Routed = Arc<dyn QuotaRoutes>;
pub(crate) type Answering<'a> = Pin<Box<dyn Future<Output = Response> + Send + 'a>>;

impl<D: Decider> QuotaRoutes for QuotaApi<D> {
    fn hot(&self, hot: Hot, request: Request) -> Answering<'_> {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            match read_body(body).await {
                Ok(body) => QuotaApi::hot(self, hot, &parts.headers, body).await.map(axum::body::Body::new),
                Err(problem) => HttpProblem(problem).into_response(),
            }
        })
    }

    fn operate<'a>(&'a self, request: Request, read: operations::Read) -> Answering<'a> {
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let question = read_body(body).await.and_then(|body| self.operation(&parts.headers, &body, read));
            self.decide_one(question).await.map(axum::body::Body::new)
        })
    }

    fn batch(&self, request: Request) -> Answering<'_> {
        Box::pin(async move {
            let began = Instant::now();
            let (parts, body) = request.into_parts();
            let answer = match read_body(body).await {
                Ok(body) => self.decide_batch(&parts.headers, &body).await,
                Err(problem) => Err(problem),
            };
            let mut response = match answer {
                Ok(results) => axum::Json(results).into_response(),
                Err(problem) => HttpProblem(problem).into_response(),
            };
            server_timing(response.headers_mut(), began.elapsed());
            response
        })
    }
}

/// Decide one check, and charge it if it is admitted
#[utoipa::path(post, path = "/v1/internal/quota/consume")]
async fn consume(State(api): State<Routed>, request: Request) -> Response {
    api.hot(Hot::Consume, request).await
}

/// Decide up to 1,000 checks, each by itself, in order
#[utoipa::path(post, path = "/v1/internal/quota/batch")]
async fn batch(State(api): State<Routed>, request: Request) -> Response {
    api.batch(request).await
}

fn only(mut verdicts: Vec<Verdict>) -> Verdict {
    verdicts.pop().unwrap_or_else(|| Verdict::try_again(TryAgain::Unknown))
}

pub(crate) fn invalid(pointer: &str, message: &str) -> Problem {
    Problem::new(ProblemType::Invalid).errors(vec![SettingProblem::new(pointer, message)])
}

/// The body of a single check, whose user and key may stand in headers.
fn consumed(headers: &HeaderMap, body: &[u8], asked: &Asked<'_>) -> Result<Check, Problem> {
    let mut body: ConsumeBody = parse_json(body)?;
    match (&body.user_id, front::named_user(headers)?) {
        (Some(user), Some(named)) if *user != named => {
            return Err(invalid("/user_id", "the header names another user"));
        }
        (Some(_), _) => {}
        (None, named) => body.user_id = named,
    }
    if body.idempotency_key.is_some() {
        return Err(invalid("/idempotency_key", "stands in the header Idempotency-Key, but for batch items"));
    }
    check(body, "", asked)
}

/// What a body asks, its members checked; `at` is where the body stands in the request. Every problem
/// names its member: a batch collects them.
fn check(body: ConsumeBody, at: &str, asked: &Asked<'_>) -> Result<Check, Problem> {
    let attributes = body.attributes();
    let Some(user) = body.user_id else {
        return Err(invalid(&format!("{at}/user_id"), "names the user, and is missing"));
    };
    check_attributes(&attributes, at)?;
    let policy_time = policy_time(body.at_us, at)?;
    let cost = body.cost.unwrap_or_else(Cost::one_request);
    let key = asked.key_of("consume", &user, &(&cost, &attributes, policy_time));
    let (operation, deadline) = (Operation::Consume, asked.deadline);
    Ok(Check { user, operation, cost, attributes, key, at: policy_time, deadline, session: None, origin: None })
}

pub(crate) fn check_attributes(attributes: &[cellar_model::Attribute], at: &str) -> Result<(), Problem> {
    if attributes.len() > ATTRIBUTES_MAX {
        return Err(invalid(&format!("{at}/attributes"), &format!("at most {ATTRIBUTES_MAX} attributes")));
    }
    let long = |a: &&cellar_model::Attribute| a.name.len().max(a.value.len()) > ATTRIBUTE_BYTES_MAX;
    if let Some(attribute) = attributes.iter().find(long) {
        let name: String = attribute.name.chars().take(16).collect();
        return Err(invalid(&format!("{at}/attributes/{name}"), "at most 64 bytes each for name and value"));
    }
    Ok(())
}

pub(crate) fn policy_time(at_us: Option<u64>, at: &str) -> Result<Option<Micros>, Problem> {
    match at_us {
        Some(us) if us > Micros::MAX.0 => Err(invalid(&format!("{at}/at_us"), "is beyond the calendar")),
        us => Ok(us.map(Micros)),
    }
}

fn is_key(key: &str) -> bool {
    (1..=IDEMPOTENCY_KEY_MAX).contains(&key.len())
}

fn key_rule() -> String {
    format!("an idempotency key has 1 to {IDEMPOTENCY_KEY_MAX} bytes")
}

/// The header `Idempotency-Key`: quoted as the draft has it (a structured-field string), or bare.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(ours::IDEMPOTENCY_KEY) else { return Ok(None) };
    let odd = || Problem::new(ProblemType::Malformed).detail("Idempotency-Key is not a string");
    let text = value.to_str().map_err(|_| odd())?.trim();
    let key = match text.strip_prefix('"') {
        Some(rest) => unquote(rest.strip_suffix('"').ok_or_else(odd)?).ok_or_else(odd)?,
        None => text.to_owned(),
    };
    if !is_key(&key) {
        return Err(Problem::new(ProblemType::Invalid).detail(key_rule()));
    }
    Ok(Some(key))
}

/// The inside of a structured-field string: `\"` and `\\` are its only escapes (RFC 9651, 3.3.3).
fn unquote(inside: &str) -> Option<String> {
    let mut key = String::with_capacity(inside.len());
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => key.push(chars.next().filter(|c| matches!(c, '"' | '\\'))?),
            '"' => return None,
            c => key.push(c),
        }
    }
    Some(key)
}

/// `Server-Timing: route;dur=…`, in milliseconds.
pub fn server_timing(headers: &mut HeaderMap, elapsed: Duration) {
    let value = format!("route;dur={:.3}", elapsed.as_secs_f64() * 1e3);
    if let Ok(value) = HeaderValue::from_str(&value) {
        headers.insert(HeaderName::from_static("server-timing"), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(value: &str) -> Result<Option<String>, Problem> {
        let mut headers = HeaderMap::new();
        headers.insert("idempotency-key", HeaderValue::from_str(value).unwrap());
        idempotency_key(&headers)
    }

    #[test]
    fn a_key_is_the_same_quoted_or_bare() {
        assert_eq!(key("abc-1").unwrap(), Some("abc-1".into()));
        assert_eq!(key("\"abc-1\"").unwrap(), Some("abc-1".into()));
        assert_eq!(key(r#""a\"b\\c""#).unwrap(), Some("a\"b\\c".into()));
        for bad in ["", "\"\"", "\"a", r#""a"b""#, r#""a\x""#] {
            assert!(key(bad).is_err(), "{bad}");
        }
        assert!(key(&"k".repeat(201)).is_err());
    }

    #[test]
    fn the_body_of_a_key_is_what_was_asked_not_how_it_was_spelled() {
        let caller = cellar_model::KeyName::new("app").unwrap();
        let asked = Asked { caller: &caller, key: Some("k"), deadline: DeadlineMs::QUOTA };
        let make = |json: &str| {
            let body: ConsumeBody = parse_json(json.as_bytes()).unwrap();
            check(body, "", &asked).unwrap().key.unwrap()
        };
        assert_eq!(make(r#"{"user_id":"u","cost":{"tokens":5,"requests":1}}"#), make(r#"{"cost":5,"user_id":"u"}"#));
        assert_ne!(make(r#"{"user_id":"u","cost":5}"#).body, make(r#"{"user_id":"u","cost":6}"#).body);
    }
}
