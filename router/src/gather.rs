//! Checks for one process that arrive together leave together.
//!
//! At most `LANES` calls are in flight; while they are, what arrives waits and forms the next one. A
//! lone check leaves at once.

use crate::breaker::Breaker;
use crate::call::{CallError, Connection};
use crate::metrics::CallMetrics;
use cellar_model::{CellName, Check, DeadlineMs, TryAgain, Verdict};
use cellar_server::telemetry;
use http::HeaderMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::Span;

/// Calls in flight to a process, each on a connection of its own. With one, the cell idles while the
/// answer travels; with more, batches get smaller and cost more.
const LANES: usize = 2;
/// Checks of one call: the cell takes no more.
const CALL_CHECKS_MAX: usize = 1_000;
/// Checks that may wait for a call: what a cell decides in about a second.
const WAITING_CHECKS_MAX: usize = 30_000;
/// A cell answers or gives up within its own store timeout of 2 s. A call that stays out longer has
/// lost its cell; callers, with shorter deadlines, are long gone.
const CALL_MAX: Duration = Duration::from_millis(2_500);

/// Checks and what became of them. The checks come back, since a cell may say: not here.
pub(crate) type Answered = (Vec<Check>, Vec<Verdict>);

struct Job {
    checks: Vec<Check>,
    until: Instant,
    span: Span,
    reply: oneshot::Sender<Answered>,
}

impl Job {
    fn answer(self, verdicts: Vec<Verdict>) {
        // Whoever asked may have stopped waiting.
        let _ = self.reply.send((self.checks, verdicts));
    }

    fn answer_all(self, reason: TryAgain) {
        let verdicts = vec![Verdict::try_again(reason); self.checks.len()];
        self.answer(verdicts);
    }
}

pub(crate) struct Gatherer {
    jobs: mpsc::Sender<Job>,
    waiting: Arc<AtomicUsize>,
    breaker: Arc<Breaker>,
}

impl Gatherer {
    /// Starts the lanes; they end when this goes.
    pub(crate) fn start(cell: &CellName, address: &str, breaker: Arc<Breaker>, metrics: CallMetrics) -> Self {
        let (jobs, queue) = mpsc::channel(WAITING_CHECKS_MAX);
        let queue = Arc::new(Mutex::new(Queue { jobs: queue, left: None }));
        let waiting = Arc::new(AtomicUsize::new(0));
        for _ in 0..LANES {
            let lane = Lane {
                cell: cell.clone(),
                queue: queue.clone(),
                waiting: waiting.clone(),
                connection: Connection::to(address),
                breaker: breaker.clone(),
                metrics: metrics.clone(),
            };
            tokio::spawn(lane.run());
        }
        Self { jobs, waiting, breaker }
    }

    /// One verdict a check. `None` in place of the checks when nobody came back in time: what became
    /// of them is unknown.
    pub(crate) async fn ask(&self, checks: Vec<Check>, until: Instant) -> (Option<Vec<Check>>, Vec<Verdict>) {
        let count = checks.len();
        let all = |reason| vec![Verdict::try_again(reason); count];
        if !self.breaker.allows() {
            return (Some(checks), all(TryAgain::CellDown));
        }
        if self.waiting.fetch_add(count, Ordering::Relaxed) + count > WAITING_CHECKS_MAX {
            self.waiting.fetch_sub(count, Ordering::Relaxed);
            return (Some(checks), all(TryAgain::Overloaded));
        }
        let (reply, answer) = oneshot::channel();
        let job = Job { checks, until, span: Span::current(), reply };
        if let Err(refused) = self.jobs.try_send(job) {
            self.waiting.fetch_sub(count, Ordering::Relaxed);
            return (Some(refused.into_inner().checks), all(TryAgain::Overloaded));
        }
        match timeout_at(until, answer).await {
            Ok(Ok((checks, verdicts))) => (Some(checks), verdicts),
            Ok(Err(_)) | Err(_) => (None, all(TryAgain::Unknown)),
        }
    }
}

