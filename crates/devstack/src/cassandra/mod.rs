//! Apache Cassandra, for a directory on CQL: one node a datacenter, each a process of ours.

pub(crate) mod packages;

use crate::folders::temporary_folder;
use crate::process::{Gently, Identity, Launch, Tether};
use crate::ready::Ready;
use crate::{StackError, ports};
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;

/// The keyspace of a stack's directory. A cluster of its own has no other.
pub(crate) const KEYSPACE: &str = "cellar";

/// Modules that Cassandra looks into, as its own start script has them.
const EXPORTS: [&str; 8] = [
    "java.base/jdk.internal.misc",
    "java.base/jdk.internal.ref",
    "java.base/sun.nio.ch",
    "java.base/java.lang.ref",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.sql/java.sql",
];
const OPENS: [&str; 14] = [
    "java.base/java.io",
    "java.base/java.lang",
    "java.base/java.lang.module",
    "java.base/java.net",
    "java.base/java.nio",
    "java.base/java.util",
    "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/sun.nio.ch",
];
const MORE_OPENS: [&str; 2] = ["java.base/jdk.internal.util.jar", "jdk.management/com.sun.management.internal"];

/// One node: its datacenter, its address, and how it is started.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) datacenter: String,
    pub(crate) address: Ipv4Addr,
    /// For clients, and between nodes.
    pub(crate) ports: [u16; 2],
    pub(crate) launch: Launch,
}

impl Node {
    pub(crate) fn ready(&self) -> Ready {
        Ready::CqlOn(self.address, self.ports[0])
    }
}

/// How the nodes of a cluster are started, with their folders below `folder` by the names given; the
/// configuration files are written now. Clients find all nodes at one port, so each has an address of
/// its own on the loopback.
pub(crate) fn plan(named: &[(String, String)], folder: &Path) -> Result<Vec<Node>, StackError> {
    let (java, ports) = (packages::java()?, [ports::free()?, ports::free()?]);
    let addresses = (1..=u8::MAX).map(|n| Ipv4Addr::new(127, 0, 0, n));
    let nodes = || named.iter().zip(addresses.clone());
    let seeds: Vec<String> = nodes().map(|(_, address)| format!("{address}:{}", ports[1])).collect();
    let mut planned = Vec::with_capacity(named.len());
    for ((name, datacenter), address) in nodes() {
        let folder = folder.join(name);
        configure(&folder, datacenter, address, ports, &seeds.join(","))?;
        let launch = Launch {
            program: java.clone(),
            arguments: arguments(&folder),
            user: None,
            log: folder.join("log"),
            stop: Gently::Term,
        };
        planned.push(Node { datacenter: datacenter.clone(), address, ports, launch });
    }
    Ok(planned)
}

/// The URL of a directory on these nodes, for a client in this datacenter: its own node comes first.
pub(crate) fn url(nodes: &[Node], datacenter: &str) -> String {
    let (own, others): (Vec<&Node>, Vec<&Node>) = nodes.iter().partition(|node| node.datacenter == datacenter);
    let hosts: Vec<String> =
        own.iter().chain(&others).map(|node| format!("{}:{}", node.address, node.ports[0])).collect();
    format!("cql://{}/{KEYSPACE}?datacenter={datacenter}", hosts.join(","))
}

fn configure(
    folder: &Path,
    datacenter: &str,
    address: Ipv4Addr,
    [port, storage_port]: [u16; 2],
    seeds: &str,
) -> Result<(), StackError> {
    let mut yaml = String::new();
    // The server's own limits are below the two seconds that a client of ours waits: a slow one says
    // itself what it did.
    let settings = [
        ("cluster_name", "cellar"),
        ("num_tokens", "1"),
        ("partitioner", "org.apache.cassandra.dht.Murmur3Partitioner"),
        ("endpoint_snitch", "GossipingPropertyFileSnitch"),
        ("auto_bootstrap", "false"),
        ("commitlog_sync", "periodic"),
        ("commitlog_sync_period", "1000ms"),
        ("read_request_timeout", "1500ms"),
        ("range_request_timeout", "1500ms"),
        ("write_request_timeout", "1500ms"),
        ("cas_contention_timeout", "1000ms"),
        ("auto_snapshot", "false"),
        ("key_cache_size", "8MiB"),
        ("listen_address", &address.to_string()),
        ("rpc_address", &address.to_string()),
        ("native_transport_port", &port.to_string()),
        ("storage_port", &storage_port.to_string()),
    ];
    for (name, value) in settings {
        // Writing into a string cannot fail.
        let _ = writeln!(yaml, "{name}: {value}");
    }
    let _ = writeln!(
        yaml,
        "seed_provider:\n  - class_name: org.apache.cassandra.locator.SimpleSeedProvider\n    parameters:\n      - seeds: \"{seeds}\""
    );
    let logback = "\
        <configuration><appender name=\"out\" class=\"ch.qos.logback.core.ConsoleAppender\"><encoder>\
        <pattern>%d{HH:mm:ss.SSS} %-5level %logger{0} %msg%n</pattern></encoder></appender>\
        <root level=\"WARN\"><appender-ref ref=\"out\"/></root></configuration>\n";
    std::fs::create_dir_all(folder).map_err(StackError::folder(folder))?;
    for (file, content) in [
        ("cassandra.yaml", yaml.as_str()),
        ("cassandra-rackdc.properties", &format!("dc={datacenter}\nrack=rack1\n")),
        ("logback.xml", logback),
    ] {
        let path = folder.join(file);
        std::fs::write(&path, content).map_err(StackError::folder(&path))?;
    }
    Ok(())
}

