//! Worlds of real stores around stub programs: order, faults and leftovers are devstack's own.

use super::*;
use crate::folders::temporary_folder;
use crate::world::{Clock, Fsync, RedisShape};
use std::sync::atomic::{AtomicUsize, Ordering};

struct Here {
    folder: tempfile::TempDir,
    /// How often the directory was filled.
    filled: AtomicUsize,
}

impl Here {
    fn new() -> Self {
        let folder = temporary_folder().unwrap();
        let test = std::env::current_exe().unwrap();
        let stub = test.ancestors().nth(2).unwrap().join("examples/stub-program");
        for name in ["cellar-cell", "cellar-router"] {
            std::fs::copy(&stub, folder.path().join(name)).expect("`cargo test` has built the stub");
        }
        Self { folder, filled: AtomicUsize::new(0) }
    }

    fn stack(&self) -> PathBuf {
        self.folder.path().join("stack")
    }

    fn world(&self, world: World) -> World {
        World { programs: Some(self.folder.path().to_owned()), ..world }
    }

    async fn up(&self, world: World) -> Result<Stack, StackError> {
        let fill = |given: Bootstrap| async move {
            let (user, database) = ("postgres://cellar@127.0.0.1:", "/directory");
            assert!(given.directory_url.starts_with(user) && given.directory_url.ends_with(database));
            self.filled.fetch_add(1, Ordering::Relaxed);
            std::fs::write(given.policy_keys_file, "").unwrap();
            Ok(Keys { service_key: "csk_test".into(), operator_key: "cok_test".into() })
        };
        Stack::up(&self.stack(), &self.world(world), Tether::ToUs, fill, |_| ()).await
    }
}

