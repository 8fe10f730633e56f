//! The cells as a router reaches them: what each of them costs stays with its own users.

mod breaker;
mod gather;
mod health;
mod lane;
mod process;

use crate::metrics::RouterMetrics;
use axum::body::Body;
use cellar_model::{CellEntry, CellName, Check, Refusal, TryAgain, UserId, Verdict};
use futures::future::join_all;
use http::{Request, Response};
use hyper::body::Incoming;
use process::Process;
use prometheus_client::metrics::counter::Counter;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

/// Requests forwarded to one process at once, until their answer's headers are there. Above it it is too
/// slow for what it is asked, and more requests would only wait longer.
const FORWARDS_MAX: usize = 1_024;
/// Requests that wait at once for users of one cell to arrive where they are being moved.
const FROZEN_MAX: usize = 1_024;
const IDLE_CONNECTIONS_MAX: usize = 256;
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// No answer after this long is the cell's failure. Before it, the caller was impatient.
const SLOW: Duration = Duration::from_secs(1);
/// Times a request is sent on among the processes of one cell. One hand-over takes one; while a dead
/// process still counts as an owner, its shards' requests end here.
const SENT_ON_MAX: u32 = 3;

/// Why a cell gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It cannot be reached: certainly nothing was sent.
    Down,
    /// It was asked, and what it did is unknown.
    Silent,
    /// Too many wait for it already: certainly nothing was sent.
    Full,
    /// The caller does not wait any more: nothing was sent.
    Late,
    /// The body went with an earlier attempt, to a process that did nothing with it.
    Spent,
}

impl Fault {
    pub(crate) fn reason(self) -> TryAgain {
        match self {
            Fault::Down => TryAgain::CellDown,
            Fault::Silent | Fault::Spent => TryAgain::Unknown,
            Fault::Full => TryAgain::Overloaded,
            Fault::Late => TryAgain::Deadline,
        }
    }

    /// The cell did not answer. An overload and an impatient caller are nothing that it failed at.
    fn is_the_cells(self) -> bool {
        match self {
            Fault::Down | Fault::Silent | Fault::Spent => true,
            Fault::Full | Fault::Late => false,
        }
    }
}

/// What a cell said to one check.
pub(crate) type Said = Result<Verdict, Fault>;

/// One cell, with its processes.
pub(crate) struct Cell {
    pub(crate) entry: CellEntry,
    processes: Vec<Process>,
    /// Of each shard, the process that was last known to have it. Stale costs a hop.
    owners: Vec<AtomicUsize>,
    frozen: Semaphore,
    failures: Counter,
    sent_on: Counter,
}

/// Processes of a cell that cannot be asked, or cannot serve, and what the first of them says.
pub(crate) struct Away {
    pub(crate) processes: usize,
    pub(crate) why: String,
}

/// A request's way among the processes of one cell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    shard: usize,
    process: usize,
    sent_on: u32,
}

impl Cell {
    pub(crate) fn new(entry: &CellEntry, metrics: &RouterMetrics) -> Arc<Self> {
        let count = entry.endpoints.len().div_ceil(2).max(1);
        Arc::new(Self {
            processes: (0..count).map(|n| Process::new(entry, n, metrics)).collect(),
            // A guess, until one of them says better.
            owners: (0..usize::from(entry.shards)).map(|shard| AtomicUsize::new(shard % count)).collect(),
            frozen: Semaphore::new(FROZEN_MAX),
            failures: metrics.failures_of(&entry.name),
            sent_on: metrics.sent_on.clone(),
            entry: entry.clone(),
        })
    }

    pub(crate) fn name(&self) -> &CellName {
        &self.entry.name
    }

    /// Whether a new user would be taken, as far as this router knows.
    pub(crate) fn takes_new_users(&self) -> bool {
        self.processes.iter().any(|process| process.health().takes_new_users())
    }

    /// What of it is away; none, nearly always.
    pub(crate) fn away(&self) -> Option<Away> {
        let mut why = self.processes.iter().filter_map(Process::why_away);
        let first = why.next()?;
        Some(Away { processes: 1 + why.count(), why: first })
    }

    /// Where a request about `user` goes first.
    pub(crate) fn way(&self, user: &UserId) -> Way {
        let shard = usize::from(user.placement_key().point().shard(self.entry.shards));
        let process = self.owners.get(shard).map_or(0, |owner| owner.load(Ordering::Relaxed));
        Way { shard, process, sent_on: 0 }
    }

