//! The quota Redis of a cell, in one of three shapes, and what has to be done once its servers answer.

use crate::folders::{temporary_folder, write_private};
use crate::process::{Gently, Identity, Launch, Tether};
use crate::ready::Ready;
use crate::redis::{command, contained, quota_launch, quota_settings, redis_server};
use crate::state::Role;
use crate::world::{Fsync, RedisShape};
use crate::{StackError, ports};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// An odd number, so that there is a majority.
const SENTINELS: usize = 3;
const NODES: usize = 3;
const SLOTS: usize = 16_384;
/// How long the primary may be silent before a Sentinel holds it down.
const DOWN_AFTER_MS: u32 = 1_000;
/// For servers that answer to see each other.
const SETTLE_MAX: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// One process of it.
pub(crate) struct QuotaServer {
    /// What its name ends with, behind the cell's.
    pub(crate) name: String,
    pub(crate) role: Role,
    /// The one that clients ask first.
    pub(crate) ports: Vec<u16>,
    pub(crate) launch: Launch,
}

/// All of them, and the URL that a cell reaches them by.
pub(crate) struct QuotaPlan {
    pub(crate) servers: Vec<QuotaServer>,
    pub(crate) url: String,
}

/// Plans the quota Redis of `cell`, each server in a folder of `data` by its name.
pub(crate) fn plan(
    shape: RedisShape,
    cell: &str,
    data: impl Fn(&str) -> PathBuf,
    fsync: Fsync,
) -> Result<QuotaPlan, StackError> {
    match shape {
        RedisShape::Single => single(data, fsync),
        RedisShape::Sentinel => sentinel(cell, data, fsync),
        RedisShape::Cluster => cluster(data, fsync),
    }
}

fn single(data: impl Fn(&str) -> PathBuf, fsync: Fsync) -> Result<QuotaPlan, StackError> {
    let (name, port) = ("redis-quota", ports::free()?);
    let launch = quota_launch(&data(name), port, fsync)?;
    let server = QuotaServer { name: name.into(), role: Role::RedisQuota, ports: vec![port], launch };
    Ok(QuotaPlan { servers: vec![server], url: format!("redis://127.0.0.1:{port}/") })
}

/// A primary, a replica, and Sentinels that say when the primary is down and change nothing: `replica-priority
/// 0` keeps them from choosing the replica, and their user may not make any server another one's replica.
fn sentinel(cell: &str, data: impl Fn(&str) -> PathBuf, fsync: Fsync) -> Result<QuotaPlan, StackError> {
    let password = hex::encode(rand::random::<[u8; 16]>());
    let (primary, replica) = (ports::free()?, ports::free()?);
    let mut servers = Vec::new();
    for (name, role, port, of) in [
        ("redis-quota", Role::RedisQuota, primary, None),
        ("redis-replica", Role::RedisReplica, replica, Some(primary)),
    ] {
        let launch = replicated_launch(&data(name), port, fsync, &password, of)?;
        servers.push(QuotaServer { name: name.into(), role, ports: vec![port], launch });
    }
    let mut addresses = Vec::new();
    for n in 1..=SENTINELS {
        let (name, port) = (format!("sentinel-{n}"), ports::free()?);
        let launch = sentinel_launch(&data(&name), port, cell, primary)?;
        servers.push(QuotaServer { name, role: Role::Sentinel, ports: vec![port], launch });
        addresses.push(format!("127.0.0.1:{port}"));
    }
    let url = format!("redis+sentinel://cellar:{password}@{}/{cell}", addresses.join(","));
    Ok(QuotaPlan { servers, url })
}

fn cluster(data: impl Fn(&str) -> PathBuf, fsync: Fsync) -> Result<QuotaPlan, StackError> {
    let (mut servers, mut addresses) = (Vec::new(), Vec::new());
    for n in 1..=NODES {
        let (name, port, bus) = (format!("redis-quota-{n}"), ports::free()?, ports::free()?);
        let mut launch = quota_launch(&data(&name), port, fsync)?;
        let bus_port = bus.to_string();
        let settings = [
            "--cluster-enabled",
            "yes",
            "--cluster-port",
            &bus_port,
            "--cluster-announce-ip",
            "127.0.0.1",
            "--cluster-replica-no-failover",
            "yes",
            "--cluster-require-full-coverage",
            "no",
        ];
        launch.arguments.extend(settings.map(str::to_owned));
        servers.push(QuotaServer { name, role: Role::RedisQuota, ports: vec![port, bus], launch });
        addresses.push(format!("127.0.0.1:{port}"));
    }
    Ok(QuotaPlan { servers, url: format!("redis+cluster://{}/", addresses.join(",")) })
}

