//! Log lines about things that may happen with every request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Between two lines of one kind. What goes wrong for a user goes wrong with each of his requests, and a
/// log that is full of it shows nothing else.
const APART: Duration = Duration::from_secs(10);

/// One kind of line.
pub(crate) struct Seldom {
    since: Instant,
    /// Milliseconds after `since`; 0: none was said yet.
    said_ms: AtomicU64,
    left_out: AtomicU64,
}

impl Default for Seldom {
    fn default() -> Self {
        Self { since: Instant::now(), said_ms: AtomicU64::new(0), left_out: AtomicU64::new(0) }
    }
}

impl Seldom {
    /// Whether to say it now, and how many have been left out since the last one.
    pub(crate) fn now(&self) -> Option<u64> {
        let now = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        self.at(now)
    }

    fn at(&self, now_ms: u64) -> Option<u64> {
        let said = self.said_ms.load(Ordering::Relaxed);
        let due = said == 0 || now_ms.saturating_sub(said) >= APART.as_millis() as u64;
        if due && self.said_ms.compare_exchange(said, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            return Some(self.left_out.swap(0, Ordering::Relaxed));
        }
        self.left_out.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_and_then_one_in_ten_seconds_with_the_number_between() {
        let seldom = Seldom::default();
        assert_eq!(seldom.at(5), Some(0));
        assert_eq!([seldom.at(6), seldom.at(10_004)], [None, None]);
        assert_eq!(seldom.at(10_005), Some(2));
        assert_eq!(seldom.at(20_005), Some(0));
    }
}
