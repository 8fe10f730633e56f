//! What is kept of a user: a moment, and the rate that gives its parts a meaning.

use crate::settings::Parameters;
use cellar_policy_sdk::fixed_struct;

fixed_struct! {
    /// All is paid back at `tat_us` and `tat_part` parts, at the rate of `units` per `span_us`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct State {
        pub tat_us: u64,
        pub tat_part: u64,
        pub units: u64,
        pub span_us: u64,
    }
}

impl State {
    /// The state of one who owes `owed` parts at `now_us`.
    ///
    /// What leaves 64 bits (586,000 years) stays at their end: only settles far above a limit come
    /// there, and such a user waits forever either way.
    pub(crate) fn owing(parameters: &Parameters, now_us: u64, owed: u128) -> Self {
        let (whole_us, part) = divide(owed, parameters.units);
        let tat_us = u64::try_from(whole_us).ok().and_then(|whole_us| now_us.checked_add(whole_us));
        let (tat_us, tat_part) = tat_us.map_or((u64::MAX, 0), |tat_us| (tat_us, part));
        Self { tat_us, tat_part, units: parameters.units, span_us: parameters.span_us }
    }

    /// What is owed at `now_us`, in parts of `parameters`.
    ///
    /// A state that another rate wrote owes the same number of units: what a tier change finds is
    /// what was taken and not yet paid back. A fraction of a part is rounded up.
    pub(crate) fn owed(&self, parameters: &Parameters, now_us: u64) -> u128 {
        let Some(ahead_us) = self.tat_us.checked_sub(now_us) else {
            return 0;
        };
        let owed = u128::from(ahead_us) * u128::from(self.units) + u128::from(self.tat_part);
        if (self.units, self.span_us) == (parameters.units, parameters.span_us) {
            return owed;
        }
        let own_span = u128::from(self.span_us.max(1));
        let span = u128::from(parameters.span_us);
        match owed.checked_mul(span) {
            Some(product) => product.div_ceil(own_span),
            // Beyond 128 bits only after a settle far above a limit: whole units, rounded up.
            None => owed.div_ceil(own_span).saturating_mul(span),
        }
    }
}

/// Quotient and remainder. Nearly always both fit 64 bits, where WebAssembly divides in hardware.
pub(crate) fn divide(parts: u128, by: u64) -> (u128, u64) {
    match u64::try_from(parts) {
        Ok(parts) => (u128::from(parts / by), parts % by),
        // A remainder is below the divisor, so it fits.
        Err(_) => (parts / u128::from(by), (parts % u128::from(by)) as u64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: Parameters = Parameters { units: 7, span_us: 60_000_000, burst: 7 };
    const FAST: Parameters = Parameters { units: 3, span_us: 1_000_000, burst: 100 };

    #[test]
    fn what_is_owed_reads_back_to_the_part() {
        for owed in [0, 1, 6, 7, 419_999_999, 420_000_000] {
            assert_eq!(State::owing(&SLOW, 1_000, owed).owed(&SLOW, 1_000), owed);
        }
    }

    #[test]
    fn another_rate_owes_the_same_units() {
        let five = State::owing(&SLOW, 1_000, SLOW.price(5));
        assert_eq!(five.owed(&FAST, 1_000), FAST.price(5));
        let back = State::owing(&FAST, 1_000, five.owed(&FAST, 1_000));
        assert_eq!(back.owed(&SLOW, 1_000), SLOW.price(5));
    }

    #[test]
    fn a_debt_beyond_all_time_stays_there() {
        let state = State::owing(&SLOW, 1_000, u128::MAX);
        assert_eq!(state.tat_us, u64::MAX);
        assert!(state.owed(&FAST, 1_000) > FAST.capacity());
    }
}
