//! The quota Redis with a replica and Sentinels, and as a cluster: exact in each shape, and nothing
//! acknowledged is lost with a primary.

use crate::faults::{ask, kill9, store_becomes};
use crate::machine::{self, RedisFiles, redis_says};
use crate::support::{World, known, tokens};
use cellar_devstack::Stack;
use cellar_model::UserId;
use futures::future::join_all;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tokio::time::Instant;

fn up(redis: &str) -> World {
    World::up(&["cell", "up", "--clock", "virtual", "--redis", redis])
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < until, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A counter of the cell, as its metrics have it.
fn counted(world: &World, name: &str) -> u64 {
    machine::counted(&machine::process(&world.cellctl, "cell"), name).unwrap_or_else(|| panic!("no {name}"))
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
    // Its files are no copy of what several servers hold; what is one instead is said.
    let backup = world.cellctl.folder().join("backup");
    let refused = world.cellctl.run(&["cell", "backup", &backup.display().to_string()]).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("of one server") && said.contains("cell snapshot"), "{said}");
    assert!(!backup.exists(), "a backup that is refused begins none");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_exact_on_a_primary_with_a_replica() {
    a_bucket_is_exact("sentinel").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_exact_on_a_cluster() {
    a_bucket_is_exact("cluster").await;
}

/// Few enough that the load does not end before the test does: a shard that nobody asks does not notice that
/// its primary has died.
const SEND_EVERY: Duration = Duration::from_millis(10);
const SENT_MAX: usize = 10_000;

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
        while !self.stop.load(Ordering::Relaxed) && sent.len() < SENT_MAX {
            let key = format!("{sender}-{}", sent.len());
            let answer = self.world.client.consume(&tokens(self.user, 1, Some(&key))).await.ok();
            if answer.is_some() {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            sent.push((key, answer));
            tokio::time::sleep(SEND_EVERY).await;
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
        // One that misses it all, and remembers the old primary.
        world.cellctl.ok(&["stop", "local-1-sentinel-3"]).unwrap();
        kill(&world, primary);
        until("no replica is promoted", || redis_says(&world.cellctl, replica, "ROLE").contains("master")).await;
        store_becomes(&world, &user, None).await;
        load.until_acknowledged(50).await;
        world.cellctl.ok(&["restart", "local-1-sentinel-3"]).unwrap();
        revive(&world, primary);
        until("the old primary stays one", || redis_says(&world.cellctl, primary, "ROLE").contains("slave")).await;
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
    assert!(!redis_says(&world.cellctl, replica, "SCARD cellar:deposed").contains(":1"), "it is mended and forgotten");
    // All Sentinels watch the new primary, and its old one as a replica.
    let port = Stack::open(world.cellctl.stack()).unwrap().state().processes[1].ports[0];
    for n in 1..=3 {
        until("a Sentinel does not know the replica", || {
            let said = redis_says(&world.cellctl, &format!("local-1-sentinel-{n}"), "SENTINEL MASTER local-1");
            said.contains("num-slaves\r\n$1\r\n1") && said.contains(&format!("\r\n{port}\r\n"))
        })
        .await;
    }
}

fn signal(world: &World, name: &str, signal: &str) {
    machine::signal(&world.cellctl, name, signal);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_killed_under_load_is_replaced_and_nothing_is_lost() {
    a_primary_dies_under_load(
        |world, name| signal(world, name, "KILL"),
        |world, name| _ = world.cellctl.ok(&["restart", name]).unwrap(),
    )
    .await;
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
    RedisFiles::of(&world.cellctl).delete();
    world.cellctl.ok(&["restart", "local-1-postgres"]).unwrap();
    for n in 1..=3 {
        let down = || {
            redis_says(&world.cellctl, &format!("local-1-sentinel-{n}"), "SENTINEL MASTER local-1").contains("o_down")
        };
        until("the Sentinels do not notice", down).await;
    }
    world.cellctl.ok(&["restart", "cell"]).unwrap();
    for (n, first) in firsts.iter().enumerate() {
        let again = known(&world.client, &tokens(&user, 1, Some(&format!("k{n}")))).await;
        assert_eq!(&again, first, "k{n}");
    }
    assert_eq!(world.books(None, &user, "tokens").await, (12, 12, 12));
}

/// Goal: what only the old primary's disk remembers is charged before that disk is emptied.
/// Method: the replica is cut off, and Postgres dead, while ten keys are acknowledged; then the cell and the
/// primary die. The cell comes back on the replica, which has nothing of the ten, and then the primary.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_returned_primary_alone_remembers_is_charged_before_it_is_a_replica() {
    let world = up("sentinel");
    world.bucket_tier("bucket", 1_000).await;
    let user = world.user("returned@example.org", "bucket").await;
    let (primary, replica) = ("local-1-redis-quota", "local-1-redis-replica");
    assert!(known(&world.client, &tokens(&user, 1, Some("both"))).await.is_allowed());
    assert_eq!(world.books(None, &user, "tokens").await, (1, 1, 1));

    redis_says(&world.cellctl, primary, "ACL SETUSER default -psync -sync");
    redis_says(&world.cellctl, primary, "CLIENT KILL TYPE replica");
    until("the replica is not cut off", || {
        redis_says(&world.cellctl, replica, "INFO replication").contains("link_status:down")
    })
    .await;
    kill9(&world, "local-1-postgres").await;
    let mut firsts = Vec::new();
    for n in 0..10 {
        let first = known(&world.client, &tokens(&user, 1, Some(&format!("k{n}")))).await;
        assert!(first.is_allowed());
        firsts.push(first);
    }
    kill9(&world, "cell").await;
    kill9(&world, primary).await;
    world.cellctl.ok(&["restart", "local-1-postgres"]).unwrap();
    world.cellctl.ok(&["restart", "cell"]).unwrap();
    until("no replica is promoted", || redis_says(&world.cellctl, replica, "ROLE").contains("master")).await;
    store_becomes(&world, &user, None).await;
    assert_eq!(world.books(None, &user, "tokens").await, (1, 1, 1));

    world.cellctl.ok(&["restart", primary]).unwrap();
    until("the old primary stays one", || redis_says(&world.cellctl, primary, "ROLE").contains("slave")).await;
    // The next turn charges them; until then their keys are not known.
    until("nothing is charged late", || counted(&world, "cellar_quota_late_charges_total") == 10).await;
    for (n, first) in firsts.iter().enumerate() {
        assert_eq!(&known(&world.client, &tokens(&user, 1, Some(&format!("k{n}")))).await, first, "k{n}");
    }
    assert_eq!(world.books(None, &user, "tokens").await, (11, 11, 11));
}

/// Goal: a stack that was promoted comes up again as it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_stack_that_was_promoted_goes_down_and_comes_up_with_its_new_primary() {
    if std::env::var_os("CELLAR_TEST_FULL").is_none() {
        return;
    }
    let mut world = up("sentinel");
    world.bucket_tier("bucket", 1_000).await;
    let user = world.user("again@example.org", "bucket").await;
    let (primary, replica) = ("local-1-redis-quota", "local-1-redis-replica");
    for (n, (dies, follows)) in [(primary, replica), (replica, primary)].into_iter().enumerate() {
        assert!(known(&world.client, &tokens(&user, 1, Some(&format!("before-{n}")))).await.is_allowed());
        kill9(&world, dies).await;
        until("no replica is promoted", || redis_says(&world.cellctl, follows, "ROLE").contains("master")).await;
        store_becomes(&world, &user, None).await;
        world.cellctl.ok(&["restart", dies]).unwrap();
        until("the old primary stays one", || redis_says(&world.cellctl, dies, "ROLE").contains("slave")).await;
        world.cellctl.ok(&["down"]).unwrap();
        world.cellctl.keep(&["cell", "up"]).unwrap();
        store_becomes(&world, &user, None).await;
        assert!(redis_says(&world.cellctl, follows, "ROLE").contains("master"), "round {n}");
        assert!(known(&world.client, &tokens(&user, 1, Some(&format!("after-{n}")))).await.is_allowed());
    }
    assert_eq!(world.books(None, &user, "tokens").await, (4, 4, 4));
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
    signal(&world, "local-1-redis-quota-2", "KILL");
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
