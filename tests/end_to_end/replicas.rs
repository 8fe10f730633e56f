//! The quota Redis with a replica and Sentinels, and as a cluster: exact in each shape, and nothing
//! acknowledged is lost with a primary.

use crate::faults::{ask, kill9, store_becomes};
use crate::support::{World, known, tokens};
use cellar_devstack::Stack;
use cellar_model::UserId;
use futures::future::join_all;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

fn up(redis: &str) -> World {
    World::up(&["cell", "up", "--clock", "virtual", "--redis", redis])
}

/// What the server of that name answers to one question.
fn redis_says(world: &World, name: &str, line: &str) -> String {
    let stack = Stack::open(world.cellctl.stack()).unwrap();
    let process = stack.state().processes.iter().find(|process| process.name == name).unwrap().clone();
    let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", process.ports[0])) else { return String::new() };
    stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    stream.write_all(format!("{line}\r\nQUIT\r\n").as_bytes()).unwrap();
    let mut text = String::new();
    // A server that dies meanwhile has said what it has said.
    let _ = stream.read_to_string(&mut text);
    text
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < until, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn folder_of(world: &World, name: &str) -> PathBuf {
    let stack = Stack::open(world.cellctl.stack()).unwrap();
    let process = stack.state().processes.iter().find(|process| process.name == name).unwrap().clone();
    process.launch.log.parent().unwrap().to_owned()
}

/// A counter of the cell, as its metrics have it.
fn counted(world: &World, name: &str) -> u64 {
    let stack = Stack::open(world.cellctl.stack()).unwrap();
    let cell = stack.state().processes.iter().find(|process| process.name.ends_with("-0")).unwrap().clone();
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", cell.ports[1])).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("no {name}"))
}

/// Goal: a bucket of N admits exactly N whatever the quota Redis is made of.
/// Method: as on a single server, with users on every shard (a cluster spreads them over its nodes).
async fn a_bucket_is_exact(redis: &str) {
    let world = up(redis);
    world.bucket_tier("bucket", 100).await;
    let mut users = Vec::new();
    for n in 0..6 {
        users.push(world.user(&format!("exact-{n}@example.org"), "bucket").await);
    }
    let racers = users.iter().flat_map(|user| std::iter::repeat_n(user, 8)).map(|user| async {
        let mut admitted = 0u64;
        while known(&world.client, &tokens(user, 1, None)).await.is_allowed() {
            admitted += 1;
        }
        admitted
    });
    assert_eq!(join_all(racers).await.into_iter().sum::<u64>(), 600);
    for user in &users {
        assert_eq!(ask(&world, user, "asked", 0).await, (200, None), "on Redis");
        assert_eq!(world.books(None, user, "tokens").await, (100, 100, 100));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_exact_on_a_primary_with_a_replica() {
    a_bucket_is_exact("sentinel").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_exact_on_a_cluster() {
    a_bucket_is_exact("cluster").await;
}

/// Charges under load until told to stop: each key, and its answer if there was one.
struct Load<'a> {
    world: &'a World,
    user: &'a UserId,
    acknowledged: AtomicUsize,
    stop: AtomicBool,
}

impl Load<'_> {
    async fn sender(&self, sender: usize) -> Vec<(String, Option<cellar_client::Decision>)> {
        let mut sent = Vec::new();
        while !self.stop.load(Ordering::Relaxed) && sent.len() < 3_000 {
            let key = format!("{sender}-{}", sent.len());
            let answer = self.world.client.consume(&tokens(self.user, 1, Some(&key))).await.ok();
            match &answer {
                Some(_) => _ = self.acknowledged.fetch_add(1, Ordering::Relaxed),
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
            sent.push((key, answer));
        }
        sent
    }

    async fn until_acknowledged(&self, more: usize) {
        let enough = self.acknowledged.load(Ordering::Relaxed) + more;
        until("hardly anything is answered", || self.acknowledged.load(Ordering::Relaxed) >= enough).await;
    }
}

/// Goal: the loss of the primary under load is a turn: a replica takes its place, nothing acknowledged is
/// lost or charged twice, and the old primary comes back as a replica, never written to as a primary.
/// Method: keyed charges before, while and after the primary dies; then every key again.
async fn a_primary_dies_under_load(kill: fn(&World, &str), revive: fn(&World, &str)) {
    let world = up("sentinel");
    world.bucket_tier("bucket", 1_000_000).await;
    let user = world.user("promoted@example.org", "bucket").await;
    let load = Load { world: &world, user: &user, acknowledged: AtomicUsize::new(0), stop: AtomicBool::new(false) };
    let (primary, replica) = ("local-1-redis-quota", "local-1-redis-replica");
    let killer = async {
        load.until_acknowledged(50).await;
        kill(&world, primary);
        until("no replica is promoted", || redis_says(&world, replica, "ROLE").contains("master")).await;
        store_becomes(&world, &user, None).await;
        load.until_acknowledged(50).await;
        revive(&world, primary);
        until("the old primary stays one", || redis_says(&world, primary, "ROLE").contains("slave")).await;
        load.until_acknowledged(50).await;
        load.stop.store(true, Ordering::Relaxed);
    };
    let (sent, ()) = tokio::join!(join_all((0..4).map(|n| load.sender(n))), killer);

    let sent: Vec<_> = sent.into_iter().flatten().collect();
    for (key, first) in &sent {
        let again = known(&world.client, &tokens(&user, 1, Some(key))).await;
        if let Some(first) = first {
            assert_eq!(&again, first, "key {key}");
        }
    }
    let all = sent.len() as u64;
    assert_eq!(world.books(None, &user, "tokens").await, (all, all, all));
    assert!(!redis_says(&world, replica, "SCARD cellar:deposed").contains(":1"), "it is mended and forgotten");
    // The Sentinels watch the new primary, and its old one as a replica.
    until("the Sentinels do not know the replica", || {
        redis_says(&world, "local-1-sentinel-1", "SENTINEL MASTER local-1").contains("num-slaves\r\n$1\r\n1")
    })
    .await;
}

fn kill(world: &World, name: &str) {
    signal(world, name, "KILL");
}

fn signal(world: &World, name: &str, signal: &str) {
    let stack = Stack::open(world.cellctl.stack()).unwrap();
    let process = stack.state().processes.iter().find(|process| process.name == name).unwrap().clone();
    let command = format!("kill -{signal} {}", process.life.unwrap().pid);
    assert!(std::process::Command::new("sh").args(["-c", &command]).status().unwrap().success(), "{command}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_killed_under_load_is_replaced_and_nothing_is_lost() {
    a_primary_dies_under_load(kill, |world, name| _ = world.cellctl.ok(&["restart", name]).unwrap()).await;
}

/// One that only stood still takes itself for the primary when it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_stood_still_is_replaced_and_becomes_a_replica() {
    if std::env::var_os("CELLAR_TEST_FULL").is_none() {
        return;
    }
    a_primary_dies_under_load(|world, name| signal(world, name, "STOP"), |world, name| signal(world, name, "CONT"))
        .await;
}

/// Goal: what a tier with `ack = "replica"` acknowledged survives the loss of the cell and of the primary
/// with its disk; without a replica nothing is acknowledged, and nothing of it is charged twice.
/// Method: Postgres is dead when the last are acknowledged, so that the ledger cannot be what remembers.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_replica_acknowledged_survives_the_primary_and_its_disk() {
    let world = up("sentinel");
    world.tier_of("durable", "ack = \"replica\"\n", 1_000_000).await;
    let user = world.user("durable@example.org", "durable").await;
    assert!(known(&world.client, &tokens(&user, 1, Some("first"))).await.is_allowed());

    let unreplicated = counted(&world, "cellar_quota_unreplicated_admissions_total");
    world.cellctl.ok(&["stop", "redis-replica"]).unwrap();
    assert_eq!(ask(&world, &user, "alone", 1).await.0, 503, "no replica has it");
    assert_eq!(ask(&world, &user, "alone", 1).await.0, 503, "a repeat obeys the tier's level, too");
    assert_eq!(counted(&world, "cellar_quota_unreplicated_admissions_total"), unreplicated + 2);
    world.cellctl.ok(&["restart", "redis-replica"]).unwrap();
    let back = Instant::now() + Duration::from_secs(30);
    while ask(&world, &user, "alone", 1).await.0 != 200 {
        assert!(Instant::now() < back, "the replica does not count");
    }

    kill9(&world, "local-1-postgres").await;
    let mut firsts = Vec::new();
    for n in 0..10 {
        let first = known(&world.client, &tokens(&user, 1, Some(&format!("k{n}")))).await;
        assert!(first.is_allowed());
        firsts.push(first);
    }
    kill9(&world, "cell").await;
    kill9(&world, "local-1-redis-quota").await;
    std::fs::remove_dir_all(folder_of(&world, "local-1-redis-quota").join("appendonlydir")).unwrap();
    world.cellctl.ok(&["restart", "local-1-postgres"]).unwrap();
    for n in 1..=3 {
        let down =
            || redis_says(&world, &format!("local-1-sentinel-{n}"), "SENTINEL MASTER local-1").contains("o_down");
        until("the Sentinels do not notice", down).await;
    }
    world.cellctl.ok(&["restart", "cell"]).unwrap();
    for (n, first) in firsts.iter().enumerate() {
        let again = known(&world.client, &tokens(&user, 1, Some(&format!("k{n}")))).await;
        assert_eq!(&again, first, "k{n}");
    }
    assert_eq!(world.books(None, &user, "tokens").await, (12, 12, 12));
}

/// Goal: a node of a cluster that dies closes no shard for long; Postgres takes those of that node only, and
/// gives them back.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_a_cluster_that_dies_and_comes_back_costs_nothing() {
    if std::env::var_os("CELLAR_TEST_FULL").is_none() {
        return;
    }
    let world = up("cluster");
    world.bucket_tier("bucket", 1_000).await;
    let mut users = Vec::new();
    for n in 0..8 {
        users.push(world.user(&format!("node-{n}@example.org"), "bucket").await);
    }
    let spend = async |round: &str| {
        for user in &users {
            for n in 0..5 {
                assert!(known(&world.client, &tokens(user, 1, Some(&format!("{round}-{n}")))).await.is_allowed());
            }
        }
    };
    spend("before").await;
    kill(&world, "local-1-redis-quota-2");
    spend("without").await;
    world.cellctl.ok(&["restart", "local-1-redis-quota-2"]).unwrap();
    for user in &users {
        store_becomes(&world, user, None).await;
    }
    spend("after").await;
    spend("before").await;
    for user in &users {
        assert_eq!(world.books(None, user, "tokens").await, (15, 15, 15));
    }
}
