//! Stops asking a policy version that keeps failing.

use std::sync::atomic::{AtomicU32, Ordering};

/// One a policy version, shared by all workers. It counts calls, not time: the same calls give the
/// same answers in a backtest.
///
/// Counts may be off by the number of workers that race; they only decide how soon it opens.
#[derive(Debug)]
pub(crate) struct Breaker {
    faults_max: u32,
    refusals: u32,
    faults_in_a_row: AtomicU32,
    refused: AtomicU32,
}

impl Breaker {
    pub(crate) fn new(faults_max: u32, refusals: u32) -> Self {
        let (faults_in_a_row, refused) = (AtomicU32::new(0), AtomicU32::new(0));
        Self { faults_max: faults_max.max(1), refusals, faults_in_a_row, refused }
    }

    /// Whether this call may go through: closed, or the one in `refusals` that looks again.
    pub(crate) fn admits(&self) -> bool {
        if self.faults_in_a_row.load(Ordering::Relaxed) < self.faults_max {
            return true;
        }
        if self.refused.fetch_add(1, Ordering::Relaxed) < self.refusals {
            return false;
        }
        self.refused.store(0, Ordering::Relaxed);
        true
    }

    pub(crate) fn succeeded(&self) {
        // Read first: all workers share this line, and it hardly ever changes.
        if self.faults_in_a_row.load(Ordering::Relaxed) != 0 {
            self.faults_in_a_row.store(0, Ordering::Relaxed);
            self.refused.store(0, Ordering::Relaxed);
        }
    }

    pub(crate) fn failed(&self) {
        if self.faults_in_a_row.load(Ordering::Relaxed) < self.faults_max {
            self.faults_in_a_row.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened() -> Breaker {
        let breaker = Breaker::new(3, 5);
        (0..3).for_each(|_| breaker.failed());
        breaker
    }

    #[test]
    fn a_success_in_between_keeps_it_closed() {
        let breaker = Breaker::new(3, 5);
        for _ in 0..10 {
            breaker.failed();
            breaker.failed();
            breaker.succeeded();
            assert!(breaker.admits());
        }
    }

    #[test]
    fn open_it_lets_one_call_in_six_look() {
        let breaker = opened();
        let admitted: Vec<bool> = (0..12).map(|_| breaker.admits()).collect();
        assert_eq!(admitted.iter().filter(|a| **a).count(), 2);
        assert!(admitted[5] && admitted[11]);
    }

    #[test]
    fn a_look_that_succeeds_closes_it_and_one_that_fails_does_not() {
        let breaker = opened();
        breaker.failed();
        assert!(!breaker.admits());
        breaker.succeeded();
        assert!((0..20).all(|_| breaker.admits()));
    }
}
