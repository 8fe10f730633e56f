//! Stops asking a policy version that keeps failing, and asking it for a user whom it keeps failing.
//!
//! A version that traps for everybody is left alone for a while. One that traps on one user's state or
//! attributes is left alone for that user only: however often he asks, he fills no more than his part of the
//! row that opens the version's breaker, and costs a fault in a hundred of his calls.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Users under suspicion that one version remembers; who meets another in a place takes it over, and the
/// other is believed again until his next faults.
const SUSPECTS_MAX: usize = 64;

/// One a policy version, shared by all workers. It counts calls, not time: the same calls give the
/// same answers in a backtest.
///
/// Counts may be off by the number of workers that race; they only decide how soon it opens.
#[derive(Debug)]
pub(crate) struct Breaker {
    limits: BreakerLimits,
    faults_in_a_row: AtomicU32,
    refused: AtomicU32,
    /// How many places are taken. None, nearly always: then nobody is looked for.
    suspected: AtomicU32,
    suspects: Box<[AtomicU64; SUSPECTS_MAX]>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct BreakerLimits {
    pub(crate) faults: u32,
    pub(crate) refusals: u32,
    /// Of one user, the same.
    pub(crate) user_faults: u32,
    pub(crate) user_refusals: u32,
}

/// A place: whose (the upper half of his hash), how many faults in a row, how many refusals since. Empty is 0.
#[derive(Clone, Copy)]
struct Suspect {
    whose: u32,
    faults: u16,
    refused: u16,
}

impl Suspect {
    fn unpack(packed: u64) -> Option<Self> {
        (packed != 0).then_some(Self {
            whose: (packed >> 32) as u32,
            faults: (packed >> 16) as u16,
            refused: packed as u16,
        })
    }

    fn pack(self) -> u64 {
        u64::from(self.whose) << 32 | u64::from(self.faults) << 16 | u64::from(self.refused)
    }
}

impl Breaker {
    pub(crate) fn new(limits: BreakerLimits) -> Self {
        Self {
            limits: BreakerLimits { faults: limits.faults.max(1), user_faults: limits.user_faults.max(1), ..limits },
            faults_in_a_row: AtomicU32::new(0),
            refused: AtomicU32::new(0),
            suspected: AtomicU32::new(0),
            suspects: Box::new([const { AtomicU64::new(0) }; SUSPECTS_MAX]),
        }
    }

    /// Whether a call for `user` (his hash, if it is for one) may go through: closed, or the one in `refusals`
    /// that looks again. A user's own refusals are no looks, so his calls do not use those up.
    pub(crate) fn admits(&self, user: Option<u64>) -> bool {
        if self.suspected.load(Ordering::Relaxed) > 0
            && let Some(user) = user
            && !self.admits_user(user)
        {
            return false;
        }
        if self.faults_in_a_row.load(Ordering::Relaxed) < self.limits.faults {
            return true;
        }
        if self.refused.fetch_add(1, Ordering::Relaxed) < self.limits.refusals {
            return false;
        }
        self.refused.store(0, Ordering::Relaxed);
        true
    }

    pub(crate) fn is_open(&self) -> bool {
        self.faults_in_a_row.load(Ordering::Relaxed) >= self.limits.faults
    }