fn arguments(folder: &Path) -> Vec<String> {
    let at = folder.display();
    let mut arguments: Vec<String> = [
        // Small, and started soon: it runs beside everything else on one machine.
        "-Xmx512m",
        "-Xss512k",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:+ExitOnOutOfMemoryError",
        "-Djdk.attach.allowAttachSelf=true",
        // A cluster on one machine needs no half minute to know itself.
        "-Dcassandra.ring_delay_ms=1000",
        "-Dcassandra.skip_wait_for_gossip_to_settle=0",
    ]
    .map(str::to_owned)
    .into();
    arguments.push(format!("-javaagent:{}", packages::agent().display()));
    for (option, modules) in [("--add-exports", &EXPORTS[..]), ("--add-opens", &OPENS), ("--add-opens", &MORE_OPENS)] {
        arguments.extend(modules.iter().map(|module| format!("{option}={module}=ALL-UNNAMED")));
    }
    arguments.push(format!("-Dcassandra.config=file:{at}/cassandra.yaml"));
    arguments.push(format!("-Dcassandra.storagedir={at}"));
    arguments.push("-cp".into());
    arguments.push(format!("{at}:{}/*", packages::folder().display()));
    arguments.push("org.apache.cassandra.service.CassandraDaemon".into());
    arguments
}

/// A Cassandra of one test's own: a node a datacenter, own ports and folders, gone on drop.
pub struct Cassandra {
    nodes: Vec<Node>,
    lives: Vec<Identity>,
    _folder: tempfile::TempDir,
}

impl Cassandra {
    pub async fn start(datacenters: &[&str]) -> Result<Self, StackError> {
        let fetching = tokio::task::spawn_blocking(packages::fetch).await;
        fetching.map_err(|error| StackError::Step { step: "fetching Cassandra", cause: error.to_string() })??;
        let folder = temporary_folder()?;
        let named: Vec<(String, String)> =
            datacenters.iter().map(|name| (format!("directory-{name}"), (*name).to_owned())).collect();
        let nodes = plan(&named, folder.path())?;
        let mut started = Self { nodes, lives: Vec::new(), _folder: folder };
        for port in started.nodes[0].ports {
            if !ports::release(started.nodes[0].address, port).await {
                return Err(StackError::PortTaken { name: "cassandra".into(), port });
            }
        }
        for node in &started.nodes {
            started.lives.push(node.launch.start(&node.datacenter, Tether::ToUs)?);
        }
        for (node, life) in started.nodes.iter().zip(&started.lives) {
            node.ready().wait(&node.datacenter, *life, &node.launch).await?;
        }
        Ok(started)
    }

    /// Of a directory, for a client in this datacenter.
    pub fn url(&self, datacenter: &str) -> String {
        url(&self.nodes, datacenter)
    }

    /// The address of one's node, for whoever speaks to it through something else.
    pub fn address(&self, datacenter: &str) -> Option<(Ipv4Addr, u16)> {
        self.nodes.iter().find(|node| node.datacenter == datacenter).map(|node| (node.address, node.ports[0]))
    }

    pub async fn kill9(&self, datacenter: &str) {
        for (node, life) in self.nodes.iter().zip(&self.lives) {
            if node.datacenter == datacenter {
                life.kill9().await;
            }
        }
    }

    /// Starts a datacenter's node again, on the same ports and folder.
    pub async fn restart(&mut self, datacenter: &str) -> Result<(), StackError> {
        self.kill9(datacenter).await;
        for (node, life) in self.nodes.iter().zip(&mut self.lives) {
            if node.datacenter == datacenter {
                *life = node.launch.start(datacenter, Tether::ToUs)?;
                node.ready().wait(datacenter, *life, &node.launch).await?;
            }
        }
        Ok(())
    }
}

impl Drop for Cassandra {
    fn drop(&mut self) {
        for life in &self.lives {
            life.kill9_now();
        }
    }
}
