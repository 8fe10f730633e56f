//! Ready means ready: each server is asked in its own language until it answers.

use crate::process::{Identity, Launch};
use crate::{StackError, postgres};
use serde::{Deserialize, Serialize};
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
    PostgresOn(u16),
    /// `/readyz` of an admin listener.
    HttpOn(u16),
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

    async fn answers(self) -> bool {
        let asked = async {
            match self {
                Ready::RedisOn(port) => ask(port, "PING\r\n", "+PONG").await,
                Ready::HttpOn(port) => {
                    let request = "GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
                    ask(port, request, "HTTP/1.1 200").await
                }
                Ready::PostgresOn(port) => postgres::is_ready(port).await,
            }
        };
        tokio::time::timeout(ASK_MAX, asked).await.unwrap_or(false)
    }
}

async fn ask(port: u16, question: &str, answer: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await else { return false };
    if stream.write_all(question.as_bytes()).await.is_err() {
        return false;
    }
    let mut got = vec![0; answer.len()];
    stream.read_exact(&mut got).await.is_ok() && got == answer.as_bytes()
}
