//! Redis, as the quota store and as the cache.

use crate::folders::temporary_folder;
use crate::process::{Gently, Identity, Launch, Tether, on_path};
use crate::ready::Ready;
use crate::world::Fsync;
use crate::{StackError, containers, ports};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// The cache is a cache: what does not fit is evicted.
const CACHE_MEMORY: &str = "64mb";
/// For a replica to take over what its primary holds.
const REPLICA_MAX: Duration = Duration::from_secs(30);
const COMMAND_MAX: Duration = Duration::from_secs(2);
/// Of what a server says of itself.
const ANSWER_MAX: usize = 64 * 1024;

/// A Redis of one test's own: own port, own folder, gone on drop.
pub struct Redis {
    port: u16,
    launch: Launch,
    life: Identity,
    _folder: tempfile::TempDir,
}

impl Redis {
    /// As a cell's quota store.
    pub async fn start() -> Result<Self, StackError> {
        Self::start_quota().await
    }

    /// With an append-only file flushed at every write, as the quota store has to be.
    pub async fn start_quota() -> Result<Self, StackError> {
        Self::launch(|folder, port| quota_launch(folder, port, Fsync::Always)).await
    }

    /// Without persistence, evicting.
    pub async fn start_cache() -> Result<Self, StackError> {
        Self::launch(cache_launch).await
    }

    /// As a replica of `primary`, with all it holds.
    pub async fn start_replica(primary: &Redis) -> Result<Self, StackError> {
        let of = format!("127.0.0.1 {}", primary.port);
        // Nobody else is about to come for a copy.
        let set = command(primary.port, "CONFIG SET repl-diskless-sync-delay 0").await;
        set.map_err(|error| StackError::Step { step: "attaching a replica", cause: error.to_string() })?;
        let replica = Self::launch(|folder, port| {
            let mut launch = quota_launch(folder, port, Fsync::Always)?;
            launch.arguments.extend(["--replica-priority", "0", "--replicaof", &of].map(str::to_owned));
            Ok(launch)
        });
        let replica = replica.await?;
        let until = tokio::time::Instant::now() + REPLICA_MAX;
        while !command(primary.port, "INFO replication").await.is_ok_and(|info| info.contains("state=online")) {
            if tokio::time::Instant::now() > until {
                return Err(StackError::Step { step: "attaching a replica", cause: "it does not get ready".into() });
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(replica)
    }

    async fn launch(launch: impl Fn(&Path, u16) -> Result<Launch, StackError>) -> Result<Self, StackError> {
        let (folder, port) = (temporary_folder()?, ports::free()?);
        let launch = contained(launch(folder.path(), port)?)?;
        if !ports::release(std::net::Ipv4Addr::LOCALHOST, port).await {
            return Err(StackError::PortTaken { name: "redis".into(), port });
        }
        let life = launch.start("redis", Tether::ToUs)?;
        // Made before it is ready, so that a failed wait ends it.
        let redis = Self { port, launch, life, _folder: folder };
        Ready::RedisOn(port).wait("redis", life, &redis.launch).await?;
        Ok(redis)
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }

    /// Dies as in a crash.
    pub async fn kill9(&self) {
        self.life.kill9().await;
    }

    pub fn is_running(&self) -> bool {
        self.life.is_alive()
    }

    /// Starts again on the same port and folder.
    pub async fn restart(&mut self) -> Result<(), StackError> {
        self.kill9().await;
        self.life = self.launch.start("redis", Tether::ToUs)?;
        Ready::RedisOn(self.port).wait("redis", self.life, &self.launch).await
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.life.kill9_now();
    }
}

pub(crate) fn quota_launch(folder: &Path, port: u16, fsync: Fsync) -> Result<Launch, StackError> {
    let settings = quota_settings(fsync).map(|(name, value)| [format!("--{name}"), value.to_owned()]);
    let settings = settings.concat();
    launch(folder, port, &settings.iter().map(String::as_str).collect::<Vec<_>>())
}

/// What every server of a quota store is started with.
pub(crate) fn quota_settings(fsync: Fsync) -> [(&'static str, &'static str); 3] {
    let fsync = match fsync {
        Fsync::Always => "always",
        Fsync::Everysec => "everysec",
    };
    [("appendonly", "yes"), ("appendfsync", fsync), ("maxmemory-policy", "noeviction")]
}

/// As a container, if the stores of tests are to be that.
pub(crate) fn contained(launch: Launch) -> Result<Launch, StackError> {
    match (containers::redis()?, launch.log.parent()) {
        (Some(image), Some(folder)) => image.contain_server(&launch, folder),
        _ => Ok(launch),
    }
}

pub(crate) fn redis_server() -> Result<PathBuf, StackError> {
    on_path("redis-server").ok_or(StackError::NotInstalled { program: "redis-server" })
}

/// Asks one thing of a server on this machine: the answer's text, an error's too (which begins with `-`).
pub(crate) async fn command(port: u16, line: &str) -> std::io::Result<String> {
    let asked = async {
        let mut stream = BufReader::new(TcpStream::connect(("127.0.0.1", port)).await?);
        stream.write_all(format!("{line}\r\n").as_bytes()).await?;
        let mut head = String::new();
        stream.read_line(&mut head).await?;
        let Some(length) = head.strip_prefix('$').and_then(|length| length.trim().parse::<usize>().ok()) else {
            return Ok(head.trim_end().to_owned());
        };
        let mut text = vec![0; length.min(ANSWER_MAX)];
        stream.read_exact(&mut text).await?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    };
    tokio::time::timeout(COMMAND_MAX, asked).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
}

pub(crate) fn cache_launch(folder: &Path, port: u16) -> Result<Launch, StackError> {
    launch(folder, port, &["--appendonly", "no", "--maxmemory", CACHE_MEMORY, "--maxmemory-policy", "allkeys-lru"])
}

fn launch(folder: &Path, port: u16, settings: &[&str]) -> Result<Launch, StackError> {
    let program = redis_server()?;
    std::fs::create_dir_all(folder).map_err(StackError::folder(folder))?;
    let common = ["--bind", "127.0.0.1", "--save", "", "--daemonize", "no", "--port"];
    let mut arguments: Vec<String> = common.iter().map(|text| (*text).to_owned()).collect();
    arguments.push(port.to_string());
    arguments.push("--dir".into());
    arguments.push(folder.display().to_string());
    arguments.extend(settings.iter().map(|text| (*text).to_owned()));
    Ok(Launch { program, arguments, user: None, log: folder.join("log"), stop: Gently::Term })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_killed_quota_redis_comes_back_on_its_port_with_its_data() {
        let mut redis = Redis::start_quota().await.unwrap();
        assert_eq!(command(redis.port, "SET a 1").await.unwrap(), "+OK");
        redis.restart().await.unwrap();
        assert_eq!(command(redis.port, "GET a").await.unwrap(), "1");
    }

    #[tokio::test]
    async fn a_redis_is_gone_when_its_test_is() {
        let redis = Redis::start_cache().await.unwrap();
        let life = redis.life;
        drop(redis);
        assert!(!life.is_alive());
    }
}
