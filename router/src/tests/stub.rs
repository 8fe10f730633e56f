//! Stand-ins: cells that answer as a test says, a directory of a few rows, and a router between them.

use crate::forward::{self, Enrolments, Forwarder, Front, Requests, StalePreferences};
use crate::metrics::RouterMetrics;
use crate::route::{Lookup, Routing};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cellar_directory::{Claim, DirectoryError, EmailHash, Peppers, UserHome};
use cellar_model::{
    Answer, ApiKey, CellEntry, CellName, CellState, Check, Effect, Incarnation, KeyDocument, KeyKind, KeyName, MacKeys,
    Micros, RegionEntry, RegionName, Revision, Scope, Secret, SessionId, SessionSecret, SessionToken, SlotAnswer,
    SlotName, TierName, Topology, Unit, UserId, Verdict, Version,
};
use cellar_server::{HttpMetrics, Keys, QuotaApi};
use futures::future::BoxFuture;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use prometheus_client::registry::Registry;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

/// Rows of `user_home` and `claims`.
#[derive(Default)]
pub(crate) struct Rows {
    pub(crate) homes: Mutex<HashMap<UserId, UserHome>>,
    pub(crate) claims: Mutex<HashMap<EmailHash, Claim>>,
    pub(crate) away: AtomicBool,
    /// How long it takes to answer, in milliseconds.
    pub(crate) slow_ms: AtomicU64,
    pub(crate) reads: AtomicUsize,
}

impl Rows {
    async fn read<T>(&self, row: impl FnOnce() -> Option<T>) -> Result<Option<T>, DirectoryError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let slow_ms = self.slow_ms.load(Ordering::Relaxed);
        if slow_ms > 0 {
            tokio::time::sleep(Duration::from_millis(slow_ms)).await;
        }
        match self.away.load(Ordering::Relaxed) {
            true => Err(DirectoryError::Undecided { what: "stub", attempts: 1 }),
            false => Ok(row()),
        }
    }
}

impl Lookup for Rows {
    fn home<'a>(&'a self, user: &'a UserId) -> BoxFuture<'a, Result<Option<UserHome>, DirectoryError>> {
        Box::pin(async move { self.read(|| self.homes.lock().unwrap().get(user).cloned()).await })
    }

    fn claim<'a>(&'a self, email: &'a EmailHash) -> BoxFuture<'a, Result<Option<Claim>, DirectoryError>> {
        Box::pin(async move { self.read(|| self.claims.lock().unwrap().get(email).cloned()).await })
    }
}

pub(crate) fn routing(folder: &Path, rows: Arc<Rows>) -> Arc<Routing> {
    Routing::new(folder, rows, metrics())
}

/// One region, `eu`, with these cells.
pub(crate) fn topology(cells: &[(&str, String)]) -> Topology {
    let eu = RegionName::new("eu").unwrap();
    let cell = |(name, url): &(&str, String)| CellEntry {
        name: CellName::new(name).unwrap(),
        state: CellState::Open,
        weight: 128,
        shards: 4,
        incarnation: Incarnation(1),
        endpoints: vec![url.clone(), url.clone()],
    };
    Topology {
        revision: Revision(1),
        predecessor: Revision(0),
        plan: None,
        witness: None,
        default_region: eu.clone(),
        regions: vec![RegionEntry {
            name: eu,
            residency: "eu".into(),
            routers: Vec::new(),
            cells: cells.iter().map(cell).collect(),
        }],
    }
}

pub(crate) fn admitted() -> Verdict {
    let slot = SlotAnswer {
        slot: SlotName::new("monthly").unwrap(),
        unit: Unit::tokens(),
        limit: 10,
        remaining: 9,
        resets_at: Micros(0),
        granted: 0,
    };
    let answer = Answer {
        charge: None,
        version: Version(1),
        tier: TierName::new("pro").unwrap(),
        catalog_revision: Revision(1),
        at: Micros(0),
        slots: vec![slot],
        effect: Effect::Plain,
    };
    Verdict::Admitted { answer, replayed: false, degraded: None }
}

/// A request as a cell got it.
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

type Decide = Box<dyn Fn(&Check) -> Verdict + Send + Sync>;
type Serve = Box<dyn Fn(&Seen) -> Response + Send + Sync>;

pub(crate) struct StubCell {
    pub(crate) url: String,
    pub(crate) state: Arc<CellStub>,
}

