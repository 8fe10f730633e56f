//! Histories of one user, in terms that fit any settings: pauses and amounts are drawn as shares of what the
//! policy itself says its limit is, and how long it takes to come back.

use proptest::prelude::*;

/// Calls of one history.
const STEPS_MAX: usize = 40;
const DAY_US: u64 = 86_400_000_000;

/// 2023-11-14T22:13:20Z: any moment will do, and the month ends in two weeks.
pub(crate) const START_US: u64 = 1_700_000_000_000_000;

/// How long after the call before.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pause {
    None,
    /// So many microseconds.
    Exactly(u64),
    /// As long as one unit takes to come back, and some microseconds more or less.
    OneUnit(i8),
    /// Thousandths of the time after which everything is back.
    OfReset(u16),
    Days(u16),
}

/// How much.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Amount {
    None,
    One,
    Few(u8),
    /// Thousandths of the limit.
    OfLimit(u16),
    Limit,
    AboveLimit,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) pause: Pause,
    pub(crate) amount: Amount,
}

/// What pauses and amounts are shares of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scale {
    pub(crate) limit: u64,
    /// From all taken to all back.
    pub(crate) reset_us: u64,
}

impl Pause {
    pub(crate) fn us(self, scale: Scale) -> u64 {
        match self {
            Pause::None => 0,
            Pause::Exactly(us) => us,
            Pause::OneUnit(more) => (scale.reset_us / scale.limit.max(1)).saturating_add_signed(i64::from(more)),
            Pause::OfReset(share) => share_of(scale.reset_us, share),
            Pause::Days(days) => u64::from(days) * DAY_US,
        }
    }
}

impl Amount {
    pub(crate) fn units(self, scale: Scale) -> u64 {
        match self {
            Amount::None => 0,
            Amount::One => 1,
            Amount::Few(few) => u64::from(few),
            Amount::OfLimit(share) => share_of(scale.limit, share),
            Amount::Limit => scale.limit,
            Amount::AboveLimit => scale.limit.saturating_add(1),
        }
    }
}

/// Without a product that leaves 64 bits.
fn share_of(whole: u64, share: u16) -> u64 {
    let share = u128::from(whole) * u128::from(share) / 1_000;
    u64::try_from(share).unwrap_or(whole)
}

pub(crate) fn pauses() -> impl Strategy<Value = Pause> {
    prop_oneof![
        3 => Just(Pause::None),
        2 => (0..5_u64).prop_map(Pause::Exactly),
        3 => (-2..=2_i8).prop_map(Pause::OneUnit),
        3 => (0..=1_100_u16).prop_map(Pause::OfReset),
        1 => (0..=800_u16).prop_map(Pause::Days),
    ]
}

pub(crate) fn amounts() -> impl Strategy<Value = Amount> {
    prop_oneof![
        4 => Just(Amount::One),
        2 => (2..=5_u8).prop_map(Amount::Few),
        3 => (1..=1_000_u16).prop_map(Amount::OfLimit),
        2 => Just(Amount::Limit),
        1 => Just(Amount::AboveLimit),
        1 => Just(Amount::None),
    ]
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (pauses(), amounts()).prop_map(|(pause, amount)| Step { pause, amount });
    prop::collection::vec(step, 1..STEPS_MAX)
}