    /// Goes on to the process at `endpoint`, which another one named. False: the topology has none there,
    /// or the request has been sent on often enough.
    pub(crate) fn follow(&self, way: &mut Way, endpoint: &str) -> bool {
        let Some(process) = self.processes.iter().position(|process| process.endpoint == endpoint) else {
            tracing::warn!(cell = %self.name(), endpoint, "a process names one that the topology does not have");
            return false;
        };
        self.learn(way.shard, process);
        self.go_on(way, process)
    }

    /// The process cannot be reached, so certainly nothing was sent: asks another one, if there is one.
    pub(crate) fn sidestep(&self, way: &mut Way) -> bool {
        self.processes.len() > 1 && self.go_on(way, (way.process + 1) % self.processes.len())
    }

    fn go_on(&self, way: &mut Way, process: usize) -> bool {
        if way.sent_on == SENT_ON_MAX {
            return false;
        }
        self.sent_on.inc();
        (way.process, way.sent_on) = (process, way.sent_on + 1);
        true
    }

    /// The process that was asked has the shard.
    pub(crate) fn arrived(&self, way: &Way) {
        self.learn(way.shard, way.process);
    }

    fn learn(&self, shard: usize, process: usize) {
        // Read before written: the line is shared by all who ask.
        if let Some(owner) = self.owners.get(shard)
            && owner.load(Ordering::Relaxed) != process
        {
            owner.store(process, Ordering::Relaxed);
        }
    }

    /// Has checks decided: of each its verdict, in order, or why there is none. Never "another process".
    pub(crate) async fn decide(&self, checks: &[&Check], until: Instant) -> Vec<Said> {
        let said = match &self.processes[..] {
            [only] => only.decide(checks, until).await.into_iter().map(only_one).collect(),
            _ => self.decide_by_shard(checks, until).await,
        };
        if said.iter().any(|said| said.as_ref().is_err_and(|fault| fault.is_the_cells())) {
            self.failures.inc();
        }
        said
    }

    /// Each process gets its shards' checks in one piece; those that are not at home there go on.
    async fn decide_by_shard(&self, checks: &[&Check], until: Instant) -> Vec<Said> {
        let mut ways: Vec<Way> = checks.iter().map(|check| self.way(&check.user)).collect();
        let mut said: Vec<Said> = vec![Err(Fault::Down); checks.len()];
        let mut under_way: Vec<usize> = (0..checks.len()).collect();
        // Bounded by how often each may be sent on.
        while !under_way.is_empty() {
            let mut by_process: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
            for n in under_way.drain(..) {
                by_process.entry(ways[n].process).or_default().push(n);
            }
            let answers = join_all(by_process.into_iter().map(|(process, places)| async move {
                let checks: Vec<&Check> = places.iter().map(|n| checks[*n]).collect();
                let answers = self.processes[process].decide(&checks, until).await;
                places.into_iter().zip(answers)
            }));
            for (n, answer) in answers.await.into_iter().flatten() {
                let goes_on = match &answer {
                    Ok(Verdict::Refused(Refusal::OtherInstance { endpoint })) => self.follow(&mut ways[n], endpoint),
                    Err(Fault::Down) => self.sidestep(&mut ways[n]),
                    Ok(_) => {
                        self.arrived(&ways[n]);
                        false
                    }
                    Err(_) => false,
                };
                if goes_on {
                    under_way.push(n);
                } else {
                    said[n] = only_one(answer);
                }
            }
        }
        said
    }

    /// Checks that wait for a lane.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        self.processes.iter().map(Process::waiting).sum()
    }

    /// Sends a request to the process that `way` names; its URI is a path.
    pub(crate) async fn forward(
        &self,
        way: &Way,
        request: Request<Body>,
        until: Instant,
    ) -> Result<Response<Incoming>, Fault> {
        let answer = self.processes[way.process].forward(request, until).await;
        if answer.as_ref().is_err_and(|fault| fault.is_the_cells()) {
            self.failures.inc();
        }
        answer
    }

    /// How many processes can be asked by [`Cell::ask_admin`].
    pub(crate) fn processes(&self) -> usize {
        self.processes.len()
    }

    /// Sends a request to the admin listener of the `n`th process.
    pub(crate) async fn ask_admin(
        &self,
        n: usize,
        request: Request<Body>,
        until: Instant,
    ) -> Result<Response<Incoming>, Fault> {
        self.processes.get(n).ok_or(Fault::Down)?.ask_admin(request, until).await
    }

    /// A place among those who wait for a user under way; none when too many do.
    pub(crate) fn wait_frozen(&self) -> Option<SemaphorePermit<'_>> {
        self.frozen.try_acquire().ok()
    }
}

/// Nobody to send it on to is nobody who could be reached: nothing was done.
fn only_one(said: Said) -> Said {
    match said {
        Ok(Verdict::Refused(Refusal::OtherInstance { .. })) => Err(Fault::Down),
        said => said,
    }
}