pub(crate) struct CellStub {
    decide: Decide,
    serve: Serve,
    pub(crate) calls: Mutex<Vec<Vec<Check>>>,
    pub(crate) seen: Mutex<Vec<Seen>>,
    /// Calls of decide wait here.
    pub(crate) gate: Semaphore,
    pub(crate) came: Notify,
}

impl StubCell {
    pub(crate) async fn start(
        decide: impl Fn(&Check) -> Verdict + Send + Sync + 'static,
        serve: impl Fn(&Seen) -> Response + Send + Sync + 'static,
    ) -> Self {
        let state = Arc::new(CellStub {
            decide: Box::new(decide),
            serve: Box::new(serve),
            calls: Mutex::default(),
            seen: Mutex::default(),
            gate: Semaphore::new(Semaphore::MAX_PERMITS),
            came: Notify::new(),
        });
        let listener = cellar_server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let decide = axum::routing::post(decide_route);
        let rest = axum::routing::any(any_route);
        let routes =
            axum::Router::new().route("/cell/v1/decide", decide).route("/{*rest}", rest).with_state(state.clone());
        let routes = routes.layer(axum::extract::DefaultBodyLimit::max(cellar_server::limits::BODY_MAX));
        tokio::spawn(async move { axum_serve(listener, routes).await });
        Self { url, state }
    }

    /// Admits everything, answers everything with 200.
    pub(crate) async fn good() -> Self {
        Self::start(|_| admitted(), |_| StatusCode::OK.into_response()).await
    }

    pub(crate) fn calls(&self) -> Vec<usize> {
        self.state.calls.lock().unwrap().iter().map(Vec::len).collect()
    }

    /// Checks of a user that came here.
    pub(crate) fn calls_of(&self, user: &str) -> usize {
        self.state.calls.lock().unwrap().iter().flatten().filter(|check| check.user.as_str() == user).count()
    }

    /// And those that were admitted.
    pub(crate) fn admitted_to(&self, user: &str) -> usize {
        let calls = self.state.calls.lock().unwrap();
        let of_user = calls.iter().flatten().filter(|check| check.user.as_str() == user);
        of_user.filter(|check| matches!((self.state.decide)(check), Verdict::Admitted { .. })).count()
    }

    /// Requests other than checks that came here.
    pub(crate) fn seen(&self) -> usize {
        self.state.seen.lock().unwrap().len()
    }
}

async fn axum_serve(listener: tokio::net::TcpListener, routes: axum::Router) {
    let _ = cellar_server::serve_plain(listener, routes, CancellationToken::new()).await;
}

async fn decide_route(State(stub): State<Arc<CellStub>>, body: Bytes) -> Vec<u8> {
    let checks: Vec<Check> = postcard::from_bytes(&body).unwrap();
    let verdicts: Vec<Verdict> = checks.iter().map(&stub.decide).collect();
    stub.calls.lock().unwrap().push(checks);
    stub.came.notify_one();
    let _open = stub.gate.acquire().await.unwrap();
    postcard::to_allocvec(&verdicts).unwrap()
}

async fn any_route(State(stub): State<Arc<CellStub>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let seen = Seen {
        method: head.method,
        target: head.uri.to_string(),
        headers: head.headers,
        body: body.collect().await.unwrap().to_bytes(),
    };
    let response = (stub.serve)(&seen);
    stub.seen.lock().unwrap().push(seen);
    response
}

/// A 421 that names a home.
pub(crate) fn misdirected(home: &str, epoch: u64) -> Response {
    let home = format!("{home}; epoch={epoch}");
    (StatusCode::MISDIRECTED_REQUEST, [(cellar_model::header::HOME, home)]).into_response()
}

fn document(key: &ApiKey, auto_enrol: Option<TierName>) -> KeyDocument {
    KeyDocument {
        name: KeyName::new("app").unwrap(),
        kind: KeyKind::Service,
        hash: key.hash(),
        scopes: vec![Scope::Quota, Scope::Users],
        auto_enrol,
        previous: None,
        revoked: false,
    }
}

fn metrics() -> RouterMetrics {
    let mut registry = Registry::default();
    let overflow = cellar_metrics::LabelOverflow::register(&mut registry);
    RouterMetrics::register(&mut registry, &overflow)
}

