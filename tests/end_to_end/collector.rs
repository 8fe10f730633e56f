//! What spans are sent to: a collector over HTTP or gRPC that keeps what it gets, or one that is no good.

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;

/// A span, and which program it is from.
#[derive(Clone, Debug)]
pub struct Told {
    pub service: String,
    pub span: Span,
}

impl Told {
    pub fn trace(&self) -> String {
        hex(&self.span.trace_id)
    }

    pub fn id(&self) -> String {
        hex(&self.span.span_id)
    }

    pub fn parent(&self) -> String {
        hex(&self.span.parent_span_id)
    }

    /// An attribute as text; none is empty.
    pub fn said(&self, name: &str) -> String {
        let attribute = self.span.attributes.iter().find(|attribute| attribute.key == name);
        match attribute.and_then(|attribute| attribute.value.clone()?.value) {
            Some(Value::StringValue(text)) => text,
            Some(Value::IntValue(number)) => number.to_string(),
            _ => String::new(),
        }
    }

    /// Its name, and the store that was asked.
    pub fn hop(&self) -> (&str, String) {
        (&self.span.name, self.said("db.system.name"))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Http,
    Grpc,
    /// Takes what is sent, and never answers.
    Silent,
    /// Answers every request with 503.
    Refusing,
    /// Answers with what is no HTTP.
    Babbling,
}

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<Vec<u8>>>>);

pub struct Collector {
    pub url: String,
    kept: Kept,
}

impl Collector {
    pub async fn start(manner: Manner) -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (url, kept) = (format!("http://{}", listener.local_addr().unwrap()), Kept::default());
        let keeps = kept.clone();
        match manner {
            Manner::Grpc => {
                let incoming = futures::stream::unfold(listener, |listener| async move {
                    Some((listener.accept().await.map(|(stream, _)| stream), listener))
                });
                let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(keeps));
                tokio::spawn(server.serve_with_incoming(incoming));
            }
            manner => _ = tokio::spawn(serve(listener, manner, keeps)),
        }
        Collector { url, kept }
    }

    /// All spans so far.
    pub fn told(&self) -> Vec<Told> {
        let kept = self.kept.0.lock().unwrap();
        let requests = kept.iter().map(|bytes| ExportTraceServiceRequest::decode(&bytes[..]).unwrap());
        let mut told = Vec::new();
        for of in requests.flat_map(|request| request.resource_spans) {
            let resource = of.resource.unwrap_or_default();
            let name = resource.attributes.iter().find(|attribute| attribute.key == "service.name").unwrap();
            let Some(Value::StringValue(service)) = name.value.clone().unwrap().value else { panic!("{name:?}") };
            let spans = of.scope_spans.into_iter().flat_map(|scope| scope.spans);
            told.extend(spans.map(|span| Told { service: service.clone(), span }));
        }
        told
    }

    /// Everything that was received, as it came.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.kept.0.lock().unwrap().concat()).into_owned()
    }

    /// Spans of a trace, once all those of these names are there: each program's part comes whole.
    pub async fn trace(&self, id: &str, names: &[&str]) -> Vec<Told> {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let told: Vec<Told> = self.told().into_iter().filter(|told| told.trace() == id).collect();
            if names.iter().all(|name| told.iter().any(|told| told.span.name == *name)) {
                return told;
            }
            assert!(Instant::now() < until, "{names:?} are waited for, and there are\n{}", tree(&told));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Spans that are such, once there are as many as `count`.
    pub async fn once(&self, such: impl Fn(&Told) -> bool, count: usize) -> Vec<Told> {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let told = self.told();
            let found: Vec<Told> = told.iter().filter(|told| such(told)).cloned().collect();
            if found.len() >= count {
                return found;
            }
            assert!(
                Instant::now() < until,
                "{count} spans are waited for, and there are {found:#?}\nof {}",
                told.len()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tonic::async_trait]
impl TraceService for Kept {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.0.lock().unwrap().push(request.into_inner().encode_to_vec());
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn serve(listener: TcpListener, manner: Manner, kept: Kept) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let kept = kept.clone();
        tokio::spawn(async move {
            if manner == Manner::Babbling {
                let mut read = [0; 1024];
                let _ = stream.read(&mut read).await;
                let _ = stream.write_all(b"what do you mean?\r\n\r\n").await;
                return;
            }
            let service = service_fn(move |request| answer(request, manner, kept.clone()));
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(request: Request<Incoming>, manner: Manner, kept: Kept) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let mut response = Response::new(Full::default());
    match manner {
        Manner::Silent => std::future::pending().await,
        Manner::Refusing => *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE,
        _ if path == "/v1/traces" => kept.0.lock().unwrap().push(body.to_vec()),
        _ => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    Ok(response)
}

/// A trace as text: each span below its parent, when it began and how long it took.
pub fn tree(told: &[Told]) -> String {
    let known: Vec<String> = told.iter().map(Told::id).collect();
    let mut roots: Vec<&Told> = told.iter().filter(|told| !known.contains(&told.parent())).collect();
    roots.sort_by_key(|told| told.span.start_time_unix_nano);
    let began = roots.iter().map(|told| told.span.start_time_unix_nano).min().unwrap_or(0);
    let mut text = String::new();
    roots.iter().for_each(|root| branch(told, root, 0, began, &mut text));
    text
}

fn branch(told: &[Told], of: &Told, depth: usize, began: u64, text: &mut String) {
    let us = |nanos: u64| nanos as f64 / 1e3;
    let (from, to) = (of.span.start_time_unix_nano, of.span.end_time_unix_nano);
    let name = format!("{:indent$}{}", "", of.span.name, indent = 2 * depth);
    let said: Vec<String> = of.span.attributes.iter().map(|one| format!("{}={}", one.key, of.said(&one.key))).collect();
    let (at, took) = (us(from.saturating_sub(began)), us(to.saturating_sub(from)));
    *text += &format!("{name:<24} {:<13} {at:>8.1} {took:>8.1} µs  {}\n", of.service, said.join(" "));
    let mut below: Vec<&Told> = told.iter().filter(|told| told.parent() == of.id()).collect();
    below.sort_by_key(|told| told.span.start_time_unix_nano);
    below.iter().for_each(|below| branch(told, below, depth + 1, began, text));
}