fn states(stack: &Stack) -> Vec<(String, bool)> {
    stack.state().processes.iter().map(|process| (process.name.clone(), process.is_running())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_world_comes_up_is_broken_and_mended_by_name_and_goes_down() {
    let here = Here::new();
    let mut stack = here.up(World::of(1, 2)).await.unwrap();
    let names: Vec<String> = states(&stack).into_iter().map(|(name, _)| name).collect();
    assert_eq!(
        names,
        [
            "directory",
            "eu-1-redis-quota",
            "eu-1-redis-cache",
            "eu-1-postgres",
            "eu-1-0",
            "eu-2-redis-quota",
            "eu-2-redis-cache",
            "eu-2-postgres",
            "eu-2-0",
            "eu-router",
        ]
    );
    // Another command sees, and breaks, the same stack.
    let mut other = Stack::open(&here.stack()).unwrap();
    other.kill9("eu-1-postgres").await.unwrap();
    other.stop("router").await.unwrap();
    let dead: Vec<String> = stack.newly_dead().unwrap().into_iter().map(|process| process.name).collect();
    assert_eq!(dead, ["eu-1-postgres", "eu-router"]);
    let document = stack.state().to_json(stack.folder());
    assert_eq!(document["state"], "degraded");
    assert_eq!(document["processes"][3]["state"], "dead");

    let url = |stack: &Stack| stack.state().processes[3].url.clone();
    let before = url(&other);
    assert_eq!(other.restart("postgres").await.unwrap(), ["eu-1-postgres", "eu-2-postgres"]);
    other.restart("eu-router").await.unwrap();
    assert_eq!(url(&other), before);
    assert!(states(&other).iter().all(|(_, running)| *running));
    assert!(other.restart("nobody").await.is_err());

    stack.down().await.unwrap();
    let stack = Stack::open(&here.stack()).unwrap();
    assert!(states(&stack).iter().all(|(_, running)| !running));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_of_every_redis_shape_are_one_store_and_come_up_again() {
    let sentinel = ["redis-quota", "redis-replica", "sentinel-1", "sentinel-2", "sentinel-3"];
    let cluster = ["redis-quota-1", "redis-quota-2", "redis-quota-3"];
    for (redis, names) in [(RedisShape::Sentinel, &sentinel[..]), (RedisShape::Cluster, &cluster[..])] {
        let here = Here::new();
        let world = World { redis, ..World::single_cell() };
        let mut stack = here.up(world.clone()).await.unwrap();
        let held: Vec<String> = states(&stack).into_iter().map(|(name, _)| name).collect();
        let names: Vec<String> = names.iter().map(|name| format!("local-1-{name}")).collect();
        assert_eq!(held[..names.len()], names);
        stack.restart(&names[1]).await.unwrap();
        stack.down().await.unwrap();
        let again = here.up(world).await.unwrap();
        assert!(states(&again).iter().all(|(_, running)| *running));
        again.delete().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_that_is_up_is_not_started_again_one_that_is_down_keeps_its_directory_and_lost_data_is_said() {
    let here = Here::new();
    let stack = here.up(World::single_cell()).await.unwrap();
    let again = here.up(World::single_cell()).await.err().unwrap();
    assert!(matches!(again, StackError::AlreadyUp { .. }), "{again}");
    stack.down().await.unwrap();

    let stack = here.up(World::single_cell()).await.unwrap();
    assert_eq!(here.filled.load(Ordering::Relaxed), 1);
    stack.down().await.unwrap();
    let other = here.up(World { clock: Clock::Virtual, ..World::single_cell() }).await.err().unwrap();
    assert!(matches!(other, StackError::OtherShape { .. }), "{other}");
    assert!(other.to_string().contains("`cellctl cell up --stack"), "{other}");

    let held = Stack::open(&here.stack()).unwrap();
    let postgres = held.state().processes.iter().find(|process| process.role == Role::Postgres).unwrap();
    std::fs::remove_dir_all(postgres.launch.log.parent().unwrap()).unwrap();
    let gone = here.up(World::single_cell()).await.err().unwrap();
    assert!(matches!(gone, StackError::DataGone { .. }), "{gone}");

    Stack::open(&here.stack()).unwrap().delete().await.unwrap();
    assert!(!here.stack().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_command_left_running_is_ended_and_replaced() {
    let here = Here::new();
    let stack = here.up(World::single_cell()).await.unwrap();
    let lives: Vec<Identity> = stack.state().processes.iter().filter_map(|process| process.life).collect();
    assert_eq!(lives.len(), 4);
    // As if the keeper had been another process, now dead, and its tethers had not held.
    let mut state = StackState::read(&here.stack()).unwrap().unwrap();
    state.keeper = state.keeper.map(|keeper| Identity { started: keeper.started + 1, ..keeper });
    state.write(&here.stack()).unwrap();

    let stack = here.up(World::single_cell()).await.unwrap();
    assert!(lives.iter().all(|life| !life.is_alive()));
    assert!(states(&stack).iter().all(|(_, running)| *running));
    stack.delete().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_says_why_in_one_line_and_leaves_nothing_running() {
    let here = Here::new();
    std::fs::remove_file(here.folder.path().join("cellar-router")).unwrap();
    let missing = here.up(World::of(1, 1)).await.err().unwrap();
    assert_eq!(missing.to_string(), "cellar-router is not built: run `make build`");

    let taken = here.up(World::single_cell()).await.unwrap();
    let port = taken.state().processes[0].ports[0];
    let name = taken.state().processes[0].name.clone();
    taken.down().await.unwrap();
    let _thief = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let error = here.up(World::single_cell()).await.err().unwrap();
    let said = format!("port {port} is taken by another program: {name} cannot start");
    assert!(error.to_string().starts_with(&said), "{error}");
    let stack = Stack::open(&here.stack()).unwrap();
    assert!(states(&stack).iter().all(|(_, running)| !running));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_that_is_up_grows_and_shrinks_and_goes_on_from_half_way() {
    let here = Here::new();
    let mut stack = here.up(World::of(1, 1)).await.unwrap();
    let lives = |stack: &Stack| -> Vec<(String, Option<Identity>)> {
        stack.state().processes.iter().map(|process| (process.name.clone(), process.life)).collect()
    };
    let before = lives(&stack);
    let (both, say) = (here.world(World::of(2, 2)), &mut |_: &str| ());
    let mut change = stack.change(both.clone()).await.unwrap();
    let wanted = change.difference();
    assert_eq!(
        (wanted.regions_added, wanted.cells_added),
        (vec!["us".into()], vec!["eu-2".into(), "us-1".into(), "us-2".into()])
    );
    change.grow(say).await.unwrap();
    // Cut short: the router of the new region waits for the topology, which this test has not.
    drop(change);
    let idle: Vec<String> = states(&stack).into_iter().filter(|(_, running)| !running).map(|(name, _)| name).collect();
    assert_eq!(idle, ["us-router"]);
    stack.kill9("us-1-postgres").await.unwrap();
    let mut change = stack.change(both).await.unwrap();
    assert_eq!(change.difference().dead, ["us-1-postgres", "us-router"]);
    change.grow(say).await.unwrap();
    change.open(say).await.unwrap();
    assert!(change.difference().is_none());
    change.shrink(say).await.unwrap();
    assert!(lives(&stack).starts_with(&before[..before.len() - 1]), "what was there goes on");
    assert_eq!(stack.state().endpoints("us-2").len(), 2);

    let mut change = stack.change(here.world(World::of(1, 1))).await.unwrap();
    assert_eq!(change.difference().regions_removed, ["us"]);
    change.grow(say).await.unwrap();
    change.open(say).await.unwrap();
    change.shrink(say).await.unwrap();
    assert_eq!(lives(&stack), before);
    let data = stack.state().processes[0].launch.log.ancestors().nth(2).unwrap().to_owned();
    assert!(data.join("left/us-1-postgres.1/cluster").is_dir() && !data.join("us-1-postgres").exists());
    assert!(!here.stack().join("config/us-router").exists());

    let other = stack.change(here.world(World { clock: Clock::Virtual, ..World::of(1, 1) })).await.err().unwrap();
    assert!(matches!(other, StackError::OtherShape { .. }), "{other}");
    let mut shards = here.world(World::of(1, 1));
    shards.regions[0].cells[0].shards = Some(8);
    let other = stack.change(shards).await.err().unwrap();
    assert!(other.to_string().contains("cell eu-1 was made in eu with 4 shards"), "{other}");
    stack.delete().await.unwrap();
}

#[test]
fn names_that_would_share_a_folder_are_refused() {
    let folder = temporary_folder().unwrap();
    let folders = Folders { stack: folder.path().join("stack"), data: folder.path().join("data") };
    let mut world = World { programs: Some(folder.path().to_owned()), ..World::of(1, 2) };
    for program in ["cellar-cell", "cellar-router"] {
        std::fs::write(folder.path().join(program), "").unwrap();
    }
    world.regions[0].cells[1].name = "eu-router".into();
    let refused = crate::plan::plan(&world, &folders).err().unwrap();
    assert!(refused.to_string().contains("two of it would be named eu-router"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_program_finds_exactly_its_keys_and_secrets_are_its_owners_only() {
    use std::os::unix::fs::PermissionsExt;
    let here = Here::new();
    let stack = here.up(World { fsync: Fsync::Everysec, ..World::of(1, 1) }).await.unwrap();
    let config = here.stack().join("config");
    let keys = |file: &str| {
        let text = std::fs::read_to_string(config.join(file)).unwrap();
        let mut keys: Vec<String> = text.lines().filter_map(|l| l.split_once(" = ")).map(|(k, _)| k.into()).collect();
        keys.sort();
        (text, keys.join(" "))
    };
    let (cell, names) = keys("eu-1/cell.toml");
    assert_eq!(
        names,
        "admin_listen allow_plaintext allow_unsafe_ack clock data_dir directory_url_file incarnation listen mac_key_file \
         name pepper_file policy_keys_file postgres_url_file public redis_cache_url_file redis_quota_url_file region shards worker_threads"
    );
    assert!(cell.contains("allow_unsafe_ack = true") && cell.contains("public = false"));
    assert!(cell.contains("allow_plaintext = false"), "nobody asked for it");
    let (_, names) = keys("eu-router/router.toml");
    assert_eq!(
        names,
        "admin_listen clock data_dir directory_url_file listen mac_key_file name pepper_file region worker_threads"
    );
    for secret in ["secrets/pepper", "secrets/mac-key", "config/eu-1/postgres_url", "state.json"] {
        let mode = std::fs::metadata(here.stack().join(secret)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{secret}");
    }
    stack.delete().await.unwrap();
}

/// Goal: a copy is what there was, whatever came after it, and a reset leaves ports and copies alone.
/// Method: what the Redis of a cell holds stands for all data; the directory is filled again by a reset only.
#[tokio::test(flavor = "multi_thread")]
async fn data_comes_back_from_a_snapshot_and_goes_with_a_reset() {
    let here = Here::new();
    let mut stack = here.up(World::single_cell()).await.unwrap();
    let port = stack.state().processes[0].ports[0];
    let tell = async |line: &str| crate::redis::command(port, line).await.unwrap();
    assert_eq!(tell("SET a 1").await, "+OK");
    stack.snapshot("first").await.unwrap();
    assert_eq!(tell("SET a 2").await, "+OK");
    stack.snapshot("second").await.unwrap();
    assert_eq!(tell("SET a 3").await, "+OK");
    // The same name again is the newer copy.
    stack.snapshot("second").await.unwrap();

    stack.load("first").await.unwrap();
    assert_eq!(tell("GET a").await, "1");
    stack.load("second").await.unwrap();
    assert_eq!(tell("GET a").await, "3");
    let names: Vec<String> = stack.snapshots().unwrap().into_iter().map(|snapshot| snapshot.name).collect();
    assert_eq!(names, ["first", "second"]);
    let none = stack.load("third").await.unwrap_err().to_string();
    assert!(none.contains("there are: first, second"), "{none}");

    let keys = |stack: &Stack| stack.state().service_key.clone();
    let before = keys(&stack);
    let fill = |given: Bootstrap| async move { Ok(given.keys.expect("the keys the stack has")) };
    stack.reset(fill, |_| ()).await.unwrap();
    assert_eq!((tell("GET a").await, keys(&stack)), ("$-1".to_owned(), before));
    stack.load("first").await.unwrap();
    assert_eq!(tell("GET a").await, "1");
    stack.delete().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_cut_short_is_no_copy_and_data_without_a_place_gets_it_back() {
    let here = Here::new();
    let mut stack = here.up(World::single_cell()).await.unwrap();
    stack.snapshot("whole").await.unwrap();
    let snapshots = stack.folders.snapshots();
    std::fs::create_dir_all(snapshots.join("half.new/data")).unwrap();
    assert_eq!(stack.snapshots().unwrap().len(), 1);

    stack.stand_still().await;
    let data = stack.folders.data.clone();
    // As if a load had been killed between its two renames.
    std::fs::rename(&data, data.with_file_name("data.old")).unwrap();
    stack.load("whole").await.unwrap();
    assert!(data.exists() && !data.with_file_name("data.old").exists());
    stack.delete().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ephemeral_stack_is_gone_when_it_ends_and_what_a_killed_one_left_is_begun_anew() {
    let here = Here::new();
    let world = || World { ephemeral: true, ..World::single_cell() };
    let stack = here.up(world()).await.unwrap();
    // As if its keeper had been killed.
    let mut state = StackState::read(&here.stack()).unwrap().unwrap();
    state.keeper = state.keeper.map(|keeper| Identity { started: keeper.started + 1, ..keeper });
    state.write(&here.stack()).unwrap();
    drop(stack);
    let stack = here.up(world()).await.unwrap();
    assert_eq!(here.filled.load(Ordering::Relaxed), 2);
    stack.down().await.unwrap();
    assert!(!here.stack().exists());
}
