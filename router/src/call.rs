//! One connection to a cell, for calls of `decide`.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::net::TcpStream;

/// A cell is in the same region, or one away.
const CONNECT_MAX: Duration = Duration::from_millis(500);
/// 1,000 verdicts are some 300 KB.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;
const DECIDE: Uri = Uri::from_static("/cell/v1/decide");

/// Why a call has no answer. The difference decides what callers are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallError {
    /// The cell certainly knows nothing of it.
    NotSent,
    /// It may have happened.
    Lost,
    /// The cell said that it will not do this.
    Rejected,
}

pub(crate) struct Connection {
    host: HeaderValue,
    address: String,
    sender: Option<SendRequest<Full<Bytes>>>,
}

impl Connection {
    /// To `address`, `host:port`; opened when first used.
    pub(crate) fn to(address: &str) -> Self {
        // An authority of a parsed URI is a header's value.
        let host = HeaderValue::from_str(address).unwrap_or(HeaderValue::from_static("cell"));
        Self { host, address: address.to_owned(), sender: None }
    }

    /// Sends one call and waits for its answer. Dropped before its end, the connection goes with it:
    /// the next call opens another.
    pub(crate) async fn call(&mut self, body: Vec<u8>, context: HeaderMap) -> Result<Bytes, CallError> {
        let mut request = self.request(body, context);
        // A connection that was idle may have been closed by the other side; then nothing was sent, and
        // a fresh one is tried, once.
        for _ in 0..2 {
            let mut sender = self.ready().await?;
            match sender.try_send_request(request).await {
                Ok(response) => {
                    let (head, body) = response.into_parts();
                    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|_| CallError::Lost)?;
                    self.sender = Some(sender);
                    return if head.status.is_success() { Ok(body.to_bytes()) } else { Err(CallError::Rejected) };
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(CallError::Lost),
                },
            }
        }
        Err(CallError::NotSent)
    }

    fn request(&self, body: Vec<u8>, context: HeaderMap) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = DECIDE;
        *request.headers_mut() = context;
        let headers = request.headers_mut();
        headers.insert(header::HOST, self.host.clone());
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        request
    }

    async fn ready(&mut self) -> Result<SendRequest<Full<Bytes>>, CallError> {
        if let Some(mut sender) = self.sender.take()
            && sender.ready().await.is_ok()
        {
            return Ok(sender);
        }
        match tokio::time::timeout(CONNECT_MAX, self.open()).await {
            Ok(Ok(sender)) => Ok(sender),
            Ok(Err(_)) | Err(_) => Err(CallError::NotSent),
        }
    }

    async fn open(&self) -> Result<SendRequest<Full<Bytes>>, Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Ends with its sender.
        tokio::spawn(connection);
        Ok(sender)
    }
}
