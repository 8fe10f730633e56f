//! What the calls of one artifact have burnt, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// Upper bounds of the classes: from an eighth of what shipped policies burn, doubling, past all that a call is
/// granted. What is above the last is counted without a bound.
pub const FUEL_CLASSES: [u64; 13] =
    [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000, 256_000, 512_000, 1_024_000];

/// Of one artifact, whichever tiers decide by it. Counting is two relaxed increments a call.
#[derive(Debug, Default)]
pub struct FuelCounts {
    classes: [AtomicU64; FUEL_CLASSES.len() + 1],
    sum: AtomicU64,
}

impl FuelCounts {
    pub(crate) fn count(&self, fuel: u64) {
        let class = FUEL_CLASSES.partition_point(|most| *most < fuel);
        self.classes[class].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(fuel, Ordering::Relaxed);
    }

    /// Calls by class, those above every bound last.
    pub fn classes(&self) -> [u64; FUEL_CLASSES.len() + 1] {
        std::array::from_fn(|class| self.classes[class].load(Ordering::Relaxed))
    }

    /// Of all calls.
    pub fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_counted_in_the_class_whose_bound_it_does_not_pass() {
        let counts = FuelCounts::default();
        for fuel in [0, 250, 251, 1_024_000, 1_024_001] {
            counts.count(fuel);
        }
        let classes = counts.classes();
        assert_eq!((classes[0], classes[1], classes[12], classes[13]), (2, 1, 1, 1));
        assert_eq!((classes.iter().sum::<u64>(), counts.sum()), (5, 2_048_502));
    }
}
