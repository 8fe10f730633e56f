//! Ready means ready: each server is asked in its own language until it answers.

use crate::StackError;
use crate::postgres::{self, Database};
use crate::process::{Identity, Launch};
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

const READY_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
const ASK_MAX: Duration = Duration::from_secs(2);

/// How to ask a server whether it serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ready {
    RedisOn(u16),
    PostgresOn(u16, Database),
    /// `/readyz` of an admin listener.
    HttpOn(u16),
    CqlOn(Ipv4Addr, u16),
    /// `/-/ready`: it has read its rules, and what it kept.
    PrometheusOn(u16),
    GrafanaOn(u16),
}

impl Ready {
    /// Waits until the server answers; its death and a bound on the wait are errors with its log.
    pub(crate) async fn wait(self, name: &str, life: Identity, launch: &Launch) -> Result<(), StackError> {
        let until = Instant::now() + READY_MAX;
        while !self.answers().await {
            if !life.is_alive() {
                return Err(StackError::Died { name: name.to_owned(), tail: launch.log_tail() });
            }
            if Instant::now() > until {
                let (seconds, tail) = (READY_MAX.as_secs(), launch.log_tail());
                return Err(StackError::NotReady { name: name.to_owned(), seconds, tail });
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    pub(crate) async fn answers(self) -> bool {
        let asked = async {
            match self {
                Ready::RedisOn(port) => ask(port, "PING\r\n", "+PONG").await,
                Ready::HttpOn(port) => page(port, "/readyz").await,
                Ready::PrometheusOn(port) => page(port, "/-/ready").await,
                Ready::GrafanaOn(port) => page(port, "/api/health").await,
                Ready::CqlOn(address, port) => cql_serves(address, port).await.unwrap_or(false),
                Ready::PostgresOn(port, database) => postgres_opens(port, database).await.unwrap_or(false),
            }
        };
        tokio::time::timeout(ASK_MAX, asked).await.unwrap_or(false)
    }
}

async fn page(port: u16, path: &str) -> bool {
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    ask(port, &request, "HTTP/1.1 200").await
}

async fn ask(port: u16, question: &str, answer: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await else { return false };
    if stream.write_all(question.as_bytes()).await.is_err() {
        return false;
    }
    let mut got = vec![0; answer.len()];
    stream.read_exact(&mut got).await.is_ok() && got == answer.as_bytes()
}

/// Asks which options it has, which needs no session: it listens for clients once it has joined its
/// cluster.
async fn cql_serves(address: Ipv4Addr, port: u16) -> std::io::Result<bool> {
    // Version 4, no flags, stream 0, OPTIONS, no body. SUPPORTED is opcode 6 of a response.
    let (options, supported) = ([4, 0, 0, 0, 5, 0, 0, 0, 0], 6);
    let mut stream = TcpStream::connect((address, port)).await?;
    stream.write_all(&options).await?;
    let mut header = [0; 9];
    stream.read_exact(&mut header).await?;
    Ok(header[4] == supported)
}

/// Opens a session and sees it ready for a query: while it starts, Postgres accepts a connection only
/// to refuse it.
async fn postgres_opens(port: u16, database: Database) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(&postgres_hello(database)).await?;
    for _ in 0..MESSAGES_MAX {
        let kind = stream.read_u8().await?;
        let length = stream.read_u32().await?.saturating_sub(4).min(MESSAGE_MAX);
        tokio::io::copy(&mut (&mut stream).take(u64::from(length)), &mut tokio::io::sink()).await?;
        match kind {
            b'Z' => return Ok(true),
            b'E' => return Ok(false),
            _ => {}
        }
    }
    Ok(false)
}

/// What a server says about itself before it is ready: some twenty short messages.
const MESSAGES_MAX: usize = 100;
const MESSAGE_MAX: u32 = 64 * 1024;

/// The first message of Postgres's protocol 3.0: its length, the version, then names and values.
fn postgres_hello(database: Database) -> Vec<u8> {
    let mut hello = vec![0, 0, 0, 0, 0, 3, 0, 0];
    for text in ["user", postgres::USER, "database", database.name()] {
        hello.extend(text.as_bytes());
        hello.push(0);
    }
    hello.push(0);
    if let Ok(length) = u32::try_from(hello.len()) {
        hello[..4].copy_from_slice(&length.to_be_bytes());
    }
    hello
}
