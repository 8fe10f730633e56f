//! One run: so many connections, each with one request in flight, for so long.

use crate::people::{put_tier, sign_up};
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use cellar_devstack::Cellctl;
use futures::future::join_all;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Consume,
    Profile,
}

/// A stack under load, and what is needed to ask it.
pub(crate) struct Load {
    address: String,
    key: String,
    users: Vec<String>,
    /// (role, pid) of every process whose time is counted.
    processes: Vec<(String, i64)>,
}

pub(crate) struct Measured {
    pub(crate) requests: u64,
    pub(crate) denied: u64,
    /// Answers that were neither an admission nor a denial.
    pub(crate) failed: u64,
    pub(crate) elapsed: Duration,
    pub(crate) took_us: Histogram<u64>,
    /// By role, CPU microseconds a request; the client's own among them.
    pub(crate) cpu_us: BTreeMap<String, f64>,
}

impl Load {
    pub(crate) async fn prepare(stack: &Cellctl, users: usize) -> Result<Self> {
        let status = stack.status()?;
        let text = |value: &serde_json::Value| value.as_str().map(str::to_owned).context("a status of another form");
        let url = text(&status["regions"][0]["router_url"])?;
        let address = url.trim_start_matches("http://").to_owned();
        let key = text(&status["service_key"])?;
        let admin = text(&status["regions"][0]["admin_url"])?;
        put_tier(admin.trim_start_matches("http://"), &text(&status["operator_key"])?).await?;
        let processes = status["processes"].as_array().context("no processes")?;
        let mut counted: Vec<(String, i64)> = processes
            .iter()
            .filter_map(|process| Some((process["role"].as_str()?.to_owned(), process["pid"].as_i64()?)))
            .collect();
        counted.push(("client".into(), i64::from(std::process::id())));
        let users = sign_up(&address, &key, users).await?;
        Ok(Self { address, key, users, processes: counted })
    }

    pub(crate) async fn run(&self, kind: Kind, connections: usize, length: Duration) -> Result<Measured> {
        let before = self.cpu()?;
        let began = Instant::now();
        let senders = (0..connections).map(|n| self.connection(kind, n, connections, began + length));
        let mut all = Measured {
            requests: 0,
            denied: 0,
            failed: 0,
            elapsed: Duration::ZERO,
            took_us: Histogram::new_with_bounds(1, 60_000_000, 3)?,
            cpu_us: BTreeMap::new(),
        };
        for one in join_all(senders).await {
            let one = one?;
            all.requests += one.0;
            all.denied += one.1;
            all.failed += one.2;
            all.took_us.add(&one.3)?;
        }
        all.elapsed = began.elapsed();
        for (role, after) in self.cpu()? {
            let spent = after - before.get(&role).copied().unwrap_or(0.0);
            all.cpu_us.insert(role, spent * 1e6 / all.requests.max(1) as f64);
        }
        Ok(all)
    }

    /// Each connection asks for users of its own, in turn.
    async fn connection(
        &self,
        kind: Kind,
        n: usize,
        of: usize,
        until: Instant,
    ) -> Result<(u64, u64, u64, Histogram<u64>)> {
        let mut connection = Connection::open(&self.address).await?;
        let mut took = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        let (mut requests, mut denied, mut failed) = (0, 0, 0);
        for user in self.users.iter().skip(n).step_by(of).cycle() {
            let began = Instant::now();
            if began >= until {
                break;
            }
            let (status, body) = match kind {
                Kind::Consume => {
                    let body = format!("{{\"user_id\":\"{user}\",\"cost\":{{\"tokens\":1}}}}");
                    connection.send("POST", "/v1/internal/quota/consume", &self.key, None, body).await?
                }
                Kind::Profile => {
                    connection.send("GET", "/v1/user/profile", &self.key, Some(user), String::new()).await?
                }
            };
            took.saturating_record(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
            requests += 1;
            match (kind, status) {
                (Kind::Consume, 200) if contains(&body, b"\"allowed\":true") => {}
                (Kind::Consume, 429) if contains(&body, b"\"allowed\":false") => denied += 1,
                (Kind::Profile, 200) if contains(&body, user.as_bytes()) => {}
                _ => failed += 1,
            }
        }
        Ok((requests, denied, failed, took))
    }

    /// CPU seconds by role so far.
    fn cpu(&self) -> Result<BTreeMap<String, f64>> {
        let mut seconds = BTreeMap::<String, f64>::new();
        for (role, pid) in &self.processes {
            *seconds.entry(role.clone()).or_default() += tree_cpu(*pid)?;
        }
        Ok(seconds)
    }
}

/// CPU seconds of a process and its children: Postgres serves each connection by one.
fn tree_cpu(pid: i64) -> Result<f64> {
    /// `_SC_CLK_TCK` of every Linux that has `/proc`.
    const TICKS: f64 = 100.0;
    let stat = |pid: i64| -> Option<f64> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        // User and system time, of itself and of children it has waited for.
        fields.get(11..15)?.iter().map(|field| field.parse::<f64>().ok()).sum()
    };
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|child| stat(child.parse().ok()?));
    let own = stat(pid).with_context(|| format!("process {pid} is gone"))?;
    Ok((own + children.sum::<f64>()) / TICKS)
}

fn contains(body: &[u8], part: &[u8]) -> bool {
    body.windows(part.len()).any(|window| window == part)
}

/// One HTTP/1.1 connection with one request in flight.
pub(crate) struct Connection {
    send: SendRequest<Full<Bytes>>,
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

    pub(crate) async fn send(
        &mut self,
        method: &str,
        path: &str,
        key: &str,
        user: Option<&str>,
        body: String,
    ) -> Result<(u16, Bytes)> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {key}"));
        if let Some(user) = user {
            request = request.header("cellar-user", user);
        }
        self.send.ready().await?;
        let Ok(response) = self.send.send_request(request.body(Full::new(body.into()))?).await else {
            bail!("the connection broke");
        };
        let status = response.status().as_u16();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }
}
