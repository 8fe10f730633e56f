//! Everything but checks: handed on as it came, to the user's home, under headers we wrote.

use crate::app::App;
use crate::cell::{Cell, HttpClient};
use crate::trail::{Step, Trail};
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cellar_model::{
    CellName, DeadlineMs, Epoch, Problem, ProblemType, Refusal, Scope, TryAgain, UserId, header as ours, wire,
};
use cellar_server::{Caller, HttpProblem, front, limits, read_body, server_timing, telemetry};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use http_body::Body as _;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument;

/// Bodies up to this long are kept, so that they can be sent again to another cell.
const REPEATABLE_BYTES_MAX: u64 = 64 * 1024;
/// A 421 or 423 is a short problem document; it is read so that its connection can be used again.
const REDIRECT_BYTES_MAX: usize = 64 * 1024;
/// Headers about one connection, not about the request (RFC 9110, 7.6.1), and `Host`, which is ours.
const HOP_BY_HOP: [&str; 11] = [
    "connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te",
    "trailer", "transfer-encoding", "upgrade", "expect", "host",
];
/// Words between cell and router.
const INTERNAL: [&str; 2] = [ours::HOME, "cellar-instance"];

/// A request on its way out.
pub(crate) struct Outgoing {
    pub(crate) method: Method,
    /// Path and query.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: OutBody,
    pub(crate) until: Instant,
}

pub(crate) enum OutBody {
    Whole(Bytes),
    /// Longer: goes out once.
    Stream(Option<Body>),
}

/// Why a request has no answer.
enum SendError {
    NotSent,
    Lost,
    Overloaded,
}

impl App {
    /// A request about the user that its credential names, handed to that user's home.
    pub(crate) async fn forward(&self, route: &'static str, scope: Scope, request: Request) -> Response {
        self.timed(route, request, |request| self.hand_on(scope, request)).await
    }

    /// Counts, times and traces what `answer` does with a request.
    pub(crate) async fn timed<F>(&self, route: &'static str, request: Request, answer: impl FnOnce(Request) -> F) -> Response
    where
        F: Future<Output = Result<Response, Problem>>,
    {
        let began = Instant::now();
        let span = telemetry::request_span(request.headers());
        let answered = answer(request).instrument(span).await;
        let mut response = answered.unwrap_or_else(|problem| HttpProblem(problem).into_response());
        let elapsed = began.elapsed();
        self.http_metrics.request(route, response.status().as_u16(), elapsed);
        server_timing(response.headers_mut(), elapsed);
        response
    }

    async fn hand_on(&self, scope: Scope, request: Request) -> Result<Response, Problem> {
        let (mut head, body) = request.into_parts();
        let admitted = front::admit(&self.keys, &mut head.headers, DeadlineMs::STANDARD)?;
        if !matches!(admitted.caller, Caller::Session { .. }) {
            admitted.caller.require(scope)?;
        }
        let user = admitted.user.ok_or_else(|| {
            Problem::new(ProblemType::Invalid).detail("name the user in the header Cellar-User")
        })?;
        let outgoing = Outgoing {
            target: head.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
            method: head.method,
            headers: end_to_end(head.headers),
            body: OutBody::of(body).await?,
            until: Instant::now() + admitted.deadline.duration(),
        };
        let world = self.world().ok_or_else(not_ready)?;
        let trail = self.begin(&world, &user).ok_or_else(not_ready)?;
        self.send_along(trail, &user, outgoing).await
    }

    /// Sends until a cell serves the user, or the way ends.
    pub(crate) async fn send_along(
        &self,
        mut trail: Trail,
        user: &UserId,
        mut outgoing: Outgoing,
    ) -> Result<Response, Problem> {
        loop {
            let step = match send(&trail.cell, &mut outgoing).await {
                Ok(response) if response.status() == StatusCode::MISDIRECTED_REQUEST => {
                    let home = home(response.headers());
                    finish(response, outgoing.until).await;
                    self.misdirected(&mut trail, user, home, outgoing.until).await
                }
                Ok(response) if response.status() == StatusCode::LOCKED => {
                    finish(response, outgoing.until).await;
                    self.frozen(&trail, outgoing.until).await
                }
                Ok(response) => return Ok(response),
                Err(SendError::NotSent) => self.down(&mut trail, user, outgoing.until).await,
                Err(SendError::Lost) => return Err(try_again(TryAgain::Unknown)),
                Err(SendError::Overloaded) => return Err(try_again(TryAgain::Overloaded)),
            };
            match step {
                Step::GiveUp(refusal) => return Err(problem(&refusal)),
                Step::Again if !outgoing.repeatable() => return Err(try_again(TryAgain::NotReady)),
                Step::Again if Instant::now() >= outgoing.until => return Err(try_again(TryAgain::Deadline)),
                Step::Again => {}
            }
        }
    }
}

impl App {
    /// Sends to this cell and no other.
    pub(crate) async fn send_once(&self, cell: &Cell, outgoing: &mut Outgoing) -> Result<Response, Problem> {
        send(cell, outgoing).await.map_err(|error| match error {
            SendError::NotSent => try_again(TryAgain::CellDown),
            SendError::Lost => try_again(TryAgain::Unknown),
            SendError::Overloaded => try_again(TryAgain::Overloaded),
        })
    }
}

impl OutBody {
    /// Kept if it is short and says so; else it streams, within the limit of all bodies.
    pub(crate) async fn of(body: Body) -> Result<Self, Problem> {
        match body.size_hint().upper() {
            Some(bytes) if bytes <= REPEATABLE_BYTES_MAX => Ok(OutBody::Whole(read_body(body).await?)),
            Some(bytes) if bytes > limits::BODY_MAX as u64 => Err(Problem::new(ProblemType::TooLarge)
                .detail(format!("a body may have {} bytes", limits::BODY_MAX))),
            _ => Ok(OutBody::Stream(Some(Body::new(Limited::new(body, limits::BODY_MAX))))),
        }
    }
}

impl Outgoing {
    /// Whether it can still be sent.
    fn repeatable(&self) -> bool {
        !matches!(self.body, OutBody::Stream(None))
    }

