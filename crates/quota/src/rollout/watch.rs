//! The automatic stop: what a cell decides by a candidate, counted beside what it decides by the current
//! policies, until a limit is passed.
//!
//! Faults are counted one by one: a policy that traps is wrong, whoever makes it trap. Denials are compared
//! as shares, and there one user's loop of denied requests must not pass for a tier's: of a window no user
//! counts for more than a fiftieth of the decisions that are needed to say anything.

use super::Variant;
use cellar_model::{Percent, StopRules, WavePoint};
use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};

/// Decisions by the candidate after which the older half of the window is forgotten: a change for the worse
/// must not drown in a good past.
const HALF_WINDOW: u64 = 10_000;
/// Of the decisions that are needed, what one user may be at most.
const USER_SHARE: u32 = 50;
/// Places that users share; those who meet in one count as one user.
const PLACES: usize = 4_096;

/// What became of a check, as far as the policies had a say in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Admitted,
    Denied,
    /// A policy faulted, whatever the tier answers then.
    Faulted,
}

impl Verdict {
    pub(crate) const ALL: [Verdict; 3] = [Verdict::Admitted, Verdict::Denied, Verdict::Faulted];

    /// The metric's label.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Verdict::Admitted => "admitted",
            Verdict::Denied => "denied",
            Verdict::Faulted => "faulted",
        }
    }
}

/// One revision's candidate in this process.
#[derive(Debug)]
pub(crate) struct RolloutWatch {
    rules: StopRules,
    counts: [Counts; 2],
    window: Mutex<Window>,
    stopped: OnceLock<String>,
}

/// Of one variant.
#[derive(Debug)]
struct Counts {
    verdicts: [AtomicU64; Verdict::ALL.len()],
    /// Of those that count for the share of denials, all and the denied.
    compared: AtomicU64,
    denied: AtomicU64,
    /// By place, how often its users have counted in this window.
    users: Box<[AtomicU8]>,
}

impl Default for Counts {
    fn default() -> Self {
        let users = (0..PLACES).map(|_| AtomicU8::new(0)).collect();
        Self { verdicts: Default::default(), compared: AtomicU64::new(0), denied: AtomicU64::new(0), users }
    }
}

impl Counts {
    fn add(&self, verdict: Verdict, user: WavePoint, user_max: u8) {
        self.verdicts[verdict as usize].fetch_add(1, Ordering::Relaxed);
        // By the upper bits: the lower ones say in which wave he is.
        let place = &self.users[(user.0 >> 40) as usize % PLACES];
        if verdict == Verdict::Faulted || place.load(Ordering::Relaxed) >= user_max {
            return;
        }
        place.fetch_add(1, Ordering::Relaxed);
        self.compared.fetch_add(1, Ordering::Relaxed);
        if verdict == Verdict::Denied {
            self.denied.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn verdict(&self, verdict: Verdict) -> u64 {
        self.verdicts[verdict as usize].load(Ordering::Relaxed)
    }

    fn share(&self) -> Share {
        // In this order: what is counted in between makes the share smaller, not larger than one.
        let denied = self.denied.load(Ordering::Relaxed);
        Share { denied, all: self.compared.load(Ordering::Relaxed) }
    }
}

impl RolloutWatch {
    pub(crate) fn new(rules: StopRules) -> Self {
        Self { rules, counts: Default::default(), window: Mutex::default(), stopped: OnceLock::new() }
    }

    /// Counts a decision. After those of a commit by the candidate, `judge` says what they mean.
    pub(crate) fn decided(&self, variant: Variant, verdict: Verdict, user: WavePoint) {
        self.counts[variant as usize].add(verdict, user, self.user_max());
    }

    /// How often a user counts in one window.
    fn user_max(&self) -> u8 {
        (self.rules.after / USER_SHARE).clamp(1, u32::from(u8::MAX)) as u8
    }

    pub(crate) fn count(&self, variant: Variant, verdict: Verdict) -> u64 {
        self.counts[variant as usize].verdict(verdict)
    }

    /// Stops the candidate if its decisions are beyond a limit; the reason, the first time. Who finds another
    /// at it leaves it to him.
    pub(crate) fn judge(&self) -> Option<String> {
        let mut window = self.window.try_lock().ok()?;
        let candidate = &self.counts[Variant::Candidate as usize];
        let now = Totals {
            decided: Verdict::ALL.iter().map(|verdict| candidate.verdict(*verdict)).sum(),
            faulted: candidate.verdict(Verdict::Faulted),
            current: self.counts[Variant::Current as usize].share(),
            candidate: candidate.share(),
        };
        let reason = window.judge(now, &self.rules).map(|reason| reason.to_string());
        if window.moves_on(now) {
            // Each user counts anew.
            self.counts.iter().flat_map(|counts| &counts.users).for_each(|place| place.store(0, Ordering::Relaxed));
        }
        let reason = reason?;
        self.stop(&reason).then_some(reason)
    }

    /// False: it is stopped already.
    pub(crate) fn stop(&self, reason: &str) -> bool {
        self.stopped.set(reason.to_owned()).is_ok()
    }

    pub(crate) fn stopped(&self) -> Option<&str> {
        self.stopped.get().map(String::as_str)
    }
}

/// Denials among decisions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Share {
    denied: u64,
    all: u64,
}

impl Share {
    fn since(self, before: Self) -> Self {
        Self { denied: self.denied - before.denied, all: self.all - before.all }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} % of {}", 100.0 * self.denied as f64 / self.all.max(1) as f64, self.all)
    }
}

