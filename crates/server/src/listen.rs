//! Listening: hyper with our limits, the hot routes straight through, the rest to axum.

use crate::body::read_body;
use crate::client_address::Peer;
use crate::limits;
use crate::metrics::HttpMetrics;
use crate::problem::HttpProblem;
use crate::quota::{Decider, Hot, QuotaApi};
use crate::route_names::{self, RouteName};
use crate::telemetry::RequestTracing;
use axum::body::Body;
use axum::response::IntoResponse;
use cellar_metrics::TraceLabel;
use cellar_model::{Problem, ProblemType};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// A listening socket, or one line that says why not.
pub async fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(addr)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {addr}: {error}")))
}

/// The runtime of a service: with one thread, the one that is fastest beside the stores.
pub fn runtime(worker_threads: usize) -> io::Result<tokio::runtime::Runtime> {
    let mut runtime = match worker_threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        threads => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(threads);
            builder
        }
    };
    runtime.enable_all().build()
}

/// Cancelled by the first SIGTERM or SIGINT.
pub fn stop_on_signals() -> io::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stopped = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stopped.cancel();
    });
    Ok(stop)
}

/// Serves until `stop`, then lets requests under way finish. With `hot`, its hot routes go to it without
/// passing through `rest`.
pub async fn serve<D: Decider>(
    listener: TcpListener,
    hot: Option<QuotaApi<D>>,
    rest: axum::Router,
    tracing: RequestTracing,
    stop: CancellationToken,
) -> io::Result<()> {
    // What goes straight through is counted with the rest of it.
    let metrics = hot.as_ref().map(|hot| hot.metrics().clone());
    listen(listener, App { hot, rest, metrics, tracing: Some(tracing) }, stop).await
}

/// Serves routes of axum only, and counts and traces them.
pub async fn serve_counted(
    listener: TcpListener,
    rest: axum::Router,
    metrics: HttpMetrics,
    tracing: RequestTracing,
    stop: CancellationToken,
) -> io::Result<()> {
    let app = App::<Nobody> { hot: None, rest, metrics: Some(metrics), tracing: Some(tracing) };
    listen(listener, app, stop).await
}

/// Serves routes of axum only, for operators: nothing is counted, and nobody traces it.
pub async fn serve_plain(listener: TcpListener, rest: axum::Router, stop: CancellationToken) -> io::Result<()> {
    listen::<Nobody>(listener, App { hot: None, rest, metrics: None, tracing: None }, stop).await
}

async fn listen<D: Decider>(listener: TcpListener, mut app: App<D>, stop: CancellationToken) -> io::Result<()> {
    app.rest = app.rest.fallback(not_found).method_not_allowed_fallback(not_allowed);
    if let Some(metrics) = &app.metrics {
        metrics.takes_at_most(limits::CONNECTIONS_MAX);
        app.rest = app.rest.layer(axum::middleware::from_fn(route_names::note));
    }
    let app = Arc::new(app);
    let places = Arc::new(Semaphore::new(limits::CONNECTIONS_MAX));
    let connections = TaskTracker::new();
    while let Ok(place) = places.clone().acquire_owned().await {
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of files or memory: the connection is lost, the listener is not.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                    continue;
                }
            },
        };
        // Answers are written whole: waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        let (app, stop) = (app.clone(), stop.clone());
        connections.spawn(async move {
            connection(stream, peer, app, stop).await;
            drop(place);
        });
    }
    connections.close();
    let _ = tokio::time::timeout(limits::DRAIN_MAX, connections.wait()).await;
    Ok(())
}

struct App<D> {
    hot: Option<QuotaApi<D>>,
    rest: axum::Router,
    metrics: Option<HttpMetrics>,
    tracing: Option<RequestTracing>,
}

async fn connection<D: Decider>(
    stream: tokio::net::TcpStream,
    peer: SocketAddr,
    app: Arc<App<D>>,
    stop: CancellationToken,
) {
    let service = service_fn(move |request| {
        let app = app.clone();
        async move { Ok::<_, Infallible>(app.answer(request, Peer(peer.ip())).await) }
    });
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits::HEADER_READ_TIMEOUT)
        .max_headers(limits::HEADERS_MAX)
        .max_header_size(limits::HEADER_BYTES_MAX)
        .max_buf_size(limits::READ_BYTES_MAX)
        // Head and body leave in one buffer. Flushing is not put off while requests wait in line: what
        // cannot be parsed waits there too, and would never be answered.
        .writev(false);
    let connection = http.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // A connection that breaks is the caller's loss and nobody's fault: what had been decided stands.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

impl<D: Decider> App<D> {
    /// Every answer of the listener, whichever way it came, counted and told of once.
    async fn answer(&self, request: Request<Incoming>, peer: Peer) -> Response<Body> {
        let hot = self.hot.as_ref().and_then(|_| Hot::at(request.method(), request.uri().path()));
        let came = self.metrics.as_ref().map(|metrics| (metrics, Instant::now(), metrics.came()));
        let begun = self.tracing.as_ref().map(|tracing| (tracing, tracing.begin(request.headers())));
        let mut response = {
            let work = pin!(self.pass(hot, request, peer));
            match &begun {
                Some((_, begun)) => begun.run(work).await,
                None => work.await,
            }
        };
        let passed = response.extensions().get::<RouteName>().map(|route| route.0);
        let route = hot.map(Hot::name).or(passed).unwrap_or(route_names::OTHER);
        if let Some((metrics, began, _in_flight)) = came {
            let trace = begun.as_ref().and_then(|(_, begun)| begun.seen()).map(|trace| TraceLabel(trace.0));
            metrics.answered(route, &response, began.elapsed(), trace);
        }
        if let Some((tracing, begun)) = begun {
            tracing.end(begun, route, &mut response);
        }
        response
    }

    async fn pass(&self, hot: Option<Hot>, mut request: Request<Incoming>, peer: Peer) -> Response<Body> {
        if let (Some(api), Some(hot)) = (&self.hot, hot) {
            let (parts, body) = request.into_parts();
            return match read_body(body).await {
                Ok(body) => api.hot(hot, &parts.headers, body).await.map(Body::new),
                Err(problem) => HttpProblem(problem).into_response(),
            };
        }
        request.extensions_mut().insert(peer);
        match self.rest.clone().oneshot(request.map(Body::new)).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}

async fn not_found() -> HttpProblem {
    HttpProblem(Problem::new(ProblemType::NotFound))
}

async fn not_allowed() -> HttpProblem {
    HttpProblem(Problem::new(ProblemType::MethodNotAllowed))
}

/// The decider of listeners that have no hot route.
#[derive(Clone)]
struct Nobody;

impl Decider for Nobody {
    async fn decide(&self, checks: Vec<cellar_model::Check>) -> Vec<cellar_model::Verdict> {
        let nobody = || cellar_model::Verdict::try_again(cellar_model::TryAgain::NotReady);
        checks.iter().map(|_| nobody()).collect()
    }
}
