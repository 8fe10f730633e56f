//! Whether callers notice that a policy is replaced: the times of checks before, while and after a cell that serves
//! them is given one version of a policy after another.

use crate::connection::{Connection, Question};
use crate::kind::{Kind, Tally};
use crate::people::Tier;
use crate::plan::SWAP_UP;
use crate::run::histogram;
use crate::target::Target;
use anyhow::{Context, Result, ensure};
use cellar_model::{Base64, PolicyUpload};
use futures::future::try_join_all;
use hdrhistogram::Histogram;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Swaps begin this far apart, each with a compiler at work beside the threads that serve.
const SWAP_EVERY: Duration = Duration::from_secs(1);
/// Versions that are made ready beforehand, so that no other process works in between.
const SWAPS_MAX: usize = 60;
const POLICY: &str = "gcra";

#[derive(Clone, Copy)]
enum Phase {
    Before,
    During,
    After,
}

const PHASES: [(Phase, &str); 3] = [(Phase::Before, "before"), (Phase::During, "during"), (Phase::After, "after")];

struct Seen {
    tally: Tally,
    took_us: Histogram<u64>,
}

/// `length` a phase.
pub(crate) async fn measure(length: Duration, connections: usize, users: usize) -> Result<()> {
    let target = Target::up(SWAP_UP, Tier::AckRedis, users).await?;
    let swaps = (length.as_secs_f64() / SWAP_EVERY.as_secs_f64()) as usize;
    let versions = versions(&target, swaps.clamp(1, SWAPS_MAX))?;
    let began = Instant::now();
    let callers = (0..connections).map(|n| caller(&target, n, connections, began, length));
    let (seen, swapped) = tokio::try_join!(try_join_all(callers), swap(&target, versions, began + length, length))?;
    println!("{} versions of {POLICY} put in force at a cell, one every {SWAP_EVERY:?}", swapped.len());
    println!(
        "{:<10} {:>10} {:>9} {:>9} {:>9} {:>9} {:>8}",
        "phase", "checks/s", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "failed"
    );
    for (phase, name) in PHASES {
        let (mut tally, mut took_us) = (Tally::default(), histogram()?);
        for one in &seen {
            tally.add(one[phase as usize].tally);
            took_us.add(&one[phase as usize].took_us)?;
        }
        let ms = |quantile: f64| took_us.value_at_quantile(quantile) as f64 / 1e3;
        println!(
            "{name:<10} {:>10.0} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>8}",
            (tally.checks - tally.failed) as f64 / length.as_secs_f64(),
            ms(0.5),
            ms(0.99),
            ms(0.999),
            took_us.max() as f64 / 1e3,
            tally.failed
        );
    }
    let mut put_ms: Vec<f64> = swapped.iter().map(|took| took.as_secs_f64() * 1e3).collect();
    put_ms.sort_unstable_by(f64::total_cmp);
    println!("a version was checked, compiled and in force after {:.0} ms, median", put_ms[put_ms.len() / 2]);
    Ok(())
}

/// Asks from `began` on, phase after phase.
async fn caller(target: &Target, n: usize, connections: usize, began: Instant, length: Duration) -> Result<[Seen; 3]> {
    let mut connection = Connection::open(&target.address).await?;
    let users: Vec<&str> = target.users.iter().skip(n).step_by(connections).map(String::as_str).collect();
    ensure!(!users.is_empty(), "too few users for {connections} connections");
    let fresh = || anyhow::Ok(Seen { tally: Tally::default(), took_us: histogram()? });
    let mut seen = [fresh()?, fresh()?, fresh()?];
    for n in 0.. {
        let asked = Instant::now();
        let phase = (asked - began).as_nanos() / length.as_nanos();
        let Some(seen) = usize::try_from(phase).ok().and_then(|phase| seen.get_mut(phase)) else { break };
        let answer = connection.send(&target.key, Kind::Consume.question(&users, n, "")).await?;
        seen.took_us.saturating_record(u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX));
        seen.tally.add(Kind::Consume.tally(&users, n, &answer));
    }
    Ok(seen)
}

/// For `length` from `from` on a version each second, or as fast as they come; how long each took until it was in force.
async fn swap(
    target: &Target,
    versions: Vec<(String, String)>,
    from: Instant,
    length: Duration,
) -> Result<Vec<Duration>> {
    let status = target.stack.status()?;
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned).context("a status of another form");
    let (admin, key) = (text(&status["regions"][0]["admin_url"])?, text(&status["operator_key"])?);
    let mut connection = Connection::open(admin.trim_start_matches("http://")).await?;
    let mut took = Vec::with_capacity(versions.len());
    for (n, (version, body)) in versions.into_iter().enumerate() {
        tokio::time::sleep_until((from + SWAP_EVERY * n as u32).into()).await;
        let (path, began) = (format!("/admin/v1/policies/{POLICY}/{version}"), Instant::now());
        if began >= from + length {
            break;
        }
        let answer = connection.send(&key, Question { method: "PUT", path: &path, header: None, body }).await?;
        took.push(began.elapsed());
        ensure!(
            answer.status == 200,
            "{version} was answered {}: {}",
            answer.status,
            String::from_utf8_lossy(&answer.body)
        );
    }
    Ok(took)
}

/// Uploads of the built component, each with a section of its own that says nothing: other bytes that decide alike.
fn versions(target: &Target, number: usize) -> Result<Vec<(String, String)>> {
    let component = std::fs::read(component()?)?;
    let mut versions = Vec::with_capacity(number);
    for n in 0..number {
        let (version, file) = (format!("1.1.{n}"), target.stack.folder().join(format!("{n}.wasm")));
        // A custom section: id 0, three bytes, a name of two of them.
        let artifact = [&component[..], &[0, 3, 2, b's', n as u8]].concat();
        std::fs::write(&file, &artifact)?;
        let path = file.to_str().context("a folder whose name is no text")?;
        let signed = target.stack.ok(&["policy", "sign", "--component", path, "--version", &version, "--json"])?;
        let upload = PolicyUpload {
            artifact: Base64(artifact),
            signature: Some(serde_json::from_str(&signed)?),
            certificate: None,
        };
        versions.push((version, serde_json::to_string(&upload)?));
    }
    Ok(versions)
}

/// Where `policy build` has put it.
fn component() -> Result<PathBuf> {
    let running = std::env::current_exe()?;
    let mut places = running.ancestors().map(|folder| folder.join("policies").join(POLICY).with_extension("wasm"));
    places.find(|path| path.is_file()).with_context(|| format!("there is no {POLICY}.wasm: run `make policies` first"))
}
