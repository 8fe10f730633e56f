//! How long ago something was, as of the scrape: an age that is told once a second is wrong when it matters.

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, TypedMetric};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Seconds since a moment. Clones are the same; telling it is one store.
#[derive(Clone, Debug)]
pub struct Age {
    /// Moments are counted from here, in microseconds.
    base: Instant,
    since_us: Arc<AtomicU64>,
    /// What stands there while there is no such moment.
    none: f64,
}

/// No moment.
const NONE: u64 = u64::MAX;

impl Age {
    /// Without a moment yet; `none` is what the gauge shows then.
    pub fn new(none: f64) -> Self {
        Self { base: Instant::now(), since_us: Arc::new(AtomicU64::new(NONE)), none }
    }

    pub fn since(&self, moment: Option<Instant>) {
        // A moment before this was made counts as the making.
        let us = |moment: Instant| moment.saturating_duration_since(self.base).as_micros() as u64;
        self.since_us.store(moment.map_or(NONE, us), Ordering::Relaxed);
    }

    pub fn seconds(&self) -> f64 {
        match self.since_us.load(Ordering::Relaxed) {
            NONE => self.none,
            since => self.base.elapsed().saturating_sub(Duration::from_micros(since)).as_secs_f64(),
        }
    }
}

/// Of which there may be one already: zero.
impl Default for Age {
    fn default() -> Self {
        Self::new(0.0)
    }
}

impl TypedMetric for Age {
    const TYPE: MetricType = MetricType::Gauge;
}

impl EncodeMetric for Age {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        encoder.encode_gauge(&self.seconds())
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_grows_by_itself_and_ends_with_its_moment() {
        let age = Age::new(-1.0);
        assert_eq!(age.seconds(), -1.0);
        age.since(Some(Instant::now()));
        let first = age.seconds();
        std::thread::sleep(Duration::from_millis(2));
        assert!(first >= 0.0 && age.seconds() > first);
        age.since(None);
        assert_eq!(age.seconds(), -1.0);
    }
}
