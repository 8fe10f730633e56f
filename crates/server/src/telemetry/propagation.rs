//! Whose request a request is, as its headers say, and as ours say to whoever is asked next.

use cellar_model::{Origin, RequestId, header};
use cellar_trace::{Begun, Hop, Outcome, Tracer};
use http::{HeaderMap, HeaderName, HeaderValue, Response};

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const OURS: HeaderName = HeaderName::from_static(header::REQUEST_ID);
/// What others call it.
const THEIRS: HeaderName = HeaderName::from_static("x-request-id");

/// How a listener's requests are traced and named.
#[derive(Clone)]
pub struct RequestTracing {
    tracer: Tracer,
    door: bool,
}

impl RequestTracing {
    /// Of a front door: the request is `route.forward`, and its answer says by which id it can be found.
    pub fn door(tracer: Tracer) -> Self {
        Self { tracer, door: true }
    }

    /// Of a cell behind routers: what is done is a child of the router's span.
    pub fn behind_router(tracer: Tracer) -> Self {
        Self { tracer, door: false }
    }

    pub(crate) fn begin(&self, headers: &HeaderMap) -> Begun {
        let caller = headers.get(TRACEPARENT).and_then(|value| Origin::parse(value.to_str().ok()?));
        let named = headers.get(OURS).or_else(|| headers.get(THEIRS));
        let named = named.and_then(|value| RequestId::new(value.to_str().ok()?));
        Begun::new(&self.tracer, self.door.then_some(Hop::server("route.forward")), caller, named)
    }

    pub(crate) fn end<B>(&self, begun: Begun, route: &'static str, response: &mut Response<B>) {
        if self.door {
            // Its characters are all plain.
            if let Ok(id) = HeaderValue::from_str(&begun.request_id()) {
                response.headers_mut().insert(OURS, id);
            }
        }
        let status = response.status();
        let worth = worth(response);
        begun.end(Outcome { status: status.as_u16(), route, worth, failed: status.is_server_error() });
    }
}

/// Why an answer is worth to be seen. None: it is as any other.
fn worth<B>(response: &Response<B>) -> Option<&'static str> {
    if response.status().is_server_error() {
        return Some("error");
    }
    // That an answer is not flushed to the disk was an operator's choice, and says nothing of this request.
    let unsafe_ack = cellar_model::Degraded::UnsafeAck.label().as_bytes();
    let degraded = response.headers().get(header::DEGRADED)?;
    (degraded.as_bytes() != unsafe_ack).then_some("degraded")
}

/// Writes into headers for whose request something is asked: its trace, and the id it goes by.
pub fn inject(headers: &mut HeaderMap) {
    let Some(origin) = cellar_trace::origin() else { return };
    if let Ok(value) = HeaderValue::from_str(&origin.traceparent()) {
        headers.insert(TRACEPARENT, value);
    }
    headers.remove(OURS);
    if origin.named.is_some()
        && let Ok(value) = HeaderValue::from_str(&origin.request_id())
    {
        headers.insert(OURS, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    async fn answered(pairs: &[(&'static str, &'static str)]) -> (HeaderMap, HeaderMap) {
        let tracing = RequestTracing::door(Tracer::off());
        let (begun, mut asked, mut response) = (tracing.begin(&headers(pairs)), HeaderMap::new(), Response::new(()));
        begun.run(pin!(async { inject(&mut asked) })).await;
        tracing.end(begun, "other", &mut response);
        (asked, std::mem::take(response.headers_mut()))
    }

    #[tokio::test]
    async fn a_callers_id_is_kept_and_answered() {
        for name in ["cellar-request-id", "x-request-id"] {
            let (asked, answer) = answered(&[(name, "job-7")]).await;
            assert_eq!((&asked[OURS], &answer[OURS]), (&"job-7".parse().unwrap(), &"job-7".parse().unwrap()));
        }
    }

    #[tokio::test]
    async fn an_id_that_is_none_is_replaced_by_the_traces() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
        let (asked, answer) = answered(&[("x-request-id", "ada@example.com"), ("traceparent", parent)]).await;
        assert_eq!(answer[OURS], trace);
        assert_eq!((asked.get(OURS), &asked[TRACEPARENT]), (None, &parent.parse().unwrap()));
    }

    #[tokio::test]
    async fn without_a_word_of_the_caller_a_request_has_an_id() {
        let (first, second) = (answered(&[]).await.1, answered(&[]).await.1);
        assert_eq!(first[OURS].len(), 32);
        assert_ne!(first[OURS], second[OURS]);
    }
}