struct Queue {
    jobs: mpsc::Receiver<Job>,
    /// Taken from the channel, and too large for the call that took it.
    left: Option<Job>,
}

struct Lane {
    cell: CellName,
    queue: Arc<Mutex<Queue>>,
    waiting: Arc<AtomicUsize>,
    connection: Connection,
    breaker: Arc<Breaker>,
    metrics: CallMetrics,
}

impl Lane {
    async fn run(mut self) {
        while let Some(jobs) = self.gather().await {
            self.call(jobs).await;
        }
    }

    /// The next call's jobs. One lane gathers at a time; the other is on its way.
    async fn gather(&self) -> Option<Vec<Job>> {
        let mut queue = self.queue.lock().await;
        let first = match queue.left.take().or_else(|| queue.jobs.try_recv().ok()) {
            Some(job) => job,
            None => {
                let job = queue.jobs.recv().await?;
                // Once: those whose turn it is now come along. Measured, 13 % more checks a second.
                tokio::task::yield_now().await;
                job
            }
        };
        let mut count = first.checks.len();
        let mut jobs = vec![first];
        while let Ok(job) = queue.jobs.try_recv() {
            if count + job.checks.len() > CALL_CHECKS_MAX {
                queue.left = Some(job);
                break;
            }
            count += job.checks.len();
            jobs.push(job);
        }
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        Some(jobs)
    }

    async fn call(&mut self, jobs: Vec<Job>) {
        let mut jobs = in_time(jobs);
        let Some(context) = jobs.first().map(|job| context(&job.span)) else { return };
        let checks: Vec<&Check> = jobs.iter().flat_map(|job| &job.checks).collect();
        let count = checks.len();
        // Checks are plain data: writing them into memory cannot fail.
        let body = postcard::to_allocvec(&checks).unwrap_or_default();
        let answer = match timeout(CALL_MAX, self.connection.call(body, context)).await {
            Ok(Ok(bytes)) => verdicts(&bytes, count),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(CallError::Lost),
        };
        self.metrics.call(&self.cell, count, answer.as_ref().err());
        match answer {
            Ok(mut verdicts) => {
                self.breaker.succeeded();
                for job in jobs.drain(..).rev() {
                    let own = verdicts.split_off(verdicts.len() - job.checks.len());
                    job.answer(own);
                }
            }
            Err(error) => self.failed(error, jobs),
        }
    }

    fn failed(&self, error: CallError, jobs: Vec<Job>) {
        let reason = match error {
            CallError::NotSent => TryAgain::CellDown,
            CallError::Lost => TryAgain::Unknown,
            CallError::Rejected => {
                tracing::error!(cell = %self.cell, "the cell does not understand our checks");
                TryAgain::Unknown
            }
        };
        if error != CallError::Rejected {
            self.breaker.failed();
        }
        for job in jobs {
            job.answer_all(reason);
        }
    }
}

/// Those whose callers still wait, with what is left of their patience. The rest is answered: it was
/// certainly not sent.
fn in_time(jobs: Vec<Job>) -> Vec<Job> {
    let now = Instant::now();
    let (mut alive, late): (Vec<Job>, Vec<Job>) = jobs.into_iter().partition(|job| job.until > now);
    for job in late {
        job.answer_all(TryAgain::Deadline);
    }
    for job in &mut alive {
        let left_ms = u64::try_from((job.until - now).as_millis()).unwrap_or(u64::MAX);
        let left = DeadlineMs::new(left_ms);
        for check in &mut job.checks {
            check.deadline = check.deadline.min(left);
        }
    }
    alive
}

fn verdicts(bytes: &[u8], count: usize) -> Result<Vec<Verdict>, CallError> {
    let verdicts: Vec<Verdict> = postcard::from_bytes(bytes).map_err(|_| CallError::Lost)?;
    if verdicts.len() == count { Ok(verdicts) } else { Err(CallError::Lost) }
}

/// The W3C context of the first check of a call: a call has one parent, and the others' spans say the
/// rest.
fn context(span: &Span) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(4);
    if !span.is_disabled() {
        telemetry::inject(span, &mut headers);
    }
    headers
}
