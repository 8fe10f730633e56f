//! One of the connections that checks travel on, with its call in flight.

use super::Fault;
use super::breaker::Breaker;
use super::gather::{self, Job, Queue};
use bytes::Bytes;
use cellar_model::Verdict;
use http::uri::Authority;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use prometheus_client::metrics::histogram::Histogram;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

const CONNECT_MAX: Duration = Duration::from_secs(1);
/// 1,000 verdicts of eight slots each are about 600 KiB.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

pub(crate) struct Lane {
    queue: Arc<Queue>,
    authority: Authority,
    breaker: Arc<Breaker>,
    gathered: Histogram,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Lane {
    pub(crate) fn new(queue: Arc<Queue>, authority: Authority, breaker: Arc<Breaker>, gathered: Histogram) -> Self {
        Self { queue, authority, breaker, gathered, connection: None }
    }

    pub(crate) async fn run(mut self) {
        while let Some(jobs) = self.queue.next().await {
            let checks: usize = jobs.iter().map(|job| job.checks).sum();
            self.gathered.observe(checks as f64);
            let sent = Instant::now();
            match self.call(&jobs, checks).await {
                Ok(verdicts) => {
                    self.breaker.answered();
                    hand_out(jobs, verdicts, sent);
                }
                Err(fault) => {
                    self.breaker.failed();
                    for job in jobs {
                        // Who does not wait any more need not know.
                        let _ = job.reply.send(Err(fault));
                    }
                }
            }
        }
    }

    async fn call(&mut self, jobs: &[Job], checks: usize) -> Result<Vec<Verdict>, Fault> {
        let until = gather::until(jobs);
        let request = self.request(jobs)?;
        let bytes = self.send(request, until).await?;
        match postcard::from_bytes::<Vec<Verdict>>(&bytes) {
            Ok(verdicts) if verdicts.len() == checks => Ok(verdicts),
            Ok(_) | Err(_) => {
                tracing::error!(cell = %self.authority, "a cell's verdicts cannot be read");
                Err(Fault::Silent)
            }
        }
    }

    fn request(&self, jobs: &[Job]) -> Result<Request<Full<Bytes>>, Fault> {
        let host = HeaderValue::from_str(self.authority.as_str()).map_err(|_| Fault::Down)?;
        Request::post("/cell/v1/decide")
            .header(header::HOST, host)
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))
            .body(Full::new(gather::body(jobs)))
            .map_err(|_| Fault::Down)
    }

    /// Sends once; a second time only when the first certainly did not leave, because the connection
    /// had been closed while nobody used it.
    async fn send(&mut self, mut request: Request<Full<Bytes>>, until: Instant) -> Result<Bytes, Fault> {
        for _ in 0..2 {
            let mut connection = self.connected().await?;
            match timeout_at(until, connection.try_send_request(request)).await {
                Ok(Ok(response)) => {
                    let bytes = self.answer(response, until).await?;
                    self.connection = Some(connection);
                    return Ok(bytes);
                }
                Ok(Err(mut error)) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(Fault::Silent),
                },
                // The answer may still come; this connection is not good for another call.
                Err(_) => return Err(Fault::Silent),
            }
        }
        Err(Fault::Down)
    }

    async fn connected(&mut self) -> Result<SendRequest<Full<Bytes>>, Fault> {
        if let Some(mut connection) = self.connection.take()
            && connection.ready().await.is_ok()
        {
            return Ok(connection);
        }
        let connect = TcpStream::connect(self.authority.as_str());
        let stream = timeout(CONNECT_MAX, connect).await.map_err(|_| Fault::Down)?.map_err(|_| Fault::Down)?;
        // Calls are written whole: waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|_| Fault::Down)?;
        tokio::spawn(async move {
            // It ends when its sender is dropped; a failure is seen by whoever waits for an answer.
            let _ = connection.await;
        });
        Ok(sender)
    }

    async fn answer(&self, response: http::Response<hyper::body::Incoming>, until: Instant) -> Result<Bytes, Fault> {
        if response.status() != StatusCode::OK {
            let status = response.status().as_u16();
            tracing::warn!(cell = %self.authority, status, "a cell did not take a call");
            return Err(Fault::Silent);
        }
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
        match timeout_at(until, body).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(_)) | Err(_) => Err(Fault::Silent),
        }
    }
}

/// Each job its verdicts, which stand in the order of the jobs.
fn hand_out(jobs: Vec<Job>, mut verdicts: Vec<Verdict>, sent: Instant) {
    for job in jobs.into_iter().rev() {
        let rest = verdicts.len().saturating_sub(job.checks);
        let _ = job.reply.send(Ok((verdicts.split_off(rest), sent)));
    }
}