/// With a file that the server rewrites when its role changes, so that it starts again in that role.
fn replicated_launch(
    folder: &Path,
    port: u16,
    fsync: Fsync,
    password: &str,
    primary: Option<u16>,
) -> Result<Launch, StackError> {
    let mut settings = format!("port {port}\nbind 127.0.0.1\ndir {}\nsave \"\"\n", quoted(folder));
    for (name, value) in quota_settings(fsync) {
        // Writing into a string cannot fail.
        let _ = writeln!(settings, "{name} {value}");
    }
    let _ = writeln!(
        settings,
        "repl-diskless-sync-delay 0\nreplica-priority 0\nuser default on nopass ~* &* +@all -replicaof -slaveof -failover\n\
         user cellar on >{password} ~* &* +@all"
    );
    if let Some(primary) = primary {
        let _ = writeln!(settings, "replicaof 127.0.0.1 {primary}");
    }
    launch(folder, "redis.conf", &settings, &[])
}

fn sentinel_launch(folder: &Path, port: u16, name: &str, primary: u16) -> Result<Launch, StackError> {
    let quorum = SENTINELS / 2 + 1;
    let settings = format!(
        "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor {name} 127.0.0.1 {primary} {quorum}\n\
         sentinel down-after-milliseconds {name} {DOWN_AFTER_MS}\nsentinel failover-timeout {name} 10000\n",
        quoted(folder)
    );
    launch(folder, "sentinel.conf", &settings, &["--sentinel"])
}

fn launch(folder: &Path, file: &str, settings: &str, arguments: &[&str]) -> Result<Launch, StackError> {
    std::fs::create_dir_all(folder).map_err(StackError::folder(folder))?;
    let path = folder.join(file);
    write_private(&path, settings.as_bytes())?;
    let arguments = std::iter::once(path.display().to_string()).chain(arguments.iter().map(|a| (*a).to_owned()));
    Ok(Launch {
        program: redis_server()?,
        arguments: arguments.collect(),
        user: None,
        log: folder.join("log"),
        stop: Gently::Term,
    })
}

/// A path as Redis's configuration takes it.
fn quoted(path: &Path) -> String {
    format!("\"{}\"", path.display().to_string().replace('\\', "\\\\").replace('"', "\\\""))
}

/// Waits until the servers of one cell, which all answer, are one store: the replica has its primary's
/// content, or the cluster serves every slot. Slots are given out once; a cluster that was here before
/// remembers them.
pub(crate) async fn settle(shape: RedisShape, servers: &[(Role, Vec<u16>)]) -> Result<(), StackError> {
    let stores: Vec<&Vec<u16>> = servers.iter().filter(|(role, _)| *role != Role::Sentinel).map(|(_, p)| p).collect();
    match shape {
        RedisShape::Single => Ok(()),
        RedisShape::Sentinel => until("attaching the replica", async || any_has_a_replica(&stores).await).await,
        RedisShape::Cluster => {
            for (n, ports) in stores.iter().enumerate() {
                give_slots(ports[0], n).await?;
            }
            for ports in &stores {
                meet(ports[0], &stores).await?;
            }
            until(FORMING, async || all_see_all(&stores).await).await
        }
    }
}

/// Waits until the Sentinels of one cell, started when its servers were one store, know the replica and each
/// other. One that asks a primary too early asks again after ten seconds only.
pub(crate) async fn watched(servers: &[(Role, Vec<u16>)]) -> Result<(), StackError> {
    let sentinels: Vec<u16> = servers.iter().filter(|(role, _)| *role == Role::Sentinel).map(|(_, p)| p[0]).collect();
    let others = format!("slaves=1,sentinels={}", sentinels.len());
    until("watching the primary", async || {
        for sentinel in &sentinels {
            if !command(*sentinel, "INFO sentinel").await.is_ok_and(|info| info.contains(&others)) {
                return false;
            }
        }
        true
    })
    .await
}

async fn any_has_a_replica(stores: &[&Vec<u16>]) -> bool {
    for ports in stores {
        if command(ports[0], "INFO replication").await.is_ok_and(|info| info.contains("state=online")) {
            return true;
        }
    }
    false
}

const FORMING: &str = "forming the cluster";

async fn ask(port: u16, line: &str) -> Result<String, StackError> {
    let failed = |cause: String| StackError::Step { step: FORMING, cause };
    let answer = command(port, line).await.map_err(|error| failed(error.to_string()))?;
    if answer.starts_with('-') { Err(failed(answer)) } else { Ok(answer) }
}

