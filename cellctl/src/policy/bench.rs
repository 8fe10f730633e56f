//! `policy bench`: what a decision costs on this machine, in time and in fuel.

use super::{Component, replay};
use anyhow::Context;
use cellar_policy_host::{Host, HostLimits, Operation, Outcome, Policy, Request, Stores};
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

/// 2023-11-14T22:13:20Z: any moment will do.
const START_US: u64 = 1_700_000_000_000_000;
/// Calls that are timed together: long enough for a clock of some tens of nanoseconds.
const BATCH: u64 = 1_000;
/// Of these come the median and the 99th percentile.
const BATCHES: usize = 200;
/// What is run before anything is timed.
const WARM_UP_BATCHES: usize = 20;
const LOADS: usize = 5;
/// Loads without a compiler take a fraction of a millisecond.
const PRECOMPILED_LOADS: usize = 50;
/// What a decision of a policy that ships may take: a check asks two or three of them.
const BUDGET_NS: f64 = 500.0;
const INSTANCES: usize = 200;

#[derive(Debug, clap::Args)]
pub(crate) struct BenchArguments {
    #[command(flatten)]
    component: Component,
    /// The policy's settings; - is the standard input
    #[arg(long, value_name = "FILE.json", default_value = "settings.json")]
    settings: PathBuf,
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Measured {
    name: String,
    version: String,
    digest: String,
    /// Checking and compiling the component, once for each version.
    load_ms: f64,
    /// The same from machine code that this process has made before.
    precompiled_ms: f64,
    /// A fresh instance and its first decision, once for each worker and a million calls.
    instance_us: f64,
    decide: Vec<Decide>,
    batches: usize,
    calls_a_batch: u64,
}

#[derive(Serialize)]
struct Decide {
    case: &'static str,
    /// Of the batches' means.
    median_ns: f64,
    p99_ns: f64,
    budget_ns: f64,
    /// Of one call.
    fuel_median: u64,
    fuel_most: u64,
}

pub(super) fn run(arguments: &BenchArguments) -> anyhow::Result<()> {
    let artifact = arguments.component.read()?;
    let host = Host::new(HostLimits::default())?;
    let policy = host.load(&artifact).with_context(|| arguments.component.to_string())?;
    let parameters = replay::configure(&policy, &arguments.settings)?;
    let load_ms = median_ms(LOADS, || host.load(&artifact))?;
    let precompiled = host.precompile(&artifact)?;
    let precompiled_ms = median_ms(PRECOMPILED_LOADS, || host.load_precompiled(&precompiled))?;
    let mut user = User { stores: Stores::new(&host), policy: policy.clone(), parameters, state: Vec::new() };
    let instance_us = instances(&host, &user)?;
    let decide = [first_sight(&mut user)?, spending(&mut user)?, denied(&mut user)?];
    let description = policy.description();
    let measured = Measured {
        name: description.name.to_string(),
        version: description.version.clone(),
        digest: policy.digest().to_string(),
        load_ms,
        precompiled_ms,
        instance_us,
        decide: decide.into_iter().flatten().collect(),
        batches: BATCHES,
        calls_a_batch: BATCH,
    };
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&measured)?);
    } else {
        print(&measured);
    }
    Ok(())
}

fn median_ms<T, E>(times: usize, mut load: impl FnMut() -> Result<T, E>) -> Result<f64, E> {
    let mut ms = Vec::with_capacity(times);
    for _ in 0..times {
        let began = Instant::now();
        load()?;
        ms.push(began.elapsed().as_secs_f64() * 1e3);
    }
    Ok(median(&mut ms))
}

