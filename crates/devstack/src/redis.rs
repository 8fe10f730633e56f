//! Redis, as the quota store and as the cache.

use crate::folders::test_folder;
use crate::plan::Fsync;
use crate::process::{Gently, Identity, Launch, Tether, on_path};
use crate::ready::Ready;
use crate::{StackError, ports};
use std::path::Path;

/// The cache is a cache: what does not fit is evicted.
const CACHE_MEMORY: &str = "64mb";

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

    async fn launch(launch: impl Fn(&Path, u16) -> Result<Launch, StackError>) -> Result<Self, StackError> {
        let (folder, port) = (test_folder()?, ports::free()?);
        let launch = launch(folder.path(), port)?;
        if !ports::release(port).await {
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
    let fsync = match fsync {
        Fsync::Always => "always",
        Fsync::Everysec => "everysec",
    };
    launch(folder, port, &["--appendonly", "yes", "--appendfsync", fsync, "--maxmemory-policy", "noeviction"])
}

pub(crate) fn cache_launch(folder: &Path, port: u16) -> Result<Launch, StackError> {
    launch(folder, port, &["--appendonly", "no", "--maxmemory", CACHE_MEMORY, "--maxmemory-policy", "allkeys-lru"])
}

fn launch(folder: &Path, port: u16, settings: &[&str]) -> Result<Launch, StackError> {
    let program = on_path("redis-server").ok_or(StackError::NotInstalled { program: "redis-server" })?;
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn ask(redis: &Redis, command: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", redis.port)).await.unwrap();
        stream.write_all(command.as_bytes()).await.unwrap();
        let mut answer = vec![0; 64];
        let got = stream.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..got]).into_owned()
    }

    #[tokio::test]
    async fn a_killed_quota_redis_comes_back_on_its_port_with_its_data() {
        let mut redis = Redis::start_quota().await.unwrap();
        assert_eq!(ask(&redis, "SET a 1\r\n").await, "+OK\r\n");
        redis.restart().await.unwrap();
        assert_eq!(ask(&redis, "GET a\r\n").await, "$1\r\n1\r\n");
    }

    #[tokio::test]
    async fn a_redis_is_gone_when_its_test_is() {
        let redis = Redis::start_cache().await.unwrap();
        let life = redis.life;
        drop(redis);
        assert!(!life.is_alive());
    }
}
