//! The load runs: a cell by itself, and a world through its router; consume and profile reads.
//!
//! Bounded: to loopback only, 64 connections, so many seconds a run. Every answer is checked.

mod people;
mod run;
mod table;

use anyhow::Result;
use cellar_devstack::Cellctl;
use clap::Parser;
use run::{Kind, Load};
use std::time::Duration;

#[derive(Parser)]
struct Arguments {
    /// Seconds of each run
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    #[arg(long, default_value_t = 64)]
    connections: usize,
    #[arg(long, default_value_t = 2_000)]
    users: usize,
    /// Only the runs whose name contains this
    #[arg(long, default_value = "")]
    only: String,
}

/// What a run is compared with: requests a second on two cores, client included.
struct Planned {
    name: &'static str,
    up: &'static [&'static str],
    kind: Kind,
    must: f64,
}

const CELL: &[&str] = &["cell", "up"];
const CELL_EVERYSEC: &[&str] = &["cell", "up", "--fsync", "everysec"];
const WORLD: &[&str] = &["up", "--regions", "1", "--cells", "1"];
const WORLD_EVERYSEC: &[&str] = &["up", "--regions", "1", "--cells", "1", "--fsync", "everysec"];

const RUNS: [Planned; 5] = [
    Planned { name: "consume at a cell, everysec", up: CELL_EVERYSEC, kind: Kind::Consume, must: 40_000.0 },
    Planned { name: "consume at a cell, always", up: CELL, kind: Kind::Consume, must: 30_000.0 },
    Planned { name: "consume through the router, everysec", up: WORLD_EVERYSEC, kind: Kind::Consume, must: 30_000.0 },
    Planned { name: "consume through the router, always", up: WORLD, kind: Kind::Consume, must: 25_000.0 },
    Planned { name: "profile read at a cell, cached", up: CELL, kind: Kind::Profile, must: 25_000.0 },
];

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    println!(
        "{} connections, {} users, {} s a run, answers checked",
        arguments.connections, arguments.users, arguments.seconds
    );
    table::head();
    for planned in RUNS.iter().filter(|planned| planned.name.contains(&arguments.only)) {
        // A stack of its own each: nothing of one run is left for the next.
        let stack = Cellctl::up(planned.up)?;
        let load = Load::prepare(&stack, arguments.users).await?;
        let measured = load.run(planned.kind, arguments.connections, Duration::from_secs(arguments.seconds)).await?;
        table::row(planned.name, planned.must, &measured);
    }
    Ok(())
}
