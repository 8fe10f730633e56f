//! The two clocks: policy time, which policies decide by, and boot time, which waiting is counted in.

use cellar_model::Micros;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where policy time comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockMode {
    /// The wall clock; a caller's own time is refused.
    Wall,
    /// The caller's time where he says one, else the wall clock. For traces and tests.
    Virtual,
}

/// Policy time. The one place that reads the wall clock.
#[derive(Clone, Debug)]
pub struct Clock {
    mode: ClockMode,
    manual: Option<Arc<AtomicU64>>,
}

impl Clock {
    pub fn new(mode: ClockMode) -> Self {
        Self { mode, manual: None }
    }

    /// A clock that stands until it is set: for tests.
    pub fn manual(at: Micros) -> Self {
        Self { mode: ClockMode::Wall, manual: Some(Arc::new(AtomicU64::new(at.0))) }
    }

    /// Moves a manual clock.
    pub fn set(&self, at: Micros) {
        if let Some(manual) = &self.manual {
            manual.store(at.0, Ordering::Relaxed);
        }
    }

    pub fn mode(&self) -> ClockMode {
        self.mode
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the wall clock")]
    pub fn now(&self) -> Micros {
        if let Some(manual) = &self.manual {
            return Micros(manual.load(Ordering::Relaxed));
        }
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Micros((since.as_micros() as u64).min(Micros::MAX.0))
    }
}

/// Time since the machine started, suspended or not: what leases and autonomy are counted in, since
/// a process that slept has to notice.
pub fn boot_clock() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    // Both parts are non-negative for this clock.
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