/// What has been counted so far. Every number only grows.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    decided: u64,
    faulted: u64,
    current: Share,
    candidate: Share,
}

/// The decisions that count: those after `since`.
#[derive(Debug, Default)]
struct Window {
    since: Totals,
    half: Totals,
}

/// Why a candidate is stopped.
#[derive(Debug, PartialEq, Eq)]
enum Reason {
    Faults { faulted: u64, decided: u64 },
    Denials { current: Share, candidate: Share },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Faults { faulted, decided } => {
                write!(f, "{faulted} of its last {decided} decisions met a fault of a policy")
            }
            Reason::Denials { current, candidate } => {
                write!(f, "it denied {candidate} decisions, the current policies {current}")
            }
        }
    }
}

impl Window {
    fn judge(&self, now: Totals, rules: &StopRules) -> Option<Reason> {
        let after = u64::from(rules.after);
        let (decided, faulted) = (now.decided - self.since.decided, now.faulted - self.since.faulted);
        // So many faults are too many among the first `after` decisions, however the rest of those turn out.
        if rules.faults_percent.is_exceeded_by(faulted, decided.max(after)) {
            return Some(Reason::Faults { faulted, decided });
        }
        let (current, candidate) = (now.current.since(self.since.current), now.candidate.since(self.since.candidate));
        let enough = current.all >= after && candidate.all >= after;
        (enough && differ(current, candidate, rules.denials_percent)).then_some(Reason::Denials { current, candidate })
    }

    /// Forgets the older half once the younger is long enough. Whether it did.
    fn moves_on(&mut self, now: Totals) -> bool {
        if now.decided - self.half.decided < HALF_WINDOW {
            return false;
        }
        (self.since, self.half) = (self.half, now);
        true
    }
}

