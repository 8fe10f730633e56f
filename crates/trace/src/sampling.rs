//! Which requests are seen.

use cellar_model::TraceId;
use std::time::Duration;

/// What an operator says of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// Of the requests that begin a trace here, the part that is exported whatever comes of them: 0 to 1.
    pub ratio: f64,
    /// One that takes at least this long is exported.
    pub slow: Duration,
}

impl Sampling {
    /// One in a thousand: at 50,000 requests a second 50 traces, some 250 spans.
    pub const RATIO_DEFAULT: f64 = 0.001;
    /// What 99 in 100 requests are to stay below.
    pub const SLOW_MS_DEFAULT: u32 = 20;
    pub const SLOW_MS_MAX: u32 = 60_000;
    /// How many different ends an id can have.
    const RANDOM: u64 = 1 << 56;

    /// # Errors
    /// What is out of its range.
    pub fn new(ratio: f64, slow_ms: u32) -> Result<Self, SamplingError> {
        if !(0.0..=1.0).contains(&ratio) {
            return Err(SamplingError::Ratio);
        }
        if !(1..=Self::SLOW_MS_MAX).contains(&slow_ms) {
            return Err(SamplingError::Slow);
        }
        Ok(Self { ratio, slow: Duration::from_millis(u64::from(slow_ms)) })
    }

    /// Every process that is asked about a trace says the same.
    pub(crate) fn takes(&self, trace: TraceId) -> bool {
        // W3C has the last seven bytes of an id random. Both numbers are whole floats.
        let (random, all) = (trace.0 as u64 & (Self::RANDOM - 1), Self::RANDOM as f64);
        (random as f64) < self.ratio * all
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SamplingError {
    Ratio,
    Slow,
}

impl std::fmt::Display for SamplingError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SamplingError::Ratio => write!(f, "trace_ratio must be 0 to 1"),
            SamplingError::Slow => write!(f, "trace_slow_ms must be 1 to {}", Sampling::SLOW_MS_MAX),
        }
    }
}

impl std::error::Error for SamplingError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_takes_its_part_of_the_ids() {
        let takes = |ratio: f64, id: u64| Sampling::new(ratio, 20).unwrap().takes(TraceId((7 << 64) | u128::from(id)));
        let (first, last) = (0, (1 << 53) - 1);
        assert_eq!([first, last].map(|id| takes(0.0, id)), [false, false]);
        assert_eq!([first, last, u64::MAX >> 9].map(|id| takes(1.0, id)), [true; 3]);
        assert_eq!([(1 << 51) - 1, 1 << 51].map(|id| takes(1.0 / 32.0, id)), [true, false]);
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        for (ratio, slow_ms, error) in
            [(-0.1, 20, SamplingError::Ratio), (1.1, 20, SamplingError::Ratio), (f64::NAN, 20, SamplingError::Ratio)]
        {
            assert_eq!(Sampling::new(ratio, slow_ms), Err(error));
        }
        assert_eq!(Sampling::new(0.5, 0), Err(SamplingError::Slow));
    }
}
