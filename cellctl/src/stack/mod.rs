//! Local stacks: up, down, and everything between.

mod bootstrap;
mod cell;
mod demo;
mod given_keys;
mod observed;
mod progress;
mod signing;
mod target;

pub(crate) use bootstrap::{Filled, bootstrap, fill, mend, new_key};
pub(crate) use cell::{CellCommand, cell, size};
pub(crate) use demo::{RunArguments, run};
pub(crate) use given_keys::GivenKeys;
pub(crate) use progress::Progress;
pub(crate) use signing::{own_key, sign_unsigned, trust_own};
pub(crate) use target::Target;

use crate::directory;
use crate::policy::Watch;
use crate::seed::Seed;
use anyhow::Context;
use cellar_devstack::{Bootstrap, Clock, DirectoryShape, Fsync, RedisShape, Stack, Tether, World};
use clap::{Args, ValueEnum};
use given_keys::KeysGiven;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

/// How soon a death is said.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Args, Clone)]
pub(crate) struct UpArguments {
    /// 2, or as many as the stack in the folder has
    #[arg(long)]
    pub(crate) regions: Option<usize>,
    /// Of each region; 2, or as many as the stack in the folder has
    #[arg(long)]
    pub(crate) cells: Option<usize>,
    /// Processes of each cell; 1, or as many as the stack in the folder has
    #[arg(long)]
    pub(crate) instances: Option<usize>,
    #[command(flatten)]
    pub(crate) how: HowArguments,
}

/// What worlds and single cells have in common.
#[derive(Args, Clone)]
pub(crate) struct HowArguments {
    /// Return once everything is ready, and leave it running
    #[arg(long)]
    pub(crate) detach: bool,
    #[command(flatten)]
    pub(crate) shape: ShapeArguments,
    /// Start Prometheus beside the stack, with the rules that ship; and Grafana with the dashboards, where there
    /// is one
    #[arg(long)]
    pub(crate) observe: bool,
    /// Print the status document when up
    #[arg(long)]
    pub(crate) json: bool,
}

