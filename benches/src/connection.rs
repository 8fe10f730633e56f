//! One HTTP/1.1 connection with one request in flight.

use anyhow::{Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;

pub(crate) struct Connection {
    send: SendRequest<Full<Bytes>>,
}

/// A question, but for the service key that every question carries.
pub(crate) struct Question<'q> {
    pub(crate) method: &'static str,
    pub(crate) path: &'q str,
    /// One header, where the question needs one.
    pub(crate) header: Option<(&'static str, String)>,
    pub(crate) body: String,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    /// What `Cellar-Degraded` says, if it is there.
    pub(crate) degraded: Option<String>,
    pub(crate) replayed: bool,
    pub(crate) body: Bytes,
}

impl Connection {
    pub(crate) async fn open(address: &str) -> Result<Self> {
        let stream = tokio::net::TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (send, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // It ends with its sender; a break shows in the next send.
            let _ = connection.await;
        });
        Ok(Self { send })
    }

    pub(crate) async fn send(&mut self, key: &str, question: Question<'_>) -> Result<Answer> {
        let mut request = http::Request::builder()
            .method(question.method)
            .uri(question.path)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {key}"));
        if let Some((name, value)) = question.header {
            request = request.header(name, value);
        }
        self.send.ready().await?;
        let Ok(response) = self.send.send_request(request.body(Full::new(question.body.into()))?).await else {
            bail!("the connection broke");
        };
        let status = response.status().as_u16();
        let degraded = response.headers().get("cellar-degraded");
        let degraded = degraded.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        let replayed = response.headers().contains_key("idempotency-replayed");
        Ok(Answer { status, degraded, replayed, body: response.into_body().collect().await?.to_bytes() })
    }
}