/// Whether two shares are more than `most` apart, either way: who suddenly denies nobody is as wrong.
fn differ(one: Share, other: Share, most: Percent) -> bool {
    // A window has some ten thousand decisions of the candidate: no product comes near what 64 bits hold.
    let times = u64::saturating_mul;
    let apart = times(one.denied, other.all).abs_diff(times(other.denied, one.all));
    most.is_exceeded_by(apart, times(one.all, other.all))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: StopRules =
        StopRules { faults_percent: Percent::whole(1), denials_percent: Percent::whole(5), after: 200 };

    /// Users who share no place.
    fn user(n: u64) -> WavePoint {
        WavePoint(n << 40)
    }

    fn watch() -> RolloutWatch {
        RolloutWatch::new(RULES)
    }

    /// `n` decisions of as many users, every `nth` of them denied.
    fn decide(watch: &RolloutWatch, variant: Variant, n: u64, nth: u64) {
        for n in 0..n {
            let verdict = if nth > 0 && n % nth == 0 { Verdict::Denied } else { Verdict::Admitted };
            watch.decided(variant, verdict, user(n));
        }
    }

    #[test]
    fn faults_stop_it_as_soon_as_the_first_decisions_cannot_come_back_under_the_limit() {
        let watch = watch();
        for _ in 0..2 {
            watch.decided(Variant::Candidate, Verdict::Faulted, user(1));
            assert_eq!(watch.judge(), None, "2 of the first 200 are the one percent that is allowed");
        }
        watch.decided(Variant::Candidate, Verdict::Faulted, user(1));
        assert_eq!(watch.judge().unwrap(), "3 of its last 3 decisions met a fault of a policy");
        assert_eq!((watch.judge(), watch.stopped().is_some()), (None, true), "it is said once");
    }

    #[test]
    fn a_share_of_faults_that_is_allowed_goes_on() {
        let watch = watch();
        for n in 0..50_000 {
            let verdict = if n % 100 == 99 { Verdict::Faulted } else { Verdict::Admitted };
            watch.decided(Variant::Candidate, verdict, user(n));
            assert_eq!(watch.judge(), None, "at {n}");
        }
    }

    #[test]
    fn a_change_for_the_worse_does_not_drown_in_a_good_past() {
        let watch = watch();
        let judged = |verdict, n: u64| {
            (0..n).find_map(|n| {
                watch.decided(Variant::Candidate, verdict, user(n));
                watch.judge().map(|_| n)
            })
        };
        assert_eq!(judged(Verdict::Admitted, 1_000_000), None);
        // At most one percent of two halves, and not of a million.
        assert!(judged(Verdict::Faulted, 1_000).unwrap() <= 2 * HALF_WINDOW / 100);
    }

    #[test]
    fn denials_are_compared_once_there_are_enough_of_both_and_either_way() {
        let more = watch();
        decide(&more, Variant::Candidate, 1_000, 5);
        decide(&more, Variant::Current, 199, 10);
        assert_eq!(more.judge(), None, "too few of the current policies");
        decide(&more, Variant::Current, 801, 10);
        let reason = more.judge().unwrap();
        assert_eq!(reason, "it denied 20.0 % of 1000 decisions, the current policies 10.1 % of 1000");

        let fewer = watch();
        decide(&fewer, Variant::Candidate, 1_000, 0);
        decide(&fewer, Variant::Current, 1_000, 10);
        assert!(fewer.judge().is_some());
    }

    #[test]
    fn shares_within_the_limit_go_on() {
        let watch = watch();
        decide(&watch, Variant::Candidate, 1_000, 7);
        decide(&watch, Variant::Current, 1_000, 10);
        assert_eq!(watch.judge(), None);
    }

    #[test]
    fn one_user_who_asks_in_vain_all_day_stops_nothing() {
        let watch = watch();
        decide(&watch, Variant::Current, 1_000, 0);
        decide(&watch, Variant::Candidate, 1_000, 0);
        for _ in 0..9_000 {
            watch.decided(Variant::Candidate, Verdict::Denied, user(7));
            assert_eq!(watch.judge(), None);
        }
        assert_eq!(watch.count(Variant::Candidate, Verdict::Denied), 9_000, "the metric has them all");
    }

    #[test]
    fn in_a_new_half_window_users_count_anew() {
        let watch = watch();
        for _ in 0..2 * HALF_WINDOW {
            watch.decided(Variant::Candidate, Verdict::Admitted, user(1));
            watch.judge();
        }
        let compared = watch.counts[Variant::Candidate as usize].compared.load(Ordering::Relaxed);
        assert_eq!(compared, 3 * u64::from(watch.user_max()) - u64::from(watch.user_max()));
    }

    #[test]
    fn what_another_has_stopped_is_stopped() {
        let watch = watch();
        assert!(watch.stop("another process") && !watch.stop("again"));
        assert_eq!(watch.stopped(), Some("another process"));
    }
}
