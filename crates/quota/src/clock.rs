//! The two clocks: policy time, which policies decide by, and boot time, which waiting is counted in.

use cellar_model::Micros;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where policy time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockMode {
    /// The wall clock; a caller's own time is refused.
    Wall,
    /// The caller's time where he says one, else the wall clock. For traces and tests.
    Virtual,
}

/// Two clocks that differ by no more agree; a step of the wall clock by no more is followed.
pub(crate) const AGREEMENT: Duration = Duration::from_millis(500);

/// Policy time. The one place that reads the wall clock. Clones share what is believed of it.
///
/// **Invariant:** once [judged](Clock::judge), a wall clock that steps by more than `AGREEMENT` is not
/// followed: policy time goes on with the boot-time clock from where it was, until two of the cell's, Redis's
/// and Postgres's clocks agree.
#[derive(Clone, Debug)]
pub struct Clock {
    mode: ClockMode,
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    /// Stands until it is set: for tests.
    Manual(Arc<AtomicU64>),
    Wall(Arc<Wall>),
}

/// Times in microseconds, the wall clock's as its distance from the boot-time clock: that changes only when
/// somebody sets the wall clock.
#[derive(Debug)]
struct Wall {
    believed: AtomicI64,
    /// What a fault test adds to the wall clock.
    skew: AtomicI64,
}

const UNJUDGED: i64 = i64::MIN;

impl Clock {
    pub fn new(mode: ClockMode) -> Self {
        let wall = Wall { believed: AtomicI64::new(UNJUDGED), skew: AtomicI64::new(0) };
        Self { mode, source: Source::Wall(Arc::new(wall)) }
    }

    /// A clock that stands until it is set: for tests.
    pub fn manual(at: Micros) -> Self {
        Self { mode: ClockMode::Wall, source: Source::Manual(Arc::new(AtomicU64::new(at.0))) }
    }

    /// Moves a manual clock.
    pub fn set(&self, at: Micros) {
        if let Source::Manual(manual) = &self.source {
            manual.store(at.0, Ordering::Relaxed);
        }
    }

    /// Moves this process's wall clock by so much, as an administrator's mistake would: for fault tests.
    pub fn skew(&self, by_ms: i64) {
        if let Source::Wall(wall) = &self.source {
            wall.skew.store(by_ms.saturating_mul(1_000), Ordering::Relaxed);
        }
    }

    pub fn mode(&self) -> ClockMode {
        self.mode
    }

    pub fn now(&self) -> Micros {
        let wall = match &self.source {
            Source::Manual(manual) => return Micros(manual.load(Ordering::Relaxed)),
            Source::Wall(wall) => wall,
        };
        let (boot, distance) = wall.read();
        let believed = wall.believed.load(Ordering::Relaxed);
        let distance = if believed == UNJUDGED || agree(distance, believed) { distance } else { believed };
        Micros(u64::try_from(boot + distance).unwrap_or_default().min(Micros::MAX.0))
    }

    /// Looks at this machine's wall clock beside what the witnesses said, as distances from the boot-time
    /// clock. False: it is not believed.
    pub(crate) fn judge(&self, redis: Option<i64>, postgres: Option<i64>) -> bool {
        let Source::Wall(wall) = &self.source else { return true };
        let (_, cell) = wall.read();
        let before = Some(wall.believed.load(Ordering::Relaxed)).filter(|before| *before != UNJUDGED);
        let believed = believe(cell, redis, postgres, before);
        wall.believed.store(believed, Ordering::Relaxed);
        agree(cell, believed)
    }
}

impl Wall {
    /// The boot-time clock, and the wall clock's distance from it.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
    fn read(&self) -> (i64, i64) {
        let boot = micros(boot_clock());
        let wall = micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
        (boot, wall + self.skew.load(Ordering::Relaxed) - boot)
    }
}

pub(crate) fn micros(time: Duration) -> i64 {
    // 2^62 µs are 146,000 years; what is added to it stays in range.
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX).min(1 << 62)
}

fn agree(one: i64, other: i64) -> bool {
    one.abs_diff(other) <= AGREEMENT.as_micros() as u64
}

/// What is believed of three clocks: the cell's if a witness agrees with it, else the witnesses' if they agree
/// with each other, else what was believed before.
fn believe(cell: i64, redis: Option<i64>, postgres: Option<i64>, before: Option<i64>) -> i64 {
    if [redis, postgres].into_iter().flatten().any(|witness| agree(cell, witness)) {
        return cell;
    }
    match (redis, postgres) {
        (Some(redis), Some(postgres)) if agree(redis, postgres) => redis,
        _ => before.unwrap_or(cell),
    }
}

/// Time since the machine started, suspended or not: what leases and autonomy are counted in, since
/// a process that slept has to notice.
pub fn boot_clock() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    // Both parts are non-negative for this clock.
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    #[test]
    fn a_step_is_believed_only_of_two_clocks_that_agree() {
        let near = 400_000;
        assert_eq!(believe(HOUR, Some(0), Some(0), Some(0)), 0, "the cell's alone has stepped");
        assert_eq!(believe(HOUR, Some(HOUR - near), Some(0), Some(0)), HOUR, "Redis's went with it");
        assert_eq!(believe(HOUR, None, Some(HOUR + near), Some(0)), HOUR, "Postgres's did, Redis is away");
        assert_eq!(believe(HOUR, Some(0), None, Some(0)), 0, "two disagree: as before");
        assert_eq!(believe(HOUR, None, None, Some(0)), 0, "nobody to ask: as before");
        assert_eq!(believe(HOUR, Some(-HOUR), Some(0), Some(near)), near, "three disagree: as before");
        assert_eq!(believe(near, Some(0), Some(0), Some(0)), near, "a small step is followed");
    }

    #[test]
    fn at_a_start_a_wrong_clock_is_found_by_the_two_others() {
        assert_eq!(believe(HOUR, Some(0), Some(1), None), 0);
        assert_eq!(believe(HOUR, Some(0), None, None), HOUR, "one against one: its own");
    }

    #[test]
    fn an_unbelieved_step_leaves_policy_time_going_on() {
        let clock = Clock::new(ClockMode::Wall);
        let before = clock.now();
        assert!(clock.judge(None, None));
        for by_ms in [3_600_000, -3_600_000] {
            clock.skew(by_ms);
            let now = clock.now();
            assert!(before <= now && now.0 - before.0 < 60_000_000, "{before:?} {now:?}");
            assert!(!clock.judge(None, None));
        }
        clock.skew(400);
        assert!(clock.now().0 >= before.0 + 400_000);
        assert!(clock.judge(None, None));
    }
}
