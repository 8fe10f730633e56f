//! How long callers are without an answer when the quota Redis dies, and how soon all is as before.

use crate::connection::{Answer, Connection};
use crate::kind::Kind;
use crate::target::Target;
use anyhow::{Context, Result, bail, ensure};
use cellar_devstack::{Role, Stack};
use futures::FutureExt;
use futures::future::select_all;
use std::cell::Cell;
use std::time::{Duration, Instant};

/// As it is killed, Redis has been under load for so long.
const BEFORE: Duration = Duration::from_secs(3);
/// It stays dead for so long.
const DEAD: Duration = Duration::from_secs(5);
/// A cell goes back to Redis at most once a minute.
const WAIT_MAX: Duration = Duration::from_secs(90);
/// After a refusal: a caller that repeats at once only takes the processor from the cell.
const PAUSE: Duration = Duration::from_millis(5);

pub(crate) struct Outage {
    /// From the kill to the first answer by Postgres, and to the last 503.
    to_degraded: Duration,
    to_last_refused: Duration,
    refused: u64,
    /// From the start of the new process to where Redis answered it, to the first answer that does not
    /// say it is degraded, and to the last one that does: shards turn one by one.
    to_redis: Duration,
    to_normal: Duration,
    to_last_degraded: Duration,
    refused_on_return: u64,
}

/// Kills the quota Redis under load, leaves it dead for a while, starts it again.
pub(crate) async fn measure(target: &Target, connections: usize) -> Result<Outage> {
    let mut stack = Stack::open(target.stack.stack())?;
    let redis = stack.state().processes.iter().find(|process| process.role == Role::RedisQuota);
    let life = redis.and_then(|redis| redis.life).context("no quota Redis runs")?;
    let callers = Callers::of(target, connections);
    callers.ask_for(BEFORE).await?;
    ensure!(callers.refused.take() == 0, "checks were refused while all was well");

    let kill = async {
        let at = Instant::now();
        life.kill9().await;
        anyhow::Ok(at)
    };
    let (degraded, killed) = tokio::try_join!(callers.until(on_postgres), kill)?;
    callers.ask_for(DEAD).await?;
    let (refused, last_refused) = (callers.refused.take(), callers.last_refused.take());

    let restart = async {
        let at = Instant::now();
        stack.restart(Role::RedisQuota.label()).await?;
        anyhow::Ok((at, Instant::now()))
    };
    let (normal, (started, answers)) = tokio::try_join!(callers.until(on_redis), restart)?;
    callers.ask_for(DEAD).await?;
    Ok(Outage {
        to_degraded: degraded - killed,
        to_last_refused: last_refused.map_or(Duration::ZERO, |last| last - killed),
        refused,
        to_redis: answers - started,
        to_normal: normal - started,
        to_last_degraded: callers.last_degraded.take().map_or(Duration::ZERO, |last| last - started),
        refused_on_return: callers.refused.take(),
    })
}

/// Stops the quota Redis, and returns when Postgres takes the commits.
pub(crate) async fn redis_is_stopped(target: &Target) -> Result<()> {
    target.stack.ok(&["stop", Role::RedisQuota.label()])?;
    // Every shard turns by itself; each has users among a hundred in turn.
    let callers = Callers::of(target, 1);
    let in_a_row = Cell::new(0);
    let settled = |answer: &Answer| {
        in_a_row.set(if on_postgres(answer) { in_a_row.get() + 1 } else { 0 });
        in_a_row.get() >= 100
    };
    callers.until(&settled).await.map(|_| ())
}

fn on_redis(answer: &Answer) -> bool {
    answer.status == 200 && answer.degraded.is_none()
}

fn on_postgres(answer: &Answer) -> bool {
    answer.status == 200 && answer.degraded.as_deref() == Some("postgres")
}

/// Callers of single checks, each with one in flight.
struct Callers<'a> {
    target: &'a Target,
    connections: usize,
    /// Checks answered 503 since one last looked, and when the last of them was.
    refused: Cell<u64>,
    last_refused: Cell<Option<Instant>>,
    last_degraded: Cell<Option<Instant>>,
}

impl<'a> Callers<'a> {
    fn of(target: &'a Target, connections: usize) -> Self {
        let (refused, last_refused, last_degraded) = (Cell::new(0), Cell::new(None), Cell::new(None));
        Self { target, connections, refused, last_refused, last_degraded }
    }

    async fn ask_for(&self, length: Duration) -> Result<()> {
        let until = Instant::now() + length;
        self.until(|_| Instant::now() >= until).await.map(|_| ())
    }

    /// Ask until one of them gets an answer that is `wanted`, and say when it came.
    async fn until(&self, wanted: impl Fn(&Answer) -> bool + Copy) -> Result<Instant> {
        let asking = (0..self.connections).map(|n| self.caller(n, wanted).boxed_local());
        let first = select_all(asking).map(|(first, _, _)| first);
        tokio::time::timeout(WAIT_MAX, first).await.context("no such answer came")?
    }

    async fn caller(&self, n: usize, wanted: impl Fn(&Answer) -> bool) -> Result<Instant> {
        let mut connection = Connection::open(&self.target.address).await?;
        let users: Vec<&str> = self.target.users.iter().skip(n).step_by(self.connections).map(String::as_str).collect();
        for n in 0.. {
            let answer = connection.send(&self.target.key, Kind::Consume.question(&users, n, "")).await?;
            let now = Instant::now();
            if answer.degraded.is_some() {
                self.last_degraded.set(Some(now));
            }
            if answer.status == 503 {
                self.refused.set(self.refused.get() + 1);
                self.last_refused.set(Some(now));
            }
            if wanted(&answer) {
                return Ok(now);
            }
            match answer.status {
                200 => {}
                503 => {
                    tokio::time::sleep(PAUSE).await;
                }
                other => bail!("a check was answered {other}"),
            }
        }
        bail!("too many checks")
    }
}

impl Outage {
    pub(crate) fn print(&self, name: &str) {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        println!(
            "{name}: first degraded answer {:.0} ms after the kill, last 503 after {:.0} ms ({} of them)",
            ms(self.to_degraded),
            ms(self.to_last_refused),
            self.refused,
        );
        println!(
            "after its start Redis answered in {:.0} ms; first answer without Cellar-Degraded after {:.0} ms, \
             last with it after {:.0} ms, {} checks 503",
            ms(self.to_redis),
            ms(self.to_normal),
            ms(self.to_last_degraded),
            self.refused_on_return
        );
    }
}
