//! Failed attempts, counted by what was attempted: a token bucket for each account, or for each address.
//!
//! An attempt takes a token before anything is looked at and gives it back unless it failed, so that attempts made
//! at once cannot get past the limit together. What is counted is chosen by whoever asks, so the table is of a fixed
//! size: where a place is needed, the bucket that is nearest to being full again is forgotten. Whom an attacker
//! could crowd out that way he cannot choose, since places are drawn by a key of this process; and as each crowding
//! attempt costs a whole log-in, the bucket would have filled as soon by waiting.

use cellar_model::{Problem, ProblemType};
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// 16 bytes each: a mebibyte in all.
const SETS: usize = 16_384;
const PLACES: usize = 4;

/// How many attempts may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttemptLimit {
    /// In a row. 0: any number, nothing is counted.
    pub failures: u32,
    /// After so many seconds one of them is forgiven.
    pub forgiven_s: u32,
}

impl AttemptLimit {
    pub const FAILURES_MAX: u32 = 100_000;
    pub const FORGIVEN_S_MAX: u32 = 86_400;

    /// Of an address, if nobody says otherwise: a school or an office may have only one.
    pub fn address_failures() -> u32 {
        100
    }

    pub fn address_failure_forgiven_s() -> u32 {
        6
    }

    pub fn is_in_range(self) -> bool {
        self.failures <= Self::FAILURES_MAX && (1..=Self::FORGIVEN_S_MAX).contains(&self.forgiven_s)
    }
}

/// Failed attempts of one kind.
pub struct Attempts {
    limit: AttemptLimit,
    seed: RandomState,
    began: Instant,
    sets: Box<[Mutex<[Bucket; PLACES]>]>,
}

#[derive(Clone, Copy, Default)]
struct Bucket {
    tag: u64,
    /// When all its tokens are back, in milliseconds since `began`.
    full_at_ms: u64,
}

/// A token that was taken.
#[must_use = "an attempt that did not fail gives it back"]
pub struct Attempt {
    hash: u64,
}

impl Attempts {
    pub fn new(limit: AttemptLimit) -> Self {
        let empty = || Mutex::new([Bucket::default(); PLACES]);
        Self {
            limit,
            seed: RandomState::new(),
            began: Instant::now(),
            sets: std::iter::repeat_with(empty).take(SETS).collect(),
        }
    }

    /// A token of `what`'s bucket; without one, the problem to answer with.
    pub fn take(&self, what: &impl Hash) -> Result<Attempt, Problem> {
        self.take_at(what, self.now_ms()).map_err(too_many)
    }

    /// The same for an address. Of IPv6, whoever has one address has its network of 2^64.
    pub fn take_address(&self, address: IpAddr) -> Result<Attempt, Problem> {
        match address {
            IpAddr::V4(address) => self.take(&address.octets()),
            IpAddr::V6(address) => self.take(&address.octets().first_chunk::<8>()),
        }
    }

    /// It did not fail.
    pub fn give_back(&self, attempt: Attempt) {
        let mut set = self.set(attempt.hash);
        if let Some(bucket) = set.iter_mut().find(|bucket| bucket.tag == attempt.hash) {
            bucket.full_at_ms = bucket.full_at_ms.saturating_sub(self.forgiven_ms());
        }
    }

    /// Or after how many milliseconds there is one.
    fn take_at(&self, what: &impl Hash, now_ms: u64) -> Result<Attempt, u64> {
        // 0 is what an empty place has.
        let hash = self.seed.hash_one(what).max(1);
        if self.limit.failures == 0 {
            return Ok(Attempt { hash });
        }
        let (forgiven_ms, room_ms) = (self.forgiven_ms(), u64::from(self.limit.failures) * self.forgiven_ms());
        let mut set = self.set(hash);
        let place = set.iter().position(|bucket| bucket.tag == hash).unwrap_or_else(|| {
            // One that is full again is like none; else the one that is nearest to it.
            let nearest = (0..PLACES).min_by_key(|place| set[*place].full_at_ms).unwrap_or_default();
            set[nearest] = Bucket { tag: hash, full_at_ms: 0 };
            nearest
        });
        let full_at_ms = set[place].full_at_ms.max(now_ms) + forgiven_ms;
        if full_at_ms > now_ms + room_ms {
            return Err(full_at_ms - now_ms - room_ms);
        }
        set[place].full_at_ms = full_at_ms;
        Ok(Attempt { hash })
    }

    fn set(&self, hash: u64) -> MutexGuard<'_, [Bucket; PLACES]> {
        // Nothing that holds it can panic half way.
        self.sets[hash as usize % SETS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forgiven_ms(&self) -> u64 {
        u64::from(self.limit.forgiven_s) * 1_000
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

fn too_many(wait_ms: u64) -> Problem {
    Problem::new(ProblemType::TooManyAttempts).retry_after_s(wait_ms.div_ceil(1_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: AttemptLimit = AttemptLimit { failures: 3, forgiven_s: 10 };

    #[test]
    fn so_many_may_fail_and_each_is_forgiven_in_its_time() {
        let attempts = Attempts::new(LIMIT);
        assert!((0..3).all(|_| attempts.take_at(&"ada", 5).is_ok()));
        assert_eq!(attempts.take_at(&"ada", 5).err(), Some(10_000));
        assert_eq!(attempts.take_at(&"ada", 9_005).err(), Some(1_000));
        assert!(attempts.take_at(&"bob", 5).is_ok());
        assert!(attempts.take_at(&"ada", 10_005).is_ok());
        assert!(attempts.take_at(&"ada", 10_005).is_err());
        assert_eq!((0..9).filter(|_| attempts.take_at(&"ada", 1_000_000).is_ok()).count(), 3, "no more than at first");
    }

    #[test]
    fn what_does_not_fail_costs_nothing() {
        let attempts = Attempts::new(LIMIT);
        for _ in 0..100 {
            let attempt = attempts.take_at(&"ada", 5).ok().unwrap();
            attempts.give_back(attempt);
        }
        assert!((0..3).all(|_| attempts.take_at(&"ada", 5).is_ok()));
        assert!(attempts.take_at(&"ada", 5).is_err());
        let off = Attempts::new(AttemptLimit { failures: 0, forgiven_s: 10 });
        assert!((0..100).all(|_| off.take_at(&"ada", 5).is_ok()));
    }

    #[test]
    fn whoever_crowds_the_table_takes_the_places_of_those_who_failed_least() {
        let attempts = Attempts::new(LIMIT);
        while attempts.take_at(&"ada", 5).is_ok() {}
        // Fewer than there are places, each failing once: the one who failed three times stays.
        assert!((0..30_000).all(|n| attempts.take_at(&n, 5).is_ok()));
        assert!(attempts.take_at(&"ada", 5).is_err());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let attempts = Attempts::new(LIMIT);
        let take = |text: &str| attempts.take_address(text.parse().unwrap());
        assert!(take("2001:db8::1").is_ok() && take("2001:db8::2").is_ok() && take("2001:db8::3:4").is_ok());
        let refused = take("2001:db8::9").err().unwrap();
        assert_eq!((refused.kind, refused.retry_after_s), (ProblemType::TooManyAttempts, Some(10)));
        assert!(take("2001:db8:0:1::1").is_ok() && take("192.0.2.1").is_ok());
    }
}
