//! The quota routes and the listener, asked over a real socket; a stub decides.

use crate::{
    Condition, Conditions, Decider, HttpMetrics, Keys, Plaintext, ProcessName, QuotaApi, Seen, admin_routes, bind,
    limits, serve, serve_plain,
};
use bytes::Bytes;
use cellar_model::{
    Answer, ApiKey, Check, Effect, KeyDocument, KeyKind, KeyName, MacKey, MacKeys, Micros, Revision, Scope, SessionId,
    SessionSecret, SessionToken, SlotAnswer, SlotName, TierName, TryAgain, Unit, UserId, Verdict, Version,
};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use prometheus_client::registry::Registry;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

const CONSUME: &str = "/v1/internal/quota/consume";
const ADMIT: &str = "/v1/internal/admit";
const BATCH: &str = "/v1/internal/quota/batch";

/// Admits all but `nobody`, remembers what it was asked, and waits for its gate.
#[derive(Clone)]
struct Stub {
    asked: Arc<Mutex<Vec<Check>>>,
    gate: Arc<Semaphore>,
    /// Someone has come to the gate.
    came: Arc<Notify>,
}

impl Decider for Stub {
    async fn decide(&self, checks: Vec<Check>) -> Vec<Verdict> {
        self.came.notify_one();
        let _open = self.gate.acquire().await.unwrap();
        let nobody = UserId::new("nobody").unwrap();
        let verdict = |check: &Check| {
            if check.user == nobody {
                return Verdict::try_again(TryAgain::CellDown);
            }
            Verdict::Admitted {
                answer: answer(check.cost.of_unit(&Unit::tokens()).get()),
                replayed: false,
                degraded: None,
            }
        };
        let verdicts = checks.iter().map(verdict).collect();
        self.asked.lock().unwrap().extend(checks);
        verdicts
    }
}

/// What `tokens` were spent shows in `remaining`.
fn answer(tokens: u64) -> Answer {
    Answer {
        charge: None,
        version: Version(1),
        tier: TierName::new("pro").unwrap(),
        catalog_revision: Revision(1),
        at: Micros(0),
        slots: vec![SlotAnswer {
            slot: SlotName::new("monthly").unwrap(),
            unit: Unit::tokens(),
            limit: 1_000,
            remaining: 1_000 - tokens,
            resets_at: Micros(5_000_000),
            granted: 0,
        }],
        effect: Effect::Plain,
    }
}

struct Server {
    at: SocketAddr,
    key: String,
    stub: Stub,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<std::io::Result<()>>,
    client: Client<HttpConnector, Full<Bytes>>,
}

fn conditions(registry: &mut Registry) -> Conditions {
    let of = ProcessName { role: "cell", name: "eu-1".into(), region: "eu".into() };
    Conditions::register(registry, of, &Condition::OF_CELLS)
}

