//! What histories are made of, drawn from a seed: the same on every machine, and without a crate that every author
//! would have to build.

use super::sim::Sim;
use crate::policy::Policy;
use crate::request::{AMOUNT_MAX, Operation, Request};

/// Calls of one history.
const STEPS_MAX: u64 = 24;
const DAY_US: u64 = 86_400_000_000;
/// Days of a long pause: every month ends within them.
const DAYS_MAX: u64 = 40;

/// Numbers from a seed (SplitMix64).
pub(super) struct Draw(u64);

impl Draw {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to `most`, both included. Not quite uniform, which no test needs.
    pub(super) fn up_to(&mut self, most: u64) -> u64 {
        match most.checked_add(1) {
            Some(count) => self.next() % count,
            None => self.next(),
        }
    }

    pub(super) fn amount(&mut self, scale: Scale) -> u64 {
        match self.up_to(9) {
            0..=2 => 1,
            3 | 4 => 2 + self.up_to(3),
            5..=7 => 1 + self.up_to(scale.limit.saturating_sub(1)),
            8 => scale.limit,
            _ => scale.limit.saturating_add(1),
        }
        .min(AMOUNT_MAX)
    }

    pub(super) fn pause_us(&mut self, scale: Scale) -> u64 {
        match self.up_to(9) {
            0..=2 => 0,
            3 | 4 => self.up_to(4),
            // As long as one unit takes to come back, and a little more or less.
            5 | 6 => (scale.reset_us / scale.limit.max(1)).saturating_add(self.up_to(4)).saturating_sub(2),
            7 | 8 => self.up_to(scale.reset_us),
            _ => self.up_to(DAYS_MAX) * DAY_US,
        }
    }

    pub(super) fn steps(&mut self, scale: Scale) -> Vec<Step> {
        let steps = 1 + self.up_to(STEPS_MAX - 1);
        (0..steps).map(|_| Step { pause_us: self.pause_us(scale), cost: self.amount(scale) }).collect()
    }

    /// Any operation, as a cell could ask it: what is settled was held before.
    pub(super) fn request(&mut self, now_us: u64, scale: Scale) -> Request {
        let (kind, cost) = (self.up_to(9), self.amount(scale));
        match kind {
            0..=4 => Request::new(Operation::Consume, now_us, cost),
            5 | 6 => Request::new(Operation::Reserve, now_us, cost),
            7 | 8 => {
                let held_at_us = now_us.saturating_sub(self.pause_us(scale));
                Request::settle(now_us, cost, self.amount(scale), held_at_us)
            }
            _ => Request::new(Operation::Peek, now_us, 0),
        }
    }
}

/// One step of a history: after a pause, something is consumed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) pause_us: u64,
    pub(super) cost: u64,
}

/// What amounts and pauses are shares of: what the policy itself says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    pub(super) limit: u64,
    /// From all taken to all back.
    pub(super) reset_us: u64,
}

impl Scale {
    /// Of a user who takes all there is.
    pub(super) fn of<P: Policy>(user: &Sim<P>) -> Result<Self, String> {
        let mut user = user.twin();
        let limit = user.try_ask(Request::new(Operation::Peek, user.now_us(), 0))?.limit;
        let taken = user.try_ask(Request::new(Operation::Consume, user.now_us(), limit))?;
        Ok(Self { limit, reset_us: taken.reset_after_us.max(1) })
    }
}
