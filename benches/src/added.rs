//! What a router adds to a check's time at a fixed rate: the same load on a public cell and through a router,
//! in turn, in one run.
//!
//! The load is open: a request is due when it is due, whether or not earlier ones have been answered, and its
//! time counts from then. A slow answer so delays nobody's start unseen.

use crate::connection::Connection;
use crate::kind::{Kind, Tally};
use crate::people::Tier;
use crate::plan::ADDED_UP;
use crate::run::histogram;
use crate::target::Target;
use anyhow::{Result, ensure};
use futures::future::try_join_all;
use hdrhistogram::Histogram;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, mpsc};

/// How long each of the two has the machine before it is the other's turn: what else the machine does is then
/// much the same for both.
const SLICE: Duration = Duration::from_secs(3);
/// The first of each slice is not counted: caches and connections become warm.
const WARM: Duration = Duration::from_millis(500);
/// Requests that are due and have no connection yet: at 5,000 a second, a second and a half.
const DUE_MAX: usize = 8_192;
/// What is promised of a router at 5,000 requests a second.
const MUST_US: [(f64, u64); 2] = [(0.5, 150), (0.99, 1_000)];

struct Side {
    name: &'static str,
    target: Target,
    took_us: Histogram<u64>,
    tally: Tally,
    /// Requests that were due while too many waited, and so were never sent.
    unsent: u64,
}

pub(crate) async fn measure(rate: u32, length: Duration, connections: usize, users: usize) -> Result<()> {
    let mut sides = Vec::with_capacity(ADDED_UP.len());
    for (name, up) in ["at a public cell", "through the router"].into_iter().zip(ADDED_UP) {
        let target = Target::up(up, Tier::AckRedis, users).await?;
        sides.push(Side { name, target, took_us: histogram()?, tally: Tally::default(), unsent: 0 });
    }
    let slices = length.as_secs().div_ceil(SLICE.as_secs()).max(1);
    println!("{rate} requests/s, open loop, {connections} connections, {slices} slices of {} s each", SLICE.as_secs());
    for _ in 0..slices {
        for side in &mut sides {
            side.slice(rate, connections).await?;
        }
    }
    for side in &sides {
        let us = |quantile: f64| side.took_us.value_at_quantile(quantile);
        println!(
            "{:<20} {:>9} requests   p50 {:>6} µs   p99 {:>6} µs   denied {}   failed {}   unsent {}",
            side.name,
            side.took_us.len(),
            us(0.5),
            us(0.99),
            side.tally.denied,
            side.tally.failed,
            side.unsent
        );
    }
    for (quantile, must) in MUST_US {
        let [cell, router] = [&sides[0], &sides[1]].map(|side| side.took_us.value_at_quantile(quantile));
        let added = router.saturating_sub(cell);
        let verdict = if added <= must { "" } else { "  MISSED" };
        println!("added at p{:<3.0}        {added:>6} µs   must {must:>6} µs{verdict}", quantile * 100.0);
    }
    Ok(())
}

impl Side {
    async fn slice(&mut self, rate: u32, connections: usize) -> Result<()> {
        let (due, waiting) = mpsc::channel(DUE_MAX);
        let counted_from = Instant::now() + WARM;
        let pacer = std::thread::spawn(move || pace(rate, &due));
        let waiting = Mutex::new(waiting);
        let senders = (0..connections).map(|n| sender(&self.target, n, connections, &waiting, counted_from));
        for (tally, took) in try_join_all(senders).await? {
            self.tally.add(tally);
            self.took_us.add(&took)?;
        }
        let Ok(unsent) = pacer.join() else { anyhow::bail!("the pacer panicked") };
        self.unsent += unsent;
        Ok(())
    }
}

/// Says when each request of a slice is due. A thread of its own: the runtime's timers have whole milliseconds.
fn pace(rate: u32, due: &mpsc::Sender<Instant>) -> u64 {
    let (begun, each) = (Instant::now(), Duration::from_secs(1) / rate);
    let mut unsent = 0;
    for n in 0.. {
        let at = begun + each * n;
        if at >= begun + SLICE {
            break;
        }
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        if due.try_send(at).is_err() {
            unsent += 1;
        }
    }
    unsent
}

/// Sends what is due, with users of its own, until there is no more.
async fn sender(
    target: &Target,
    n: usize,
    of: usize,
    waiting: &Mutex<mpsc::Receiver<Instant>>,
    counted_from: Instant,
) -> Result<(Tally, Histogram<u64>)> {
    let mut connection = Connection::open(&target.address).await?;
    let users: Vec<&str> = target.users.iter().skip(n).step_by(of).map(String::as_str).collect();
    ensure!(!users.is_empty(), "too few users for {of} connections");
    let (mut tally, mut took) = (Tally::default(), histogram()?);
    for n in 0.. {
        let due = waiting.lock().await.recv().await;
        let Some(due) = due else { break };
        let answer = connection.send(&target.key, Kind::Consume.question(&users, n, "")).await?;
        if due >= counted_from {
            took.saturating_record(u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX));
            tally.add(Kind::Consume.tally(&users, n, &answer));
        }
    }
    Ok((tally, took))
}