/// How programs and stores are, wherever they are.
#[derive(Args, Clone)]
pub(crate) struct ShapeArguments {
    /// Whose time policies decide by: the machine's (unless the stack in the folder has another), or the
    /// callers' (at_us)
    #[arg(long, value_enum)]
    pub(crate) clock: Option<ClockArgument>,
    /// How the quota Redis flushes: always (unless the stack in the folder has another), or everysec,
    /// which allows an answer that the machine may forget
    #[arg(long, value_enum)]
    pub(crate) fsync: Option<FsyncArgument>,
    /// What each cell's quota Redis is: single (unless the stack in the folder has another); sentinel, a
    /// primary with a replica and three Sentinels; or cluster, three nodes
    #[arg(long, value_enum)]
    pub(crate) redis: Option<RedisArgument>,
    /// What the directory is kept in: postgres (unless the stack in the folder has another); cassandra, a
    /// node a region; or the URL of a CQL cluster that is there, scylla://host:port
    #[arg(long, value_parser = directory::shape, value_name = "STORE")]
    pub(crate) directory: Option<DirectoryShape>,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum ClockArgument {
    Wall,
    Virtual,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum FsyncArgument {
    Always,
    Everysec,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum RedisArgument {
    Single,
    Sentinel,
    Cluster,
}

impl ShapeArguments {
    /// `world` with what is said here; what is not stays as it is.
    pub(crate) fn applied_to(&self, world: World) -> World {
        let clock = match self.clock {
            Some(ClockArgument::Wall) => Clock::Wall,
            Some(ClockArgument::Virtual) => Clock::Virtual,
            None => world.clock,
        };
        let fsync = match self.fsync {
            Some(FsyncArgument::Always) => Fsync::Always,
            Some(FsyncArgument::Everysec) => Fsync::Everysec,
            None => world.fsync,
        };
        let redis = match self.redis {
            Some(RedisArgument::Single) => RedisShape::Single,
            Some(RedisArgument::Sentinel) => RedisShape::Sentinel,
            Some(RedisArgument::Cluster) => RedisShape::Cluster,
            None => world.redis,
        };
        let directory = self.directory.clone().unwrap_or(world.directory);
        World { clock, fsync, redis, directory, ..world }
    }
}

pub(crate) async fn up(folder: &Path, arguments: UpArguments) -> anyhow::Result<()> {
    let held = held_world(folder).filter(|world| !world.single).unwrap_or_else(|| World::of(2, 2));
    let instances = arguments.instances.unwrap_or(held.instances);
    let world = World { instances, ..held.with_grid(arguments.regions, arguments.cells) };
    let world = arguments.how.shape.applied_to(world);
    let (seed, watch, keys) = (None, None, KeysGiven::default());
    run_session(Session { folder, world, how: &arguments.how, seed, watch, keys }).await
}

/// What the stack in `folder` consists of, if there is one.
pub(crate) fn held_world(folder: &Path) -> Option<World> {
    Stack::open(folder).ok().map(|stack| stack.state().world.clone())
}

/// What a command starts, and keeps unless it is told to leave it running.
struct Session<'a> {
    folder: &'a Path,
    world: World,
    how: &'a HowArguments,
    seed: Option<Seed>,
    watch: Option<Watch>,
    keys: KeysGiven,
}

async fn run_session(session: Session<'_>) -> anyhow::Result<()> {
    let Session { folder, world, how, seed, watch: watched, keys } = session;
    // A signal while starting ends what has been started, too.
    let signals = signals()?;
    let tether = if how.detach { Tether::Free } else { Tether::ToUs };
    let mut stack = tokio::select! {
        stack = bring_up(folder, &world, tether, seed.as_ref(), &keys, how.observe) => stack?,
        () = signals.wait() => {
            end_interrupted(folder).await;
            anyhow::bail!("interrupted while starting; nothing is left running");
        }
    };
    print_up(&stack, how.json)?;
    if how.detach {
        return Ok(());
    }
    if !how.json {
        println!("\nCtrl-C ends the stack.");
    }
    tokio::select! {
        () = watch(&mut stack, &signals) => {}
        () = watch_policies(watched, folder) => {}
    }
    eprintln!("ending the stack");
    stack.down().await?;
    Ok(())
}

/// Never comes back.
async fn watch_policies(watched: Option<Watch>, folder: &Path) {
    match watched {
        Some(watched) => watched.run(folder).await,
        None => std::future::pending().await,
    }
}

/// Says which processes die, until it is time to end. Nothing is started again: a stack is there to be
/// broken.
async fn watch(stack: &mut Stack, signals: &Signals) {
    loop {
        tokio::select! {
            () = signals.wait() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        // A stack somebody deleted under us has nothing more to say.
        for process in stack.newly_dead().unwrap_or_default() {
            eprintln!(
                "{name} has ended; its log: {log}; `cellctl restart {name}` starts it",
                name = process.name,
                log = process.launch.log.display()
            );
        }
    }
}

async fn bring_up(
    folder: &Path,
    world: &World,
    tether: Tether,
    seed: Option<&Seed>,
    keys: &KeysGiven,
    observe: bool,
) -> anyhow::Result<Stack> {
    let progress = Progress::new();
    if let Ok(held) = Stack::open(folder) {
        keys.must_be_of(held.state())?;
    }
    let begin = |given: Bootstrap| {
        let keys = given.keys.clone().unwrap_or_else(|| keys.complete());
        bootstrap::bootstrap(Bootstrap { keys: Some(keys), ..given })
    };
    let mut stack = Stack::up(folder, world, tether, begin, |step| progress.say(step)).await?;
    if let Some(seed) = seed
        && let Err(error) = seed.plant(folder, &progress).await
    {
        // Half of what was asked for is not left running as if it were all.
        stack.down().await?;
        return Err(error);
    }
    let mut missing = Vec::new();
    if observe {
        progress.say("starting who watches");
        missing = observed::observe(&mut stack).await;
    }
    stack.announce()?;
    drop(progress);
    for sentence in missing {
        eprintln!("note: {sentence}");
    }
    Ok(stack)
}

async fn end_interrupted(folder: &Path) {
    if let Ok(stack) = Stack::open(folder) {
        // What does not end here is named in the state file, and ended by the next start.
        let _ = stack.down().await;
    }
}

struct Signals(tokio_util::sync::CancellationToken);

impl Signals {
    async fn wait(&self) {
        self.0.cancelled().await;
    }
}

fn signals() -> anyhow::Result<Signals> {
    use tokio::signal::unix::{SignalKind, signal};
    let token = tokio_util::sync::CancellationToken::new();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let cancelled = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        cancelled.cancel();
    });
    Ok(Signals(token))
}

fn print_up(stack: &Stack, json: bool) -> anyhow::Result<()> {
    let document = stack.state().to_json(stack.folder());
    if json {
        println!("{}", serde_json::to_string(&document)?);
        return Ok(());
    }
    for region in &stack.state().regions {
        println!("{:<8} {}   admin {}", region.name, region.router_url, region.admin_url);
    }
    for watcher in stack.state().processes.iter().filter(|one| one.role.is_watcher() && one.is_running()) {
        println!("{:<8} {}", watcher.name, watcher.url);
    }
    println!("key      {}", stack.state().service_key.as_deref().unwrap_or("-"));
    Ok(())
}

pub(crate) fn status(folder: &Path, json: bool) -> anyhow::Result<()> {
    let stack = Stack::open(folder)?;
    let document = stack.state().to_json(stack.folder());
    if json {
        println!("{}", serde_json::to_string_pretty(&document)?);
        return Ok(());
    }
    println!("{} is {}", folder.display(), document["state"].as_str().unwrap_or("?"));
    println!("{:<24} {:<13} {:<8} {:>8}  url", "process", "role", "state", "pid");
    for process in &stack.state().processes {
        let state = if process.is_running() { "running" } else { "dead" };
        let pid = process.life.map_or_else(|| "-".into(), |life| life.pid.to_string());
        println!("{:<24} {:<13} {:<8} {:>8}  {}", process.name, process.role.label(), state, pid, process.url);
    }
    Ok(())
}

pub(crate) async fn down(folder: &Path, delete: bool) -> anyhow::Result<()> {
    let stack = Stack::open(folder)?;
    if delete {
        stack.delete().await?;
        println!("the stack is down and deleted");
    } else {
        stack.down().await?;
        let stack = folder.display();
        println!(
            "the stack is down; its data stays: `cellctl up --stack {stack}` starts it again (`cell up`, if it is one cell), `cellctl down --delete --stack {stack}` deletes it"
        );
    }
    Ok(())
}

pub(crate) fn logs(folder: &Path, name: &str) -> anyhow::Result<()> {
    let stack = Stack::open(folder)?;
    let process = stack.state().processes.iter().find(|process| process.name == name);
    let process = process.with_context(|| {
        let names: Vec<&str> = stack.state().processes.iter().map(|process| process.name.as_str()).collect();
        format!("no process is named {name}; there are {}", names.join(", "))
    })?;
    let mut log = std::fs::File::open(&process.launch.log)
        .with_context(|| format!("{} has not logged anything", process.name))?;
    match std::io::copy(&mut log, &mut std::io::stdout()) {
        // Who reads has seen enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        copied => copied.map(|_| ()).map_err(Into::into),
    }
}

pub(crate) async fn stop(folder: &Path, name: &str) -> anyhow::Result<()> {
    let stopped = Stack::open(folder)?.stop(name).await?;
    println!("stopped {}", stopped.join(", "));
    Ok(())
}

pub(crate) async fn restart(folder: &Path, name: &str) -> anyhow::Result<()> {
    let started = Stack::open(folder)?.restart(name).await?;
    println!("started {}", started.join(", "));
    Ok(())
}