    pub(crate) fn succeeded(&self, user: Option<u64>) {
        // Read first: all workers share this line, and it hardly ever changes.
        if self.faults_in_a_row.load(Ordering::Relaxed) != 0 {
            self.faults_in_a_row.store(0, Ordering::Relaxed);
            self.refused.store(0, Ordering::Relaxed);
        }
        if self.suspected.load(Ordering::Relaxed) > 0
            && let Some(user) = user
            && self.suspect(user).is_some()
        {
            self.place(user).store(0, Ordering::Relaxed);
            self.suspected.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn failed(&self, user: Option<u64>) {
        if user.is_some_and(|user| !self.suspects_user(user)) {
            return;
        }
        if self.faults_in_a_row.load(Ordering::Relaxed) < self.limits.faults {
            self.faults_in_a_row.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn place(&self, user: u64) -> &AtomicU64 {
        &self.suspects[user as usize % SUSPECTS_MAX]
    }

    fn suspect(&self, user: u64) -> Option<Suspect> {
        let suspect = Suspect::unpack(self.place(user).load(Ordering::Relaxed))?;
        (suspect.whose == whose(user)).then_some(suspect)
    }

    fn admits_user(&self, user: u64) -> bool {
        let Some(mut suspect) = self.suspect(user) else { return true };
        if u32::from(suspect.faults) < self.limits.user_faults {
            return true;
        }
        let looks = u32::from(suspect.refused) >= self.limits.user_refusals;
        suspect.refused = if looks { 0 } else { suspect.refused.saturating_add(1) };
        self.place(user).store(suspect.pack(), Ordering::Relaxed);
        looks
    }

    /// Notes a fault of `user`. Whether it says something of the version: his first ones do.
    fn suspects_user(&self, user: u64) -> bool {
        let held = self.place(user).load(Ordering::Relaxed);
        if held == 0 {
            self.suspected.fetch_add(1, Ordering::Relaxed);
        }
        let new = Suspect { whose: whose(user), faults: 0, refused: 0 };
        let mut suspect = self.suspect(user).unwrap_or(new);
        let counts = u32::from(suspect.faults) < self.limits.user_faults;
        if counts {
            suspect.faults = suspect.faults.saturating_add(1);
        }
        self.place(user).store(suspect.pack(), Ordering::Relaxed);
        counts
    }
}

/// Never 0 beside no faults and no refusals, so that no suspect packs to an empty place.
fn whose(user: u64) -> u32 {
    ((user >> 32) as u32).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: BreakerLimits = BreakerLimits { faults: 3, refusals: 5, user_faults: 2, user_refusals: 4 };
    /// A user whose state the policy cannot take, and others.
    const POISONED: Option<u64> = Some(7 << 32 | 7);

    fn other(n: u64) -> Option<u64> {
        Some(n << 32 | (n + 8))
    }

    fn opened() -> Breaker {
        let breaker = Breaker::new(LIMITS);
        (0..3).for_each(|_| breaker.failed(None));
        breaker
    }

    #[test]
    fn a_success_in_between_keeps_it_closed() {
        let breaker = Breaker::new(LIMITS);
        for _ in 0..10 {
            breaker.failed(None);
            breaker.failed(None);
            breaker.succeeded(None);
            assert!(breaker.admits(None));
        }
    }

    #[test]
    fn open_it_lets_one_call_in_six_look() {
        let breaker = opened();
        let admitted: Vec<bool> = (0..12).map(|_| breaker.admits(None)).collect();
        assert_eq!(admitted.iter().filter(|a| **a).count(), 2);
        assert!(admitted[5] && admitted[11]);
    }

    #[test]
    fn a_look_that_succeeds_closes_it_and_one_that_fails_does_not() {
        let breaker = opened();
        breaker.failed(None);
        assert!(!breaker.admits(None));
        breaker.succeeded(None);
        assert!((0..20).all(|_| breaker.admits(None)));
    }

    #[test]
    fn a_user_on_whom_it_always_fails_closes_it_for_himself_and_for_nobody_else() {
        let breaker = Breaker::new(LIMITS);
        let mut asked = 0;
        for n in 0..1_000 {
            if breaker.admits(POISONED) {
                asked += 1;
                breaker.failed(POISONED);
            }
            assert!(breaker.admits(other(n % 50)), "call {n} of another");
        }
        // His two faults, then one look after every four refusals.
        assert_eq!(asked, 2 + 998 / 5);
    }

    #[test]
    fn faults_of_several_users_in_a_row_open_it_for_all() {
        let breaker = Breaker::new(LIMITS);
        (0..10).for_each(|_| breaker.failed(POISONED));
        assert!(breaker.admits(other(1)), "one user's are two at most");
        breaker.failed(other(1));
        assert!(!breaker.admits(other(2)));
        breaker.succeeded(other(2));
        assert!(breaker.admits(other(3)) && !breaker.admits(POISONED), "others' success is not his");
    }

    #[test]
    fn a_look_for_a_user_that_succeeds_clears_him() {
        let breaker = Breaker::new(LIMITS);
        (0..2).for_each(|_| breaker.failed(POISONED));
        breaker.succeeded(other(1));
        let admitted: Vec<bool> = (0..5).map(|_| breaker.admits(POISONED)).collect();
        assert_eq!(admitted, [false, false, false, false, true]);
        breaker.succeeded(POISONED);
        assert!((0..20).all(|_| breaker.admits(POISONED)));
        assert_eq!(breaker.suspected.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn of_an_open_version_a_suspects_calls_use_up_no_looks() {
        let breaker = opened();
        (0..2).for_each(|_| breaker.failed(POISONED));
        let his = (0..4).filter(|_| breaker.admits(POISONED)).count();
        let others: Vec<bool> = (0..6).map(|n| breaker.admits(other(n))).collect();
        assert_eq!((his, others), (0, vec![false, false, false, false, false, true]));
    }

    #[test]
    fn more_suspects_than_there_are_places_push_each_other_out_and_no_more() {
        let breaker = Breaker::new(LIMITS);
        for n in 0..1_000_u64 {
            breaker.failed(Some(n << 32 | n));
            breaker.succeeded(None);
        }
        assert_eq!(breaker.suspected.load(Ordering::Relaxed), SUSPECTS_MAX as u32);
        assert!(breaker.admits(Some(5)), "one who has been pushed out");
    }
}
