//! Checks for one cell that arrive together leave together.
//!
//! At most `LANES` calls are in flight; who finds both taken joins the queue, and the next call takes
//! everything that waits. A lone check leaves at once.

use super::lane::Lane;
use super::{Fault, breaker::Breaker};
use bytes::Bytes;
use cellar_model::{Check, Origin, OriginOf, Verdict};
use cellar_server::limits::BODY_MAX;
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
const CALL_CHECKS_MAX: usize = 1_000;
/// The length that a list begins with, in postcard.
const LIST_HEAD_BYTES_MAX: usize = 10;
/// Bytes of a call's checks: what the cell accepts. 1,000 checks with a model each have some 100 KB; with
/// every attribute as long as it may be, 1.2 MB.
const CALL_BYTES_MAX: usize = BODY_MAX - 2 * LIST_HEAD_BYTES_MAX;
/// Bytes of what a call says of a caller: a trace, a span, an id of at most 64 characters.
const ORIGIN_BYTES_MAX: usize = 112;
/// Checks that may wait. At 30,000 a second they have waited half a second, the default deadline.
const QUEUE_CHECKS_MAX: usize = 16_000;

/// Checks of one caller, already written down, and where their verdicts go.
pub(crate) struct Job {
    /// The checks in postcard, one behind the other.
    pub(crate) bytes: Vec<u8>,
    pub(crate) checks: usize,
    pub(crate) until: Instant,
    /// The request that they are part of.
    pub(crate) origin: Option<Origin>,
    pub(crate) reply: oneshot::Sender<Result<Answered, Fault>>,
}

/// The verdicts of a job, and when its call left.
pub(crate) type Answered = (Vec<Verdict>, Instant);

impl Job {
    fn bytes_max(&self) -> usize {
        self.bytes.len() + ORIGIN_BYTES_MAX
    }
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

    /// Has `checks` decided: of each its verdict, in order, or why there is none.
    pub(crate) async fn ask(&self, checks: &[&Check], until: Instant) -> Vec<Result<Verdict, Fault>> {
        // All of them wait before the first is waited for.
        let (asked_at, origin) = (Instant::now(), cellar_trace::origin());
        let ask = |piece: Piece| (piece.checks, self.queue.ask(piece, until, origin.clone()));
        let pieces = write_down(checks).into_iter().map(ask);
        let pieces: Vec<_> = pieces.collect();
        let mut said = Vec::with_capacity(checks.len());
        for (checks, asked) in pieces {
            let answer = match asked {
                Ok(verdicts) => match tokio::time::timeout_at(until, verdicts).await {
                    Ok(Ok(answer)) => answer,
                    // The call may be under way still.
                    Ok(Err(_)) | Err(_) => Err(Fault::Silent),
                },
                Err(fault) => Err(fault),
            };
            match answer {
                Ok((verdicts, sent)) => {
                    cellar_trace::notes(|| {
                        let gathered = ("cellar.gather_us", micros(sent.saturating_duration_since(asked_at)));
                        [gathered, ("cellar.call_us", micros(sent.elapsed()))]
                    });
                    said.extend(verdicts.into_iter().map(Ok));
                }
                Err(fault) => said.extend(std::iter::repeat_n(Err(fault), checks)),
            }
        }
        said
    }

    /// Checks that wait for a lane.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.queue.waiting().checks
    }
}

/// Checks of one caller that fit into one call.
struct Piece {
    bytes: Vec<u8>,
    checks: usize,
}

/// Writes checks down, in as many pieces as calls take them.
fn write_down(checks: &[&Check]) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(1);
    let mut piece = Piece { bytes: Vec::with_capacity(160 * checks.len()), checks: 0 };
    for check in checks {
        let before = piece.bytes.len();
        // Plain data into memory: this cannot fail.
        piece.bytes = postcard::to_extend(check, piece.bytes).expect("a check can be written down");
        let full = piece.bytes.len() + ORIGIN_BYTES_MAX > CALL_BYTES_MAX;
        if piece.checks == CALL_CHECKS_MAX || (full && piece.checks > 0) {
            let bytes = piece.bytes.split_off(before);
            pieces.push(std::mem::replace(&mut piece, Piece { bytes, checks: 0 }));
        }
        piece.checks += 1;
    }
    pieces.push(piece);
    pieces
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

