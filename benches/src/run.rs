//! One run: so many connections, each with one request in flight, for so long.

use crate::connection::Connection;
use crate::kind::{Kind, Tally};
use crate::process::Process;
use crate::target::Target;
use anyhow::Result;
use futures::future::try_join_all;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) kind: Kind,
    pub(crate) connections: usize,
    pub(crate) length: Duration,
}

pub(crate) struct Measured {
    pub(crate) tally: Tally,
    pub(crate) elapsed: Duration,
    /// Of a request, however many checks it has.
    pub(crate) took_us: Histogram<u64>,
    /// By role, CPU microseconds a check; the client's own among them.
    pub(crate) cpu_us: BTreeMap<String, f64>,
}

impl Measured {
    /// Checks that got a verdict, a second.
    pub(crate) fn rate(&self) -> f64 {
        (self.tally.checks - self.tally.failed) as f64 / self.elapsed.as_secs_f64()
    }
}

impl Load {
    pub(crate) async fn run(self, target: &Target) -> Result<Measured> {
        let processes = target.processes()?;
        let before = cpu_s(&processes)?;
        let began = Instant::now();
        let senders = (0..self.connections).map(|n| self.connection(target, n, began + self.length));
        let (mut tally, mut took_us) = (Tally::default(), histogram()?);
        for (one, took) in try_join_all(senders).await? {
            tally.add(one);
            took_us.add(&took)?;
        }
        let elapsed = began.elapsed();
        let mut cpu_us = cpu_s(&processes)?;
        for (role, spent) in &mut cpu_us {
            let spent_s = *spent - before.get(role).copied().unwrap_or(0.0);
            *spent = spent_s * 1e6 / tally.checks.max(1) as f64;
        }
        Ok(Measured { tally, elapsed, took_us, cpu_us })
    }

    /// Each connection asks for users of its own, in turn; a hot user is everybody's.
    async fn connection(self, target: &Target, n: usize, until: Instant) -> Result<(Tally, Histogram<u64>)> {
        let mut connection = Connection::open(&target.address).await?;
        let (skip, step) = if matches!(self.kind, Kind::Hot(_)) { (0, 1) } else { (n, self.connections) };
        let users: Vec<&str> = target.names(self.kind).iter().skip(skip).step_by(step).map(String::as_str).collect();
        anyhow::ensure!(
            users.len() >= self.kind.distinct_users(),
            "too few users for {} connections",
            self.connections
        );
        let (mut tally, mut took, key) = (Tally::default(), histogram()?, format!("load-{n}"));
        for n in 0.. {
            let question = self.kind.question(&users, n, &key);
            let began = Instant::now();
            if began >= until {
                break;
            }
            let credential = self.kind.credential(&target.key, &users, n);
            let answer = connection.send(credential, question).await?;
            took.saturating_record(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
            tally.add(self.kind.tally(&users, n, &answer));
        }
        Ok((tally, took))
    }
}

/// To a minute, at three digits.
pub(crate) fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000, 3)?)
}

/// CPU seconds by role so far.
fn cpu_s(processes: &[Process]) -> Result<BTreeMap<String, f64>> {
    let mut seconds = BTreeMap::<String, f64>::new();
    for process in processes {
        *seconds.entry(process.role.clone()).or_default() += process.cpu_s()?;
    }
    Ok(seconds)
}