/// Gives a node its slots and its epoch, which it takes only while it knows no other node: all have theirs before
/// any meets another.
async fn give_slots(port: u16, n: usize) -> Result<(), StackError> {
    if ask(port, "CLUSTER INFO").await?.contains("cluster_slots_assigned:0\r") {
        let (first, last) = (n * SLOTS / NODES, (n + 1) * SLOTS / NODES - 1);
        ask(port, &format!("CLUSTER SET-CONFIG-EPOCH {}", n + 1)).await?;
        ask(port, &format!("CLUSTER ADDSLOTSRANGE {first} {last}")).await?;
    }
    Ok(())
}

async fn meet(port: u16, stores: &[&Vec<u16>]) -> Result<(), StackError> {
    for other in stores.iter().filter(|other| other[0] != port) {
        ask(port, &format!("CLUSTER MEET 127.0.0.1 {} {}", other[0], other[1])).await?;
    }
    Ok(())
}

async fn all_see_all(stores: &[&Vec<u16>]) -> bool {
    for ports in stores {
        let Ok(info) = command(ports[0], "CLUSTER INFO").await else { return false };
        let whole = [
            "cluster_state:ok\r".to_owned(),
            format!("cluster_known_nodes:{NODES}\r"),
            format!("cluster_slots_ok:{SLOTS}\r"),
        ];
        if !whole.iter().all(|line| info.contains(line)) {
            return false;
        }
    }
    true
}

async fn until(step: &'static str, mut done: impl AsyncFnMut() -> bool) -> Result<(), StackError> {
    let until = Instant::now() + SETTLE_MAX;
    while !done().await {
        if Instant::now() > until {
            let cause = format!("it is not done after {} s", SETTLE_MAX.as_secs());
            return Err(StackError::Step { step, cause });
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

/// A quota Redis of one test's own, in any shape, gone on drop.
pub struct QuotaRedis {
    servers: Vec<(QuotaServer, Identity)>,
    url: String,
    _folder: tempfile::TempDir,
}

impl QuotaRedis {
    pub async fn start(shape: RedisShape) -> Result<Self, StackError> {
        let folder = temporary_folder()?;
        let plan = plan(shape, "test", |name| folder.path().join(name), Fsync::Always)?;
        let mut redis = Self { servers: Vec::new(), url: plan.url, _folder: folder };
        let is_sentinel = |server: &QuotaServer| server.role == Role::Sentinel;
        let (sentinels, stores): (Vec<_>, Vec<_>) = plan.servers.into_iter().partition(is_sentinel);
        redis.launch(stores).await?;
        settle(shape, &redis.ports()).await?;
        redis.launch(sentinels).await?;
        watched(&redis.ports()).await?;
        Ok(redis)
    }

    async fn launch(&mut self, servers: Vec<QuotaServer>) -> Result<(), StackError> {
        let before = self.servers.len();
        for mut server in servers {
            server.launch = contained(server.launch)?;
            for port in &server.ports {
                if !ports::release(std::net::Ipv4Addr::LOCALHOST, *port).await {
                    return Err(StackError::PortTaken { name: server.name, port: *port });
                }
            }
            let life = server.launch.start(&server.name, Tether::ToUs)?;
            // Held before it is ready, so that a failed wait ends it.
            self.servers.push((server, life));
        }
        for (server, life) in &self.servers[before..] {
            Ready::RedisOn(server.ports[0]).wait(&server.name, *life, &server.launch).await?;
        }
        Ok(())
    }

    fn ports(&self) -> Vec<(Role, Vec<u16>)> {
        self.servers.iter().map(|(server, _)| (server.role, server.ports.clone())).collect()
    }

    /// As a cell is told of it.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Of the server of that name.
    pub fn url_of(&self, name: &str) -> Option<String> {
        self.named(name).map(|(server, _)| format!("redis://127.0.0.1:{}/", server.ports[0]))
    }

    fn named(&self, name: &str) -> Option<&(QuotaServer, Identity)> {
        self.servers.iter().find(|(server, _)| server.name == name)
    }

    /// Dies as in a crash.
    pub async fn kill9(&self, name: &str) {
        if let Some((_, life)) = self.named(name) {
            life.kill9().await;
        }
    }

    /// Starts again on the same port and folder.
    pub async fn restart(&mut self, name: &str) -> Result<(), StackError> {
        self.kill9(name).await;
        let Some((server, life)) = self.servers.iter_mut().find(|(server, _)| server.name == name) else {
            return Ok(());
        };
        *life = server.launch.start(&server.name, Tether::ToUs)?;
        Ready::RedisOn(server.ports[0]).wait(&server.name, *life, &server.launch).await
    }
}

impl Drop for QuotaRedis {
    fn drop(&mut self) {
        for (_, life) in &self.servers {
            life.kill9_now();
        }
    }
}
