//! At most so many a second.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// How many bits of the word are the count; the rest is the second.
const COUNT_BITS: u32 = 24;

#[derive(Debug)]
pub(crate) struct Limit {
    a_second: u64,
    since: Instant,
    /// The second in the upper bits, how many it had in the lower ones.
    taken: AtomicU64,
}

impl Limit {
    /// **Invariant:** `a_second` is below 2^24.
    pub(crate) fn a_second(a_second: u64) -> Self {
        assert!(a_second < 1 << COUNT_BITS, "a limit is a number that fits its counter");
        Self { a_second, since: Instant::now(), taken: AtomicU64::new(0) }
    }

    pub(crate) fn take(&self) -> bool {
        self.take_at(self.since.elapsed().as_secs())
    }

    fn take_at(&self, second: u64) -> bool {
        let next = |word: u64| match word >> COUNT_BITS == second {
            true => (word & ((1 << COUNT_BITS) - 1) < self.a_second).then_some(word + 1),
            false => Some((second << COUNT_BITS) | 1),
        };
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_as_many_as_it_may_and_the_next_one_as_many_again() {
        let limit = Limit::a_second(2);
        assert_eq!([0, 0, 0].map(|second| limit.take_at(second)), [true, true, false]);
        assert_eq!([1, 1, 1].map(|second| limit.take_at(second)), [true, true, false]);
    }
}