    fn request(&mut self, address: &str) -> Option<Request> {
        let uri: Uri = format!("http://{address}{}", self.target).parse().ok()?;
        let mut request = Request::new(match &mut self.body {
            OutBody::Whole(bytes) => Body::from(bytes.clone()),
            OutBody::Stream(body) => body.take()?,
        });
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers.clone();
        let left = self.until.saturating_duration_since(Instant::now());
        let left_ms = DeadlineMs::new(u64::try_from(left.as_millis()).unwrap_or(u64::MAX)).get();
        let headers = request.headers_mut();
        headers.insert(HeaderName::from_static(ours::DEADLINE_MS), left_ms.into());
        let span = tracing::Span::current();
        if !span.is_disabled() {
            telemetry::inject(&span, headers);
        }
        Some(request)
    }
}

async fn send(cell: &Cell, outgoing: &mut Outgoing) -> Result<Response, SendError> {
    if !cell.breaker.allows() {
        return Err(SendError::NotSent);
    }
    let place = cell.forwards.clone().try_acquire_owned().map_err(|_| SendError::Overloaded)?;
    // No body left to send, or an address of a topology that names no host.
    let request = outgoing.request(cell.address()).ok_or(SendError::NotSent)?;
    match exchange(&cell.http, request, outgoing.until).await {
        Ok(response) => {
            cell.breaker.succeeded();
            Ok(incoming(response, place))
        }
        Err(error) => {
            if let SendError::NotSent = error {
                cell.breaker.failed();
            }
            Err(error)
        }
    }
}

async fn exchange(http: &HttpClient, request: Request, until: Instant) -> Result<http::Response<Incoming>, SendError> {
    match timeout_at(until, http.request(request)).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) if error.is_connect() => Err(SendError::NotSent),
        Ok(Err(_)) | Err(_) => Err(SendError::Lost),
    }
}

/// A cell's answer as ours. Its place among the cell's forwards is free when its body has ended.
fn incoming(response: http::Response<Incoming>, place: OwnedSemaphorePermit) -> Response {
    let (mut head, body) = response.into_parts();
    for name in HOP_BY_HOP {
        head.headers.remove(name);
    }
    let body = body.map_frame(move |frame| {
        let _held = &place;
        frame
    });
    Response::from_parts(head, Body::new(body))
}

/// Drops what is about the caller's connection, and words that only cells may say.
pub(crate) fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|names| names.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        // Naming ours as of the connection would take off what we wrote.
        if !name.as_str().starts_with("cellar-") {
            headers.remove(name);
        }
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    headers
}

/// What the 421 says: `Cellar-Home: <cell>; epoch=<n>`.
pub(crate) fn home(headers: &HeaderMap) -> Option<(CellName, Epoch)> {
    wire::parse_home_header(headers.get(ours::HOME)?.to_str().ok()?)
}

/// Reads what is left of an answer, so that its connection can be used again.
async fn finish(response: Response, until: Instant) {
    let body = Limited::new(response.into_body(), REDIRECT_BYTES_MAX);
    let _ = timeout_at(until.min(Instant::now() + Duration::from_millis(200)), body.collect()).await;
}

/// Only what a trail ends with.
pub(crate) fn problem(refusal: &Refusal) -> Problem {
    match refusal {
        Refusal::UnknownUser => Problem::new(ProblemType::UnknownUser),
        Refusal::TryAgain { reason } => try_again(*reason),
        _ => Problem::new(ProblemType::TryAgain),
    }
}

pub(crate) fn try_again(reason: TryAgain) -> Problem {
    Problem::new(ProblemType::TryAgain).detail(reason.label())
}

pub(crate) fn not_ready() -> Problem {
    try_again(TryAgain::NotReady)
}

/// A header of ours, as the cell reads it.
pub(crate) fn write(headers: &mut HeaderMap, name: &'static str, value: &str) {
    // Names and ids: always plain characters.
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// An answer as it leaves: without the words between cells and routers.
pub(crate) fn for_caller(mut response: Response) -> Response {
    for name in INTERNAL {
        response.headers_mut().remove(name);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_a_connection_stay_behind_and_ours_cannot_be_named_away() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-mine, cellar-user"),
            ("x-mine", "1"),
            ("cellar-user", "alice"),
            ("te", "trailers"),
            ("host", "a"),
            ("accept", "*/*"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        let headers = end_to_end(headers);
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["accept", "cellar-user"]);
    }
}