/// A router, all but its polls and its admin listener.
pub(crate) struct StubRouter {
    pub(crate) at: SocketAddr,
    pub(crate) key: String,
    pub(crate) rows: Arc<Rows>,
    pub(crate) routing: Arc<Routing>,
    pub(crate) peppers: Peppers,
    keys: Keys,
    pub(crate) client: Client<HttpConnector, Full<Bytes>>,
    _folder: tempfile::TempDir,
}

impl StubRouter {
    pub(crate) async fn before(cells: &[(&str, &StubCell)]) -> Self {
        let cells: Vec<_> = cells.iter().map(|(name, cell)| (*name, cell.url.clone())).collect();
        Self::with(topology(&cells)).await
    }

    pub(crate) async fn with(topology: Topology) -> Self {
        let key = ApiKey::generate(KeyKind::Service, &mut rand::rng());
        let keys = Keys::new(MacKeys::from_text(&"ab".repeat(32)).unwrap());
        keys.replace(&[document(&key, None)]);
        let (folder, rows) = (tempfile::tempdir().unwrap(), Arc::new(Rows::default()));
        let routing = routing(folder.path(), rows.clone());
        routing.adopt(topology).unwrap();
        let metrics = HttpMetrics::register(&mut Registry::default());
        let enrolments = Enrolments::new(routing.clone());
        let api = QuotaApi::new(Forwarder::new(routing.clone(), enrolments.clone(), true), keys.clone(), metrics);
        let peppers = format!("{}\n{}", "cd".repeat(32), "ef".repeat(32));
        let peppers = Peppers::from_text(&Secret::new(peppers)).unwrap();
        let front = Front {
            requests: Requests::new(routing.clone(), enrolments),
            keys: keys.clone(),
            peppers: peppers.clone(),
            stale: StalePreferences::new(),
            proxies: cellar_server::TrustedProxies::default(),
            by_address: Arc::new(cellar_server::Attempts::new(cellar_server::AttemptLimit {
                failures: 3,
                forgiven_s: 3_600,
            })),
            region: RegionName::new("eu").unwrap(),
        };
        let rest = forward::routes(front).merge(api.routes()).split_for_parts().0;
        let rest = rest.layer(axum::middleware::from_fn(forward::time_answers));
        let listener = cellar_server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let at = listener.local_addr().unwrap();
        let tracing = cellar_server::telemetry::RequestTracing::door(cellar_trace::Tracer::off());
        tokio::spawn(cellar_server::serve(listener, Some(api), rest, tracing, CancellationToken::new()));
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { at, key: key.reveal().to_owned(), rows, routing, peppers, keys, client, _folder: folder }
    }

    /// With the service key, for `user`.
    pub(crate) async fn send(&self, method: Method, path: &str, user: &str, body: &str) -> Reply {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.at))
            .header("authorization", format!("Bearer {}", self.key))
            .header(cellar_model::header::USER, user)
            .body(Full::new(Bytes::from(body.to_owned())))
            .unwrap();
        self.reply(request).await
    }

    /// From now on the service key signs up whom it sees for the first time, in this tier.
    pub(crate) fn enrol_in(&self, tier: &str) {
        let tier = TierName::new(tier).unwrap();
        self.keys.replace(&[document(&ApiKey::parse(&self.key).unwrap(), Some(tier))]);
    }

    /// A token of one of the user's sessions.
    pub(crate) fn session(&self, user: &str) -> String {
        let token = SessionToken {
            user: UserId::new(user).unwrap(),
            session: SessionId::mint(1),
            secret: SessionSecret::generate(&mut rand::rng()),
        };
        token.sign(&self.keys.mac())
    }

    pub(crate) async fn reply(&self, request: http::Request<Full<Bytes>>) -> Reply {
        let (head, body) = self.client.request(request).await.unwrap().into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Reply { status: head.status.as_u16(), headers: head.headers, body: String::from_utf8(body.to_vec()).unwrap() }
    }

    pub(crate) async fn consume(&self, user: &str) -> Reply {
        let body = format!(r#"{{"user_id":"{user}","cost":1}}"#);
        self.send(Method::POST, "/v1/internal/quota/consume", user, &body).await
    }
}

pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

/// A body that is not worth naming.
pub(crate) fn ok(body: &'static str) -> Response {
    Response::new(Body::from(body))
}
