//! Every user's requests put to both sides, over all cores. A side's denial changes nothing of the other's state.

use super::requests::{Act, Closing, Request, Requests};
use super::sides::Sides;
use super::tally::{CANDIDATE, CURRENT, Tally};
use cellar_model::{ChargeId, Check, Cost, DeadlineMs, Micros, Operation, RESERVATION_S_MAX, Unit, UserId, Verdict};
use cellar_quota::{LedgerCheck, Replay, Replayed};
use indicatif::ProgressBar;
use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// More threads than this are not started, however many cores there are.
const THREADS_MAX: usize = 64;
/// Users a worker takes at once: one look at a shared number for some hundred requests.
const USERS_AT_ONCE: usize = 8;

pub(super) fn replay(sides: &Sides, requests: &Requests, bar: &ProgressBar) -> Tally {
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get).min(THREADS_MAX);
    let (next, whole, units) = (AtomicUsize::new(0), Mutex::new(Tally::default()), requests.units());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut worker = Worker::new(sides, requests, &units);
                loop {
                    let from = next.fetch_add(USERS_AT_ONCE, Ordering::Relaxed);
                    let Some(spans) = requests.spans().get(from..) else { break };
                    if spans.is_empty() {
                        break;
                    }
                    for span in spans.iter().take(USERS_AT_ONCE) {
                        worker.user(requests.of_span(span));
                        bar.inc(span.len() as u64);
                    }
                }
                // A worker that panicked has ended the scope already.
                whole.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(worker.finish());
            });
        }
    });
    whole.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

struct Worker<'a> {
    requests: &'a Requests,
    units: &'a [Unit],
    replays: [Replay; 2],
    tally: Tally,
    check: Check,
}

/// One side's part of one user.
struct Side {
    user: Replayed,
    /// By their names in the ledger, this side's own charges that are closed later.
    closable: HashMap<ChargeId, LedgerCheck>,
}

/// What the ledger knows of a user's charges that were closed.
#[derive(Default)]
struct Fates {
    /// When reservations expired.
    expired: HashMap<ChargeId, Micros>,
    /// Of closed charges, what was moved under them until now.
    moved: HashMap<ChargeId, Vec<(Unit, i64)>>,
}

impl<'a> Worker<'a> {
    fn new(sides: &Sides, requests: &'a Requests, units: &'a [Unit]) -> Self {
        let replays = sides.tiers.each_ref().map(|tier| Replay::new(&sides.host, tier.clone()));
        Self { requests, units, replays, tally: Tally::default(), check: blank() }
    }

    fn user(&mut self, requests: &[Request]) {
        let Some(first) = requests.first() else { return };
        let mut fates = Fates::of(requests);
        let mut sides = self.replays.each_ref().map(|replay| Side { user: replay.user(), closable: HashMap::new() });
        let mut tally = std::mem::take(&mut self.tally);
        let mut counting = tally.count(first.user, self.units);
        for request in requests {
            self.check.at = Some(request.at);
            self.check.cost.clone_from(self.requests.cost(request));
            match &request.act {
                Act::Consume | Act::Reserve => {
                    let verdicts = [CURRENT, CANDIDATE].map(|side| {
                        self.check.operation = match request.act {
                            Act::Reserve => Operation::Reserve { expires_in_s: fates.lasts_s(request) },
                            _ => Operation::Consume,
                        };
                        let (verdict, entry) = self.decide(side, &mut sides[side], None, &mut counting);
                        if let Some(entry) = entry
                            && fates.moved.contains_key(&request.charge)
                        {
                            sides[side].closable.insert(request.charge, entry);
                        }
                        verdict
                    });
                    if request.at >= self.requests.counted_from {
                        counting.request(self.requests, request, &verdicts);
                    }
                    fates.opens(request, self.requests);
                }
                Act::Settle(closing) | Act::Refund(closing) => {
                    let used = fates.closes(closing);
                    let Some(used) = used else {
                        counting.tally().unmatched += 1;
                        continue;
                    };
                    self.check.cost = used;
                    let settles = matches!(request.act, Act::Settle(_));
                    for (n, side) in sides.iter_mut().enumerate() {
                        self.close(n, side, closing, settles, &mut counting);
                    }
                }
                Act::Expire(closing) => _ = fates.closes(closing),
                Act::Grant(_) | Act::Override(_) => {
                    for (n, side) in sides.iter_mut().enumerate() {
                        self.check.operation = match &request.act {
                            Act::Grant(terms) => Operation::Grant(terms.clone()),
                            Act::Override(terms) => Operation::Override(terms.clone()),
                            _ => continue,
                        };
                        let (verdict, _) = self.decide(n, side, None, &mut counting);
                        let refused = matches!(verdict, Verdict::Refused(_));
                        counting.tally().sides[n].terms_refused += u64::from(refused);
                    }
                }
            }
        }
        counting.finish();
        self.tally = tally;
    }