type Verdicts = oneshot::Receiver<Result<Answered, Fault>>;

impl Queue {
    fn ask(&self, piece: Piece, until: Instant, origin: Option<Origin>) -> Result<Verdicts, Fault> {
        let (reply, verdicts) = oneshot::channel();
        let Piece { bytes, checks } = piece;
        self.push(Job { bytes, checks, until, origin, reply })?;
        Ok(verdicts)
    }

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
        let mut jobs = Vec::with_capacity(waiting.jobs.len().min(CALL_CHECKS_MAX));
        let (mut checks, mut bytes) = (0, 0);
        while let Some(job) = waiting.jobs.front() {
            let fits = checks + job.checks <= CALL_CHECKS_MAX && bytes + job.bytes_max() <= CALL_BYTES_MAX;
            if !fits && checks > 0 {
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
                bytes += job.bytes_max();
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

fn micros(took: Duration) -> cellar_trace::Value {
    u64::try_from(took.as_micros()).unwrap_or(u64::MAX).into()
}

/// The body of a call: a postcard list of all the jobs' checks, and behind it whose they are.
pub(crate) fn body(jobs: &[Job]) -> Bytes {
    let checks: usize = jobs.iter().map(|job| job.checks).sum();
    let bytes = jobs.iter().map(Job::bytes_max).sum::<usize>();
    // A list is its length and its items. A length into memory cannot fail.
    let mut body =
        postcard::to_extend(&checks, Vec::with_capacity(bytes + 2 * LIST_HEAD_BYTES_MAX)).unwrap_or_default();
    for job in jobs {
        body.extend_from_slice(&job.bytes);
    }
    // All of them or none: one that is left out would put the others' in the wrong places.
    if jobs.iter().all(|job| job.origin.is_some()) {
        let whose = jobs.iter().filter_map(|job| Some((job.checks as u32, job.origin.as_ref()?)));
        OriginOf::write(whose, &mut body);
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

#[cfg(test)]
mod tests {
    use super::*;
    use cellar_model::{ATTRIBUTES_MAX, Attribute, Cost, DeadlineMs, Operation, UserId};

    #[test]
    fn a_piece_is_at_most_a_call_and_nothing_is_lost_between_them() {
        let mut check = Check {
            user: UserId::new("u").unwrap(),
            operation: Operation::Consume,
            cost: Cost::one_request(),
            attributes: Vec::new(),
            key: None,
            at: None,
            deadline: DeadlineMs::QUOTA,
            session: None,
            origin: None,
        };
        let counts = |check: &Check, n: usize| -> Vec<usize> {
            let pieces = write_down(&vec![check; n]);
            for piece in &pieces {
                assert!(piece.checks <= CALL_CHECKS_MAX && piece.bytes.len() + ORIGIN_BYTES_MAX <= CALL_BYTES_MAX);
                assert_eq!(piece.bytes.len(), piece.checks * postcard::to_allocvec(check).unwrap().len());
            }
            pieces.iter().map(|piece| piece.checks).collect()
        };
        assert_eq!(counts(&check, 1), [1]);
        assert_eq!(counts(&check, 2_500), [1_000, 1_000, 500]);
        let long = "x".repeat(64);
        check.attributes = vec![Attribute { name: long.as_str().into(), value: long.as_str().into() }; ATTRIBUTES_MAX];
        let counts = counts(&check, 1_000);
        assert_eq!((counts.len(), counts.iter().sum::<usize>()), (2, 1_000));
    }
}
