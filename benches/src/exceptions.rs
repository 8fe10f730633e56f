//! What a million users off the ring weigh in a router: the program itself, started with a copy of them on disk.

use crate::people::Tier;
use crate::plan::EXCEPTIONS_UP;
use crate::target::Target;
use anyhow::{Context, Result};
use cellar_model::{CellName, Epoch, RegionName, UserId};
use cellar_router::Exceptions;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const EXCEPTIONS: u128 = 1_000_000;
const MUST_MB: f64 = 100.0;
/// A router that has just started gives back what it needed for that.
const SETTLED: Duration = Duration::from_secs(5);

pub(crate) async fn measure() -> Result<()> {
    let target = Target::up(EXCEPTIONS_UP, Tier::AckRedis, 1).await?;
    let folder = router_folder(&target)?;
    let resident = async || -> Result<f64> {
        target.stack.ok(&["restart", "router"])?;
        tokio::time::sleep(SETTLED).await;
        Ok(target.process("router")?.resident_bytes()? as f64 / 1e6)
    };
    target.stack.ok(&["stop", "router"])?;
    let without = resident().await?;
    target.stack.ok(&["stop", "router"])?;

    let (region, cells) = (RegionName::new("eu")?, [CellName::new("eu-1")?, CellName::new("eu-2")?]);
    let exceptions = Exceptions::open(&folder);
    for n in 0..EXCEPTIONS {
        let user = UserId::mint(&region, n << 64 | (n * 7_919));
        exceptions.put(&user, &cells[(n % 2) as usize], Epoch(2));
    }
    let written = Instant::now();
    exceptions.save()?;
    let written_ms = written.elapsed().as_millis();
    let read = Instant::now();
    let kept = Exceptions::open(&folder).len();
    let read_ms = read.elapsed().as_millis();

    let with = resident().await?;
    let (weigh, verdict) = (with - without, if with - without <= MUST_MB { "" } else { "  MISSED" });
    println!("a router without exceptions     {without:>8.1} MB resident");
    println!("with {kept} of a million   {with:>8.1} MB resident");
    println!("they weigh                      {weigh:>8.1} MB   must {MUST_MB:.0} MB{verdict}");
    println!("written to disk in {written_ms} ms, read from it in {read_ms} ms");
    Ok(())
}

/// By its configuration: the folder in which a router keeps its copies.
fn router_folder(target: &Target) -> Result<PathBuf> {
    let status = target.stack.status()?;
    let processes = status["processes"].as_array().context("no processes")?;
    let router = processes.iter().find(|process| process["role"] == "router").context("no router in the stack")?;
    let name = router["name"].as_str().context("a router without a name")?;
    let config = target.stack.stack().join("config").join(name).join("router.toml");
    let text = std::fs::read_to_string(&config).with_context(|| config.display().to_string())?;
    let folder = text.lines().find_map(|line| line.strip_prefix("data_dir = "));
    Ok(folder.context("a router without a data_dir")?.trim_matches('"').into())
}
