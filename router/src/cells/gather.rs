//! Checks for one cell that arrive together leave together.
//!
//! At most `LANES` calls are in flight; who finds both taken joins the queue, and the next call takes
//! everything that waits. A lone check leaves at once.

use super::lane::Lane;
use super::{Fault, breaker::Breaker};
use bytes::Bytes;
use cellar_model::{Check, Verdict};
use http::uri::Authority;
use prometheus_client::metrics::histogram::Histogram;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Calls in flight to one process: one leaves the cell idle while its answer travels, more than two
/// only make the calls smaller.
const LANES: usize = 2;
/// Checks in one call: what the cell accepts.
pub(crate) const CALL_CHECKS_MAX: usize = 1_000;
/// Checks that may wait. At 30,000 a second they have waited half a second, the default deadline.
const QUEUE_CHECKS_MAX: usize = 16_000;

/// Checks of one caller, already written down, and where their verdicts go.
pub(crate) struct Job {
    /// The checks in postcard, one behind the other.
    pub(crate) bytes: Vec<u8>,
    pub(crate) checks: usize,
    pub(crate) until: Instant,
    pub(crate) span: tracing::Span,
    pub(crate) reply: oneshot::Sender<Result<Vec<Verdict>, Fault>>,
}

pub(crate) struct Gather {
    queue: Arc<Queue>,
    /// Ends the lanes when the last who could ask is gone.
    _stop: DropGuard,
}

impl Gather {
    /// Starts the lanes to the process at `authority`; each connects when it is first needed.
    pub(crate) fn start(authority: Authority, breaker: Arc<Breaker>, gathered: Histogram) -> Self {
        let stop = CancellationToken::new();
        let queue = Arc::new(Queue { waiting: Mutex::default(), wake: Notify::new(), stop: stop.clone() });
        for _ in 0..LANES {
            let lane = Lane::new(queue.clone(), authority.clone(), breaker.clone(), gathered.clone());
            tokio::spawn(lane.run());
        }
        Self { queue, _stop: stop.drop_guard() }
    }

    /// Has `checks`, at most `CALL_CHECKS_MAX`, decided: a verdict each, in order.
    pub(crate) async fn ask(&self, checks: &[&Check], until: Instant) -> Result<Vec<Verdict>, Fault> {
        debug_assert!(checks.len() <= CALL_CHECKS_MAX);
        let mut bytes = Vec::with_capacity(160 * checks.len());
        for check in checks {
            // Plain data into memory: this cannot fail.
            bytes = postcard::to_extend(check, bytes).map_err(|_| Fault::Silent)?;
        }
        let (reply, verdicts) = oneshot::channel();
        let span = tracing::Span::current();
        self.queue.push(Job { bytes, checks: checks.len(), until, span, reply })?;
        match tokio::time::timeout_at(until, verdicts).await {
            Ok(Ok(answer)) => answer,
            // The call may be under way still.
            Ok(Err(_)) | Err(_) => Err(Fault::Silent),
        }
    }
}

/// What waits for a lane.
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    wake: Notify,
    stop: CancellationToken,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    checks: usize,
    /// A lane has been woken and has not looked yet: it will take what comes meanwhile.
    woken: bool,
}

impl Queue {
    fn push(&self, job: Job) -> Result<(), Fault> {
        let mut waiting = self.waiting();
        if waiting.checks + job.checks > QUEUE_CHECKS_MAX {
            return Err(Fault::Full);
        }
        waiting.checks += job.checks;
        waiting.jobs.push_back(job);
        let wake = !std::mem::replace(&mut waiting.woken, true);
        drop(waiting);
        if wake {
            self.wake.notify_one();
        }
        Ok(())
    }

    /// The jobs of the next call, never none; nothing once the queue is given up and empty.
    pub(crate) async fn next(&self) -> Option<Vec<Job>> {
        loop {
            // Whoever became ready together with this lane gets its checks in first.
            tokio::task::yield_now().await;
            let jobs = self.take();
            if !jobs.is_empty() {
                return Some(jobs);
            }
            tokio::select! {
                () = self.wake.notified() => {}
                () = self.stop.cancelled() => return None,
            }
        }
    }

    fn take(&self) -> Vec<Job> {
        let mut waiting = self.waiting();
        waiting.woken = false;
        let (mut jobs, mut checks) = (Vec::with_capacity(waiting.jobs.len().min(CALL_CHECKS_MAX)), 0);
        while let Some(job) = waiting.jobs.front() {
            if checks + job.checks > CALL_CHECKS_MAX && checks > 0 {
                // The rest is for the other lane.
                waiting.woken = true;
                self.wake.notify_one();
                break;
            }
            let Some(job) = waiting.jobs.pop_front() else { break };
            waiting.checks -= job.checks;
            // Whose caller has gone is not asked for.
            if !job.reply.is_closed() {
                checks += job.checks;
                jobs.push(job);
            }
        }
        jobs
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that holds it can panic half way.
        self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The body of a call: a postcard list of all the jobs' checks.
pub(crate) fn body(jobs: &[Job]) -> Bytes {
    let checks: usize = jobs.iter().map(|job| job.checks).sum();
    let bytes = jobs.iter().map(|job| job.bytes.len()).sum::<usize>();
    // A list is its length and its items. A length into memory cannot fail.
    let mut body = postcard::to_extend(&checks, Vec::with_capacity(bytes + 10)).unwrap_or_default();
    for job in jobs {
        body.extend_from_slice(&job.bytes);
    }
    body.into()
}

/// How long a call may take: as its most patient caller waits, but never so long that a cell which
/// hangs keeps a lane from finding out, and never so short that an impatient caller makes a cell look
/// slow. (Each caller's own wait ends at his own deadline.)
pub(crate) fn until(jobs: &[Job]) -> Instant {
    const CALL_MAX: Duration = Duration::from_secs(5);
    let now = Instant::now();
    let patience = jobs.iter().map(|job| job.until).max().unwrap_or(now);
    patience.clamp(now + super::SLOW, now + CALL_MAX)
}
