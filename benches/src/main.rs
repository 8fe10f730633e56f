//! The load runs: a cell by itself, and a world through its router; checks one by one and in batches,
//! profile reads, preferences, stores that die; what a router adds to a check, what the directory answers; and what users
//! weigh in memory and on disk; and what a scan of unknown ids costs real ones.
//!
//! Bounded: to loopback only, so many connections, so many seconds a run. Every answer is checked.

mod added;
mod connection;
mod directory;
mod exceptions;
mod kind;
mod memory;
mod outage;
mod people;
mod plan;
mod process;
mod run;
mod scan;
mod stores;
mod swap;
mod table;
mod target;
mod telemetry;

use anyhow::Result;
use clap::Parser;
use outage::redis_is_stopped;
use people::Tier;
use plan::{MEMORY_UP, OUTAGE, Planned, RUNS, Redis, SCAN_UP};
use run::Load;
use std::time::Duration;
use target::Target;

#[derive(Parser)]
struct Arguments {
    /// Seconds of each run
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Of runs with one check a request; large batches take eight
    #[arg(long, default_value_t = 64)]
    connections: usize,
    #[arg(long, default_value_t = 2_000)]
    users: usize,
    /// Only the runs whose name contains this
    #[arg(long, default_value = "")]
    only: String,
    /// Instead of the runs: what so many users weigh in a cell, in Redis and in Postgres
    #[arg(long, value_name = "USERS", value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
    memory: Option<u32>,
    /// Instead of the runs: reads and conditional writes of the directory, on each store it can be kept in
    #[arg(long, conflicts_with = "memory")]
    directory: bool,
    /// Instead of the runs: what a router adds to a check's time, at so many requests a second
    #[arg(long, value_name = "RATE", conflicts_with_all = ["memory", "directory"], value_parser = clap::value_parser!(u32).range(100..=20_000))]
    added: Option<u32>,
    /// Instead of the runs: whether callers notice that a policy is replaced, so many seconds each before, during and
    /// after
    #[arg(long, conflicts_with_all = ["memory", "directory", "added", "exceptions"])]
    swap: bool,
    /// Instead of the runs: what a million users off the ring weigh in a router
    #[arg(long, conflicts_with_all = ["memory", "directory", "added"])]
    exceptions: bool,
    /// Instead of the runs: real users' profile reads beside a scan of so many unknown ids, or of as many as there is
    /// time for
    #[arg(long, value_name = "IDS", conflicts_with_all = ["memory", "directory", "added", "exceptions"], value_parser = clap::value_parser!(u64).range(1_000..=1_000_000))]
    scan: Option<u64>,
    /// Instead of the runs: what it costs that requests are traced, in pairs of runs with and without
    #[arg(long, conflicts_with_all = ["memory", "directory", "added", "exceptions", "scan", "swap"])]
    telemetry: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(users) = arguments.memory {
        // The one who signs up finds the tier in force.
        let target = Target::up(MEMORY_UP, Tier::AckRedis, 1).await?;
        return memory::measure(target, users as usize).await;
    }
    if arguments.directory {
        return directory::measure(Duration::from_secs(arguments.seconds), arguments.connections).await;
    }
    if let Some(rate) = arguments.added {
        let length = Duration::from_secs(arguments.seconds);
        return added::measure(rate, length, arguments.connections, arguments.users).await;
    }
    if arguments.swap {
        let length = Duration::from_secs(arguments.seconds);
        return swap::measure(length, arguments.connections, arguments.users).await;
    }
    if arguments.exceptions {
        return exceptions::measure().await;
    }
    if arguments.telemetry {
        let length = Duration::from_secs(arguments.seconds);
        return telemetry::measure(length, arguments.connections, arguments.users).await;
    }
    if let Some(ids) = arguments.scan {
        let target = Target::up(SCAN_UP, Tier::AckRedis, arguments.users).await?;
        return scan::measure(&target, ids, Duration::from_secs(arguments.seconds)).await;
    }
    println!("{} users, {} s a run, answers checked", arguments.users, arguments.seconds);
    table::head();
    for planned in RUNS.iter().filter(|planned| planned.name.contains(&arguments.only)) {
        run(planned, &arguments).await?;
    }
    let (name, up) = OUTAGE;
    if name.contains(&arguments.only) {
        let target = Target::up(up, Tier::AckRedis, arguments.users).await?;
        outage::measure(&target, arguments.connections).await?.print(name);
    }
    Ok(())
}

async fn run(planned: &Planned, arguments: &Arguments) -> Result<()> {
    let mut target = Target::up(planned.up, planned.tier, arguments.users).await?;
    if planned.kind.by_session() {
        target.log_in().await?;
    }
    if planned.kind.by_password() {
        target.give_passwords().await?;
    }
    let connections = planned.connections.unwrap_or(arguments.connections);
    if planned.redis == Redis::Stopped {
        redis_is_stopped(&target).await?;
    }
    if planned.redis == Redis::CacheStopped {
        target.stack.ok(&["stop", "redis-cache"])?;
    }
    let load = Load { kind: planned.kind, connections, length: Duration::from_secs(arguments.seconds) };
    table::row(planned.name, planned.must, &load.run(&target).await?);
    Ok(())
}
