//! What a scan of unknown ids costs real users: their cached profile reads at a fixed rate, alone and beside
//! callers who ask for one random id after another.
//!
//! Each has the machine in turn, slice by slice, so that what else it does is much the same for both.

use crate::connection::{Connection, Question};
use crate::kind::{Kind, Tally};
use crate::run::histogram;
use crate::target::Target;
use anyhow::{Result, ensure};
use futures::future::{join, try_join_all};
use hdrhistogram::Histogram;
use std::cell::Cell;
use std::time::{Duration, Instant};

const SLICE: Duration = Duration::from_secs(3);
/// Real users' connections, each with a read every so often: 2,000 a second.
const READERS: usize = 16;
const READ_EVERY: Duration = Duration::from_millis(8);
/// Scanners, each with one id in flight, as fast as they are answered.
const SCANNERS: usize = 4;

#[derive(Default)]
struct Scan {
    asked: u64,
    took: Duration,
}

pub(crate) async fn measure(target: &Target, ids: u64, length: Duration) -> Result<()> {
    warm(target).await?;
    let (mut alone, mut beside, mut scan) = (histogram()?, histogram()?, Scan::default());
    let mut tally = Tally::default();
    let slices = length.as_secs().div_ceil(SLICE.as_secs()).max(1);
    for _ in 0..slices {
        let left = ids - scan.asked;
        if left == 0 {
            break;
        }
        let until = Instant::now() + SLICE;
        tally.add(readers(target, until, &mut alone).await?);
        let until = Instant::now() + SLICE;
        let (read, scanned) =
            join(readers(target, until, &mut beside), scanners(target, until, scan.asked, left)).await;
        tally.add(read?);
        scan.asked += scanned?;
        scan.took += SLICE;
    }
    println!(
        "a scan of {} unknown ids in {:.0} s; {} cached profile reads, {} failed",
        scan.asked,
        scan.took.as_secs_f64(),
        tally.checks,
        tally.failed
    );
    for (name, took) in [("alone", &alone), ("beside the scan", &beside)] {
        let us = |quantile: f64| took.value_at_quantile(quantile);
        println!("{name:<16} {:>8} reads   p50 {:>6} µs   p99 {:>6} µs", took.len(), us(0.5), us(0.99));
    }
    Ok(())
}

/// Every user is in memory and in the cache.
async fn warm(target: &Target) -> Result<()> {
    let mut connection = Connection::open(&target.address).await?;
    let users: Vec<&str> = target.users.iter().map(String::as_str).collect();
    for n in 0..users.len() {
        let answer = connection.send(&target.key, Kind::Profile.question(&users, n, "")).await?;
        ensure!(answer.status == 200, "a profile was answered {}", answer.status);
    }
    Ok(())
}

async fn readers(target: &Target, until: Instant, took: &mut Histogram<u64>) -> Result<Tally> {
    let mut all = Tally::default();
    for (tally, one) in try_join_all((0..READERS).map(|n| reader(target, n, until))).await? {
        all.add(tally);
        took.add(&one)?;
    }
    Ok(all)
}

/// A read that could not begin when it was due, because the last one took so long, counts from when it was.
async fn reader(target: &Target, of: usize, until: Instant) -> Result<(Tally, Histogram<u64>)> {
    let mut connection = Connection::open(&target.address).await?;
    let users: Vec<&str> = target.users.iter().skip(of).step_by(READERS).map(String::as_str).collect();
    ensure!(!users.is_empty(), "too few users for {READERS} connections");
    let (mut tally, mut took) = (Tally::default(), histogram()?);
    let mut due = Instant::now() + READ_EVERY * of as u32 / READERS as u32;
    for n in 0.. {
        let now = Instant::now();
        if now >= until {
            break;
        }
        if now < due {
            tokio::time::sleep_until(due.into()).await;
        }
        let began = if now < due { Instant::now() } else { due };
        let answer = connection.send(&target.key, Kind::Profile.question(&users, n, "")).await?;
        took.saturating_record(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
        tally.add(Kind::Profile.tally(&users, n, &answer));
        due += READ_EVERY;
    }
    Ok((tally, took))
}

/// Numbers in a row, in no order that anybody could make use of, and none twice (splitmix64).
fn spread(n: u64) -> u64 {
    let n = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// How many ids were asked for: at most so many.
async fn scanners(target: &Target, until: Instant, already: u64, ids: u64) -> Result<u64> {
    let left = Cell::new(ids);
    let scanner = async |_: usize| -> Result<()> {
        let mut connection = Connection::open(&target.address).await?;
        while Instant::now() < until && left.get() > 0 {
            left.set(left.get() - 1);
            let user = format!("scan-{:016x}", spread(already + ids - left.get()));
            let header = Some(("cellar-user", user));
            let question = Question { method: "GET", path: "/v1/user/profile", header, body: String::new() };
            let status = connection.send(&target.key, question).await?.status;
            ensure!(status == 404, "an unknown id was answered {status}");
        }
        Ok(())
    };
    try_join_all((0..SCANNERS).map(scanner)).await?;
    Ok(ids - left.get())
}