    /// Closes what the side has admitted of it.
    fn close(
        &mut self,
        n: usize,
        side: &mut Side,
        closing: &Closing,
        settles: bool,
        counting: &mut super::tally::Counting<'_>,
    ) {
        let Some(found) = side.closable.get(&closing.of).cloned() else {
            counting.tally().sides[n].skipped += 1;
            return;
        };
        let charge = found.charge;
        self.check.operation = if settles { Operation::Settle { charge } } else { Operation::Refund { charge } };
        let (verdict, _) = self.decide(n, side, Some(&found), counting);
        counting.tally().sides[n].skipped += u64::from(matches!(verdict, Verdict::Refused(_)));
    }

    fn decide(
        &mut self,
        n: usize,
        side: &mut Side,
        found: Option<&LedgerCheck>,
        counting: &mut super::tally::Counting<'_>,
    ) -> (Verdict, Option<LedgerCheck>) {
        let decided = self.replays[n].decide(&mut side.user, &self.check, found);
        counting.tally().decisions += 1;
        for entry in decided.expired.iter().chain(&decided.entry) {
            if entry.at >= self.requests.counted_from {
                counting.charged(n, entry.at.0, entry.charges.iter());
            }
        }
        (decided.verdict, decided.entry)
    }

    fn finish(mut self) -> Tally {
        for (side, replay) in self.tally.sides.iter_mut().zip(&self.replays) {
            let burnt = replay.burnt();
            (side.calls, side.fuel, side.fuel_most) = (burnt.calls, burnt.fuel, burnt.fuel_most);
            side.faults = replay.faults().map(|(slot, kind, n)| ((slot.to_string(), kind.to_owned()), n)).collect();
        }
        self.tally
    }
}

impl Fates {
    fn of(requests: &[Request]) -> Self {
        let mut fates = Self::default();
        for request in requests {
            let closing = match &request.act {
                Act::Settle(closing) | Act::Refund(closing) => closing,
                Act::Expire(closing) => {
                    fates.expired.insert(closing.of, request.at);
                    closing
                }
                _ => continue,
            };
            fates.moved.insert(closing.of, Vec::new());
        }
        fates
    }

    /// For how long a reservation stays open: to the moment at which it expired, or as long as one may, if it was
    /// closed before.
    fn lasts_s(&self, request: &Request) -> u32 {
        let expired = self.expired.get(&request.charge).map(|at| at.since(request.at).div_ceil(1_000_000));
        expired.and_then(|s| u32::try_from(s).ok()).map_or(RESERVATION_S_MAX, |s| s.clamp(1, RESERVATION_S_MAX))
    }

    fn opens(&mut self, request: &Request, requests: &Requests) {
        if let Some(moved) = self.moved.get_mut(&request.charge) {
            // An amount is at most 2^40.
            *moved = requests.cost(request).iter().map(|(unit, amount)| (unit.clone(), amount.get() as i64)).collect();
        }
    }

    /// What was used under the charge, all in all. None: it was not among the requests.
    fn closes(&mut self, closing: &Closing) -> Option<Cost> {
        let moved = self.moved.get_mut(&closing.of).filter(|moved| !moved.is_empty())?;
        for (unit, amount) in &closing.moved {
            match moved.iter_mut().find(|(known, _)| known == unit) {
                Some((_, sum)) => *sum += amount,
                None => moved.push((unit.clone(), *amount)),
            }
        }
        let used = moved.iter().map(|(unit, sum)| {
            let amount = cellar_model::Amount::new(sum.max(&0).unsigned_abs()).unwrap_or(cellar_model::Amount::MAX);
            (unit.clone(), amount)
        });
        Cost::of(used).ok()
    }
}

/// A check whose operation, cost and time are put in for each request.
fn blank() -> Check {
    Check {
        // Nobody looks at it: a replay is one user's.
        user: UserId::new("replayed").unwrap_or_else(|_| unreachable!("it is a user id")),
        operation: Operation::Consume,
        cost: Cost::one_request(),
        attributes: Vec::new(),
        key: None,
        at: None,
        deadline: DeadlineMs::QUOTA,
        session: None,
        origin: None,
    }
}