impl Server {
    /// With `hot`, consume passes axum by, as it does in production.
    async fn start(hot: bool) -> Self {
        let key = ApiKey::generate(KeyKind::Service, &mut rand::rng());
        let keys = Keys::new(MacKeys::new(MacKey::new('a', [1; 32]).unwrap(), None));
        keys.replace(&[KeyDocument {
            name: KeyName::new("app").unwrap(),
            kind: KeyKind::Service,
            hash: key.hash(),
            scopes: vec![Scope::Quota],
            auto_enrol: None,
            previous: None,
            revoked: false,
        }]);
        let mut registry = Registry::default();
        let stub = Stub {
            asked: Arc::default(),
            gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            came: Arc::default(),
        };
        let api = QuotaApi::new(stub.clone(), keys, HttpMetrics::register(&mut registry));
        let conditions = conditions(&mut registry);
        let rest =
            api.routes()
                .split_for_parts()
                .0
                .merge(admin_routes(registry, &Plaintext::of(&[]), &conditions, || vec!["still waking".to_owned()]));
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let (at, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let served = match hot {
            true => tokio::spawn(serve(
                listener,
                Some(api),
                rest,
                crate::telemetry::RequestTracing::door(cellar_trace::Tracer::off()),
                stop.clone(),
            )),
            false => tokio::spawn(serve_plain(listener, rest, stop.clone())),
        };
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { at, key: key.reveal().to_owned(), stub, stop, served, client }
    }

    fn request(&self, method: Method, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
        Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.at))
            .header("authorization", format!("Bearer {}", self.key))
            .body(Full::new(body.into()))
            .unwrap()
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> (StatusCode, HeaderMap, String) {
        let response = self.client.request(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn post(&self, path: &str, body: impl Into<Bytes>) -> (StatusCode, String) {
        let (status, _, body) = self.send(self.request(Method::POST, path, body)).await;
        (status, body)
    }
}

#[tokio::test]
async fn the_hot_way_and_the_way_through_axum_answer_the_same() {
    let (hot, cold) = (Server::start(true).await, Server::start(false).await);
    for body in [r#"{"user_id":"u","cost":5}"#, r#"{"user_id":"nobody"}"#, r#"{"user_id":1}"#, "{"] {
        let (one, one_headers, one_body) = hot.send(hot.request(Method::POST, CONSUME, body)).await;
        let (other, other_headers, other_body) = cold.send(cold.request(Method::POST, CONSUME, body)).await;
        assert_eq!((one, &one_body), (other, &other_body), "{body}");
        for name in ["content-type", "ratelimit", "ratelimit-policy"] {
            assert_eq!(one_headers.get(name), other_headers.get(name), "{name} of {body}");
        }
        assert!(one_headers["server-timing"].to_str().unwrap().starts_with("route;dur="));
    }
}

#[tokio::test]
async fn bad_input_gets_its_documented_problem() {
    let server = Server::start(true).await;
    let huge = format!(r#"{{"user_id":"{}"}}"#, "u".repeat(limits::BODY_MAX));
    for (body, status, said) in [
        ("{", 400, "/problems/malformed"),
        (r#"{"cost":5}"#, 422, "/user_id"),
        (r#"{"user_id":"u","cost":-5}"#, 422, r#""pointer":"/cost""#),
        (r#"{"user_id":"u","cost":{"tokens":1.5}}"#, 422, r#""pointer":"/cost/tokens""#),
        (r#"{"user_id":"u","cost":1099511627777}"#, 422, "0 to 2^40"),
        (r#"{"user_id":"u","at_us":253402207200000001}"#, 422, r#""pointer":"/at_us""#),
        (r#"{"user_id":"u","colour":"red"}"#, 422, r#""pointer":"/colour""#),
        (huge.as_str(), 413, "/problems/too-large"),
    ] {
        let (got, headers, answer) = server.send(server.request(Method::POST, CONSUME, body.to_owned())).await;
        assert_eq!(got.as_u16(), status, "{:.80}: {answer}", body);
        // What is left of the body would be read as the next request.
        assert_eq!(headers.get("connection").is_some(), status == 413, "{:.80}", body);
        assert!(answer.contains(said), "{:.80}: {answer}", body);
    }
    assert!(server.stub.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn who_may_not_and_what_is_not_there_are_problems_too() {
    let server = Server::start(true).await;
    let mut stranger = server.request(Method::POST, CONSUME, "{}");
    stranger.headers_mut().insert("authorization", "Bearer csk_junk".parse().unwrap());
    for (request, status) in [
        (stranger, 401),
        (server.request(Method::GET, "/nothing", ""), 404),
        (server.request(Method::GET, CONSUME, ""), 405),
    ] {
        let (got, headers, body) = server.send(request).await;
        assert_eq!(got.as_u16(), status, "{body}");
        assert_eq!(headers["content-type"], "application/problem+json");
    }
}

#[tokio::test]
async fn what_was_asked_reaches_the_decider() {
    let server = Server::start(true).await;
    let mut request =
        server.request(Method::POST, CONSUME, r#"{"user_id":"u","cost":7,"at_us":9,"attributes":{"model":"large"}}"#);
    request.headers_mut().insert("idempotency-key", "\"k\"".parse().unwrap());
    request.headers_mut().insert("cellar-deadline-ms", "120".parse().unwrap());
    let (status, headers, _) = server.send(request).await;
    assert_eq!(status, 200);
    assert_eq!(headers["ratelimit"], r#""monthly";r=993;t=5;a=993;w=5"#);
    let check = server.stub.asked.lock().unwrap().pop().unwrap();
    assert_eq!((check.cost.of_unit(&Unit::tokens()).get(), check.cost.of_unit(&Unit::requests()).get()), (7, 1));
    assert_eq!((check.at, check.deadline.get()), (Some(Micros(9)), 120));
    assert!(check.key.is_some());
    assert_eq!(check.attributes[0].value, "large");
}

#[tokio::test]
async fn an_admit_asks_for_the_sessions_user_and_what_is_no_token_reaches_nobody() {
    for hot in [true, false] {
        let server = Server::start(hot).await;
        let token = |user: &str, key: u8| {
            let secret = SessionSecret::generate(&mut rand::rng());
            let token = SessionToken { user: UserId::new(user).unwrap(), session: SessionId::mint(7), secret };
            (token.clone(), token.sign(&MacKeys::new(MacKey::new('a', [key; 32]).unwrap(), None)))
        };
        let (token_of_ada, text) = token("ada", 1);
        let body = |token: &str| format!(r#"{{"session_token":"{token}","cost":7}}"#);
        for (junk, status) in [
            (body("cst1.a.b.c.d"), "401"),
            (body(&token("ada", 2).1), "401"),
            (r#"{"cost":7}"#.to_owned(), "422"),
            (format!(r#"{{"session_token":"{text}","user_id":"eve"}}"#), "422"),
        ] {
            let (said, problem) = server.post(ADMIT, junk.clone()).await;
            assert_eq!(said.as_str(), status, "{problem}");
            assert_eq!(said == 401, problem.contains("/problems/invalid-session"), "{problem}");
            assert!(!problem.contains(&text), "{problem}");
        }
        assert_eq!(server.stub.asked.lock().unwrap().len(), 0);

        let ask = async |key: &str| {
            let mut request = server.request(Method::POST, ADMIT, body(&text));
            request.headers_mut().insert("idempotency-key", key.parse().unwrap());
            // Whom the header names is of no account.
            request.headers_mut().insert("cellar-user", "eve".parse().unwrap());
            let (status, headers, body) = server.send(request).await;
            assert_eq!(
                (status.as_u16(), headers["ratelimit"].to_str().unwrap()),
                (200, r#""monthly";r=993;t=5;a=993;w=5"#)
            );
            let said = format!(r#"{{"allowed":true,"user_id":"ada","session_id":"{}","#, token_of_ada.session.as_str());
            assert!(body.starts_with(&said), "{body}");
            server.stub.asked.lock().unwrap().pop().unwrap()
        };
        let check = ask("k").await;
        assert_eq!(check.user.as_str(), "ada");
        assert_eq!(check.session.as_deref(), Some(&token_of_ada.presented()));
        assert_eq!(check.cost.of_unit(&Unit::tokens()).get(), 7);
        assert_eq!(ask("k").await.key, check.key);
        assert_ne!(ask("other").await.key, check.key);
    }
}

#[tokio::test]
async fn every_operation_reaches_the_decider_as_what_it_is() {
    let server = Server::start(true).await;
    let charge = r#""charge_id":"c1-2-3-0""#;
    let until = r#""until":"2030-01-01T00:00:00Z""#;
    let quota = |operation: &str| format!("/v1/internal/quota/{operation}");
    for (method, path, body, said) in [
        (Method::POST, quota("reserve"), r#"{"user_id":"u","cost":7}"#.to_owned(), "Reserve { expires_in_s: 60 }"),
        (
            Method::POST,
            quota("settle"),
            format!(r#"{{"user_id":"u","cost":7,{charge}}}"#),
            "Settle { charge: c1-2-3-0 }",
        ),
        (Method::POST, quota("refund"), format!(r#"{{"user_id":"u",{charge}}}"#), "Refund { charge: c1-2-3-0 }"),
        (Method::POST, quota("grant"), format!(r#"{{"user_id":"u","slot":"m","amount":5,{until}}}"#), "Grant("),
        (
            Method::PUT,
            "/v1/internal/users/u/override".to_owned(),
            format!(r#"{{"slot":"m","settings":{{"limit":5}},{until}}}"#),
            "Override(",
        ),
    ] {
        let (status, _, answer) = server.send(server.request(method, &path, body)).await;
        assert_eq!(status, 200, "{path}: {answer}");
        let check = server.stub.asked.lock().unwrap().pop().unwrap();
        assert_eq!(check.user.as_str(), "u");
        assert!(format!("{:?}", check.operation).starts_with(said), "{:?}", check.operation);
    }
}

#[tokio::test]
async fn a_batch_answers_in_order_each_item_by_itself() {
    let server = Server::start(true).await;
    let body = r#"{"checks":[{"user_id":"a","cost":1},{"user_id":"nobody"},{"user_id":"a","cost":2,"idempotency_key":"own"}]}"#;
    let mut request = server.request(Method::POST, BATCH, body);
    request.headers_mut().insert("idempotency-key", "all".parse().unwrap());
    let (status, _, answer) = server.send(request).await;
    assert_eq!(status, 200);
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    let of = |n: usize, pointer: &str| answer.pointer(&format!("/results/{n}{pointer}")).unwrap().clone();
    assert_eq!([of(0, "/status"), of(1, "/status"), of(2, "/status")], [200, 503, 200]);
    assert_eq!([of(0, "/policies/0/remaining"), of(2, "/policies/0/remaining")], [999, 998]);
    let keys: Vec<_> = server.stub.asked.lock().unwrap().iter().map(|check| check.key.unwrap().id).collect();
    assert_ne!(keys[0], keys[2]);
}

#[tokio::test]
async fn a_batch_with_senseless_items_decides_none_and_names_them_all() {
    let server = Server::start(true).await;
    let (status, answer) =
        server.post(BATCH, r#"{"checks":[{},{"user_id":"a"},{"user_id":"a","idempotency_key":""}]}"#).await;
    assert_eq!(status, 422, "{answer}");
    assert!(answer.contains("/checks/0/user_id") && answer.contains("/checks/2/idempotency_key"), "{answer}");
    let items = vec![r#"{"user_id":"a"}"#; 1_001].join(",");
    let (status, answer) = server.post(BATCH, format!(r#"{{"checks":[{items}]}}"#)).await;
    assert_eq!(status, 422, "{answer}");
    assert!(server.stub.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_stopping_server_finishes_what_is_under_way_and_takes_nothing_new() {
    let server = Server::start(true).await;
    server.stub.gate.forget_permits(Semaphore::MAX_PERMITS);
    let under_way = tokio::spawn(server.client.request(server.request(Method::POST, CONSUME, r#"{"user_id":"u"}"#)));
    server.stub.came.notified().await;
    server.stop.cancel();
    server.stub.gate.add_permits(1);
    assert_eq!(under_way.await.unwrap().unwrap().status(), 200);
    server.served.await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(server.at).await.is_err());
}

#[tokio::test]
async fn every_named_series_stands_at_zero_and_unreadiness_has_reasons() {
    let server = Server::start(true).await;
    let (_, _, metrics) = server.send(server.request(Method::GET, "/metrics", "")).await;
    for series in [
        r#"cellar_requests_total{route="consume",status="200"} 0"#,
        r#"cellar_verdicts_total{verdict="allowed"} 0"#,
        r#"cellar_verdicts_total{verdict="denied"} 0"#,
        r#"cellar_unknowns_total{reason="cell-down"} 0"#,
        r#"cellar_request_seconds_bucket{le="0.0001",route="consume"} 0"#,
    ] {
        assert!(metrics.contains(series), "{series} is not in\n{metrics}");
    }
    let (status, _, body) = server.send(server.request(Method::GET, "/readyz", "")).await;
    assert_eq!((status.as_u16(), body.as_str()), (503, r#"{"reasons":["still waking"]}"#));
    let (status, _, _) = server.send(server.request(Method::GET, "/healthz", "")).await;
    assert_eq!(status, 200);
}

/// Goal: the limit on headers is the number it is said to be.
/// Method: a head of exactly so many bytes; and as many without an end, all of which the server reads.
/// Goal: a body that is too long is answered, and not met with a broken connection.
/// Method: all of it is sent before anything is read, by both ways.
#[tokio::test]
async fn who_sends_a_body_that_is_too_long_to_its_end_reads_that_it_was() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    for hot in [true, false] {
        let server = Server::start(hot).await;
        let length = 4 * limits::BODY_MAX;
        let mut stream = tokio::net::TcpStream::connect(server.at).await.unwrap();
        let head = format!(
            "POST {CONSUME} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-length: {length}\r\n\r\n",
            server.key
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; length]).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("/problems/too-large"), "{answer}");
    }
}

#[tokio::test]
async fn headers_up_to_the_limit_are_read_and_longer_ones_are_431() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = Server::start(true).await;
    let begin = "GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\npadding: ";
    for (end, status) in [("\r\n\r\n", "HTTP/1.1 200"), ("", "HTTP/1.1 431")] {
        let padding = "x".repeat(limits::HEADER_BYTES_MAX - begin.len() - end.len());
        let mut stream = tokio::net::TcpStream::connect(server.at).await.unwrap();
        stream.write_all(format!("{begin}{padding}{end}").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(status), "{answer}");
    }
}

/// Goal: a listener beyond loopback is said wherever somebody may look, and stops nothing.
#[tokio::test]
async fn a_plaintext_listener_is_in_the_metrics_and_at_readyz() {
    use tower::ServiceExt;
    let listeners = ["127.0.0.1:8080", "0.0.0.0:8090"].map(|addr| addr.parse::<SocketAddr>().unwrap());
    for (listeners, count, lines) in [(&listeners[..1], 0, 1), (&listeners[..], 1, 2)] {
        let routes = {
            let mut registry = Registry::default();
            let conditions = conditions(&mut registry);
            admin_routes(registry, &Plaintext::of(listeners), &conditions, Vec::new)
        };
        let get = async |path: &str| {
            let request = Request::get(path).body(axum::body::Body::empty()).unwrap();
            let (head, body) = routes.clone().oneshot(request).await.unwrap().into_parts();
            (head.status, String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap())
        };
        let (_, metrics) = get("/metrics").await;
        assert!(metrics.contains(&format!("cellar_plaintext_listeners {count}\n")), "{metrics}");
        let (status, ready) = get("/readyz").await;
        assert_eq!((status, ready.lines().count()), (StatusCode::OK, lines), "{ready}");
        assert_eq!(ready.contains("0.0.0.0:8090"), count == 1, "{ready}");
    }
}

/// Goal: who asks whether a process is ready hears what is wrong with it, and that alone does not make it unready.
#[tokio::test]
async fn a_condition_is_said_at_readyz_and_in_full_at_conditions() {
    use tower::ServiceExt;
    let mut registry = Registry::default();
    let conditions = conditions(&mut registry);
    conditions.tell(Condition::RedisAway, Seen::degraded("4 of 4 shards commit to Postgres"));
    let routes = admin_routes(registry, &Plaintext::of(&[]), &conditions, Vec::new);
    let get = async |path: &str| {
        let request = Request::get(path).body(axum::body::Body::empty()).unwrap();
        let (head, body) = routes.clone().oneshot(request).await.unwrap().into_parts();
        assert_eq!(head.status, StatusCode::OK);
        String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
    };
    let ready = get("/readyz").await;
    assert!(ready.starts_with("ready\nbut redis-away for ") && ready.contains("4 of 4 shards"), "{ready}");
    let said: serde_json::Value = serde_json::from_str(&get("/conditions").await).unwrap();
    assert_eq!(said["process"], serde_json::json!({ "role": "cell", "name": "eu-1", "region": "eu" }));
    let one = &said["conditions"][0];
    assert_eq!(
        (&one["name"], &one["runbook"], &one["failing"]),
        (&"redis-away".into(), &"redis-away".into(), &false.into())
    );
    assert!(one["since_ms"].as_u64().unwrap() > 0 && said["ready"] == true, "{said}");
}
