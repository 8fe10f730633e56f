//! Reads and conditional writes of the directory, on each store: what a log-in, a lost route and a
//! sign-up cost. Every answer is checked.

use anyhow::{Context, Result, ensure};
use cellar_devstack::{Cassandra, Postgres};
use cellar_directory::{HomeState, Homes, Intent, OpenDirectory, Replicas, UserHome};
use cellar_model::{CellName, Epoch, Secret, UserId};
use futures::future::try_join_all;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Of Postgres, for as many callers as a cell and a router have.
const POOL_MAX: u32 = 32;

pub(crate) async fn measure(length: Duration, callers: usize) -> Result<()> {
    println!("{callers} callers, {} s a run, every store on this machine", length.as_secs());
    let postgres = Postgres::start_directory().await?;
    on("postgres", &postgres.url(), Replicas::AsTheyAre, length, callers).await?;
    drop(postgres);
    let node = Cassandra::start(&["eu"]).await?;
    on("cassandra, one node", &node.url("eu"), "eu=1".parse()?, length, callers).await?;
    drop(node);
    let nodes = Cassandra::start(&["eu", "us"]).await?;
    on("cassandra, two regions", &nodes.url("eu"), "eu=1,us=1".parse()?, length, callers).await
}

async fn on(store: &str, url: &str, replicas: Replicas, length: Duration, callers: usize) -> Result<()> {
    let url = Secret::new(url.to_owned());
    OpenDirectory::migrate(&url, &replicas).await?;
    let directory = OpenDirectory::connect(&url, POOL_MAX).await?;
    // Users whose rows the reads ask for, and time for a store to become warm.
    let number = AtomicU64::new(0);
    let create = async |n: u64| {
        let home = home(n)?;
        let written = directory.create_home(&home).await?;
        ensure!(written.is_applied(), "a fresh row was not written: {written:?}");
        Ok(())
    };
    run(length / 2, callers, || create(number.fetch_add(1, Ordering::Relaxed))).await?;
    let row = |run: &str, rates: &Rates| {
        println!(
            "{store:<24} {run:<20} {:>8.0}/s   p50 {:>6.2} ms   p99 {:>6.2} ms",
            rates.a_second, rates.p50, rates.p99
        );
    };
    row("conditional inserts", &run(length, callers, || create(number.fetch_add(1, Ordering::Relaxed))).await?);
    let (there, asked) = (number.load(Ordering::Relaxed), AtomicU64::new(0));
    let next = || asked.fetch_add(1, Ordering::Relaxed) % there;
    let read = async |n: u64| {
        let read = directory.read_home(&home(n)?.user).await?;
        read.map(drop).context("a written row was not read")
    };
    row("reads", &run(length, callers, || read(next())).await?);
    let read = async |n: u64| {
        let read = directory.read_home_serially(&home(n)?.user).await?;
        read.map(drop).context("a written row was not read")
    };
    row("serial reads", &run(length, callers, || read(next())).await?);
    Ok(())
}

fn home(n: u64) -> Result<UserHome> {
    Ok(UserHome {
        user: UserId::new(&format!("eu_{n:026}"))?,
        home: CellName::new("eu-1")?,
        epoch: Epoch(1),
        state: HomeState::Creating { intent: Intent::new(&format!("{n:032x}"))? },
    })
}

struct Rates {
    a_second: f64,
    p50: f64,
    p99: f64,
}

/// So many callers, each with one call at a time.
async fn run<F: Future<Output = Result<()>>>(length: Duration, callers: usize, call: impl Fn() -> F) -> Result<Rates> {
    let begun = Instant::now();
    let call = &call;
    let calling = (0..callers).map(|_| async move {
        let mut took = hdrhistogram::Histogram::<u64>::new(3)?;
        while begun.elapsed() < length {
            let asked = Instant::now();
            call().await?;
            took.record(u64::try_from(asked.elapsed().as_micros())?)?;
        }
        anyhow::Ok(took)
    });
    let mut all = hdrhistogram::Histogram::<u64>::new(3)?;
    for took in try_join_all(calling).await? {
        all.add(&took)?;
    }
    let ms = |quantile: f64| all.value_at_quantile(quantile) as f64 / 1e3;
    Ok(Rates { a_second: all.len() as f64 / begun.elapsed().as_secs_f64(), p50: ms(0.5), p99: ms(0.99) })
}
