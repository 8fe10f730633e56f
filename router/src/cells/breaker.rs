//! A circuit breaker: who keeps failing is asked rarely.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Failures in a row after which a cell counts as down. One is an accident, and a process that was
/// killed costs each of its connections one.
const FAILURES_MAX: u32 = 8;
/// For how long nobody asks then; afterwards one does, and the rest by what he finds.
const OPEN: Duration = Duration::from_millis(500);
/// For so long after its last failure it is said to be down, if nobody asks it.
const SAID_FOR: Duration = Duration::from_secs(5);

pub(crate) struct Breaker {
    since: Instant,
    failures: AtomicU32,
    /// Milliseconds after `since`.
    open_until_ms: AtomicU64,
    /// How often it has been answered: who looks twice sees whether it was meanwhile.
    answers: AtomicU64,
}

impl Breaker {
    pub(crate) fn new() -> Self {
        Self {
            since: Instant::now(),
            failures: AtomicU32::new(0),
            open_until_ms: AtomicU64::new(0),
            answers: AtomicU64::new(0),
        }
    }

    /// Whether to ask now. Of those who meet the end of an open time, one may.
    pub(crate) fn allows(&self) -> bool {
        if self.failures.load(Ordering::Relaxed) < FAILURES_MAX {
            return true;
        }
        let (now, until) = (self.now_ms(), self.open_until_ms.load(Ordering::Relaxed));
        now >= until
            && self
                .open_until_ms
                .compare_exchange(until, now + millis(OPEN), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    pub(crate) fn answered(&self) {
        self.answers.fetch_add(1, Ordering::Relaxed);
        // Read before written: the line is shared by all who ask, and nearly always 0.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    pub(crate) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }

    /// It has failed lately: one that nobody has asked since may be well again.
    pub(crate) fn is_open(&self) -> bool {
        let until = self.open_until_ms.load(Ordering::Relaxed) + millis(SAID_FOR);
        self.failures.load(Ordering::Relaxed) >= FAILURES_MAX && self.now_ms() < until
    }

    /// Who opened it by other means has heard that it is well.
    pub(crate) fn close(&self) {
        self.failures.store(0, Ordering::Relaxed);
    }

    /// As after that many failures: somebody has found out by other means.
    pub(crate) fn open(&self) {
        self.failures.fetch_max(FAILURES_MAX, Ordering::Relaxed);
        self.open_until_ms.store(self.now_ms() + millis(OPEN), Ordering::Relaxed);
    }

    pub(crate) fn failed(&self) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if failures >= FAILURES_MAX {
            self.open_until_ms.store(self.now_ms() + millis(OPEN), Ordering::Relaxed);
        }
    }

    fn now_ms(&self) -> u64 {
        millis(self.since.elapsed())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_with_an_answer() {
        let breaker = Breaker::new();
        for _ in 1..FAILURES_MAX {
            breaker.failed();
        }
        assert!(breaker.allows());
        breaker.failed();
        assert!(!breaker.allows());
        breaker.answered();
        assert!(breaker.allows());
    }

    #[test]
    fn after_the_open_time_one_may_ask() {
        let breaker = Breaker::new();
        for _ in 0..FAILURES_MAX {
            breaker.failed();
        }
        breaker.open_until_ms.store(0, Ordering::Relaxed);
        assert!(breaker.allows());
        assert!(!breaker.allows());
    }
}