fn print(measured: &Measured) {
    let Measured { name, version, digest, load_ms, precompiled_ms, instance_us, decide, .. } = measured;
    println!("{name} {version}   {digest}");
    println!("  load       {load_ms:>8.2} ms   checked and compiled, median of {LOADS}");
    println!("  load again {precompiled_ms:>8.2} ms   from the machine code of before, median of {PRECOMPILED_LOADS}");
    println!("  instance   {instance_us:>8.2} us   made and asked once, median of {INSTANCES}");
    println!("  decide       median        p99     fuel   most fuel   of {:.1} us", BUDGET_NS / 1e3);
    for Decide { case, median_ns, p99_ns, budget_ns, fuel_median, fuel_most } in decide {
        let (median_us, p99_us, share) = (median_ns / 1e3, p99_ns / 1e3, median_ns / budget_ns);
        let missed = if share > 1.0 { "  MISSED" } else { "" };
        println!(
            "    {case:<11} {median_us:>4.2} us {p99_us:>7.2} us {fuel_median:>8} {fuel_most:>11} {:>8.0} %{missed}",
            100.0 * share
        );
    }
    if !decide.iter().any(|one| one.case == DENIED) {
        println!("    it denied nothing that could be asked, so no denial was measured");
    }
    println!(
        "  {BATCHES} batches of {BATCH} calls by one worker of this host, after {WARM_UP_BATCHES} that were not timed;"
    );
    println!(
        "  median and p99 of the batches' means, fuel call by call. Time is this machine's, fuel is the same on any."
    );
}

struct User {
    stores: Stores,
    policy: Arc<Policy>,
    parameters: Vec<u8>,
    state: Vec<u8>,
}

impl User {
    fn ask(&mut self, operation: Operation, now_us: u64, cost: u64) -> anyhow::Result<Outcome> {
        let request = Request { operation, now_us, cost, held: 0, held_at_us: 0, attributes: &[] };
        Ok(self.stores.decide(&self.policy, &self.parameters, &self.state, &request)?)
    }

    fn fuel(&self) -> u64 {
        self.stores.fuel_burnt(&self.policy)
    }
}

fn instances(host: &Host, user: &User) -> anyhow::Result<f64> {
    let request =
        Request { operation: Operation::Peek, now_us: START_US, cost: 0, held: 0, held_at_us: 0, attributes: &[] };
    let mut us = Vec::new();
    for _ in 0..INSTANCES {
        let began = Instant::now();
        Stores::new(host).decide(&user.policy, &user.parameters, &[], &request)?;
        us.push(began.elapsed().as_secs_f64() * 1e6);
    }
    Ok(median(&mut us))
}

/// A user whom the policy has not seen takes one.
fn first_sight(user: &mut User) -> anyhow::Result<Option<Decide>> {
    user.state.clear();
    measure("first sight", user, |user, n| user.ask(Operation::Consume, START_US + n, 1).map(drop)).map(Some)
}

/// One user takes one after another, and begins anew where there is nothing left.
fn spending(user: &mut User) -> anyhow::Result<Option<Decide>> {
    user.state.clear();
    let spend = |user: &mut User, n: u64| {
        let outcome = user.ask(Operation::Consume, START_US + n, 1)?;
        match outcome.state {
            Some(state) => user.state = state,
            None => user.state.clear(),
        }
        Ok(())
    };
    measure("spending", user, spend).map(Some)
}

const DENIED: &str = "denied";

/// One user who has taken all there is asks for one more.
fn denied(user: &mut User) -> anyhow::Result<Option<Decide>> {
    user.state.clear();
    let all = user.ask(Operation::Peek, START_US, 0)?.remaining;
    if let Some(state) = user.ask(Operation::Consume, START_US, all)?.state {
        user.state = state;
    }
    if user.ask(Operation::Consume, START_US, 1)?.admitted {
        return Ok(None);
    }
    measure(DENIED, user, |user, _| user.ask(Operation::Consume, START_US, 1).map(drop)).map(Some)
}

fn measure(
    case: &'static str,
    user: &mut User,
    mut call: impl FnMut(&mut User, u64) -> anyhow::Result<()>,
) -> anyhow::Result<Decide> {
    let (mut n, mut ns) = (0, Vec::new());
    for batch in 0..WARM_UP_BATCHES + BATCHES {
        let began = Instant::now();
        for _ in 0..BATCH {
            call(user, n)?;
            n += 1;
        }
        if batch >= WARM_UP_BATCHES {
            ns.push(began.elapsed().as_secs_f64() * 1e9 / BATCH as f64);
        }
    }
    let mut fuel = Vec::new();
    for _ in 0..BATCH {
        call(user, n)?;
        n += 1;
        fuel.push(user.fuel());
    }
    fuel.sort_unstable();
    let median_ns = median(&mut ns);
    Ok(Decide {
        case,
        median_ns,
        p99_ns: ns[BATCHES * 99 / 100],
        budget_ns: BUDGET_NS,
        fuel_median: fuel[fuel.len() / 2],
        fuel_most: fuel[fuel.len() - 1],
    })
}

/// Sorts them, too.
fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
