//! What a policy keeps of a user whose amounts have prices: thousandths of units, so that no price is ever rounded.

use crate::calendar::{HOUR_US, Period};
use crate::request::{Operation, Request};
use crate::{Fixed, fixed_struct};

/// Thousandths of a unit that count at the full price.
pub const FULL_PRICE: u32 = 1_000;

/// Open reservations that are remembered: as many as a user can have.
const HOLDS_MAX: usize = 64;
/// A reservation is settled within an hour of policy time, or has expired. Twice that for what comes late.
const HOLD_MAX_US: u64 = 2 * HOUR_US;

fixed_struct! {
    /// A reservation, and at what price it was charged: a settle does not say.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Hold {
        /// When it was made.
        pub at_us: u64,
        /// What it took, in the policy's unit.
        pub amount: u64,
        /// In thousandths a unit.
        pub price: u32,
    }
}

/// What was spent in one period, in thousandths, a moment in it (as [`Spent`](crate::Spent) has it), and what of it
/// is reserved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Priced {
    /// The last charge's.
    pub charged_us: u64,
    /// In thousandths of a unit.
    pub spent: u64,
    /// In the order in which they were made.
    pub holds: Vec<Hold>,
}

/// Two prices for what is settled and not remembered: a refund of what was never reserved, or of long ago.
#[derive(Clone, Copy, Debug)]
pub struct Unremembered {
    /// What is given back counts at the least price there is.
    pub gives_back: u32,
    /// What is charged counts at this, in thousandths a unit.
    pub charges: u32,
}

impl Priced {
    /// What counts in `period`, which holds the moment of the question. Reservations stay open across its end.
    pub fn within(state: Option<Self>, period: Period) -> Self {
        let state = state.unwrap_or_default();
        if state.charged_us >= period.start_us { state } else { Self { spent: 0, ..state } }
    }

    /// After a consume or reserve of its whole cost at `price`.
    pub fn charged(self, request: &Request, price: u32) -> Self {
        let spent = self.spent.saturating_add(worth(request.cost, price));
        let mut next = Self { charged_us: request.now_us, spent, ..self };
        if request.operation == Operation::Reserve {
            next.remember(Hold { at_us: request.now_us, amount: request.cost, price });
        }
        next
    }

    /// After a settle. What was used above what was held is charged, and what was not used comes back in the period
    /// that took it, both at the price of when it was held.
    pub fn settled(mut self, request: &Request, period: Period, otherwise: Unremembered) -> Self {
        let held = self.forget(request.held_at_us, request.held);
        let spent = if request.cost >= request.held {
            self.spent.saturating_add(worth(request.cost - request.held, held.unwrap_or(otherwise.charges)))
        } else if request.held_at_us >= period.start_us {
            self.spent.saturating_sub(worth(request.held - request.cost, held.unwrap_or(otherwise.gives_back)))
        } else {
            self.spent
        };
        Self { charged_us: request.now_us, spent, ..self }
    }

    fn remember(&mut self, hold: Hold) {
        self.holds.retain(|old| old.at_us.saturating_add(HOLD_MAX_US) > hold.at_us);
        if self.holds.len() >= HOLDS_MAX {
            // Its settle will count as one that nobody remembers.
            self.holds.remove(0);
        }
        self.holds.push(hold);
    }

    /// The price of a reservation, which is then no longer open. Of several that look the same the cheapest goes
    /// first: what is given back is never more than what was charged.
    fn forget(&mut self, at_us: u64, amount: u64) -> Option<u32> {
        let same = self.holds.iter().enumerate().filter(|(_, hold)| (hold.at_us, hold.amount) == (at_us, amount));
        let (place, price) = same.map(|(place, hold)| (place, hold.price)).min_by_key(|(_, price)| *price)?;
        self.holds.remove(place);
        Some(price)
    }
}

/// Thousandths that an amount is worth. What leaves 64 bits stays at their end.
pub fn worth(amount: u64, price: u32) -> u64 {
    // Amounts are at most 2^40 and prices below 2^20, except in settles that somebody made up.
    amount.saturating_mul(u64::from(price))
}

impl Fixed for Priced {
    /// Without reservations, as most are.
    const BYTES: usize = 16;

    fn append(&self, bytes: &mut Vec<u8>) {
        self.charged_us.append(bytes);
        self.spent.append(bytes);
        self.holds.iter().for_each(|hold| hold.append(bytes));
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let (charged_us, spent) = (Fixed::take(bytes)?, Fixed::take(bytes)?);
        let mut holds = Vec::new();
        while !bytes.is_empty() {
            holds.push(Hold::take(bytes)?);
        }
        Some(Self { charged_us, spent, holds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Period = Period { start_us: 0, end_us: u64::MAX };
    const NOBODY: Unremembered = Unremembered { gives_back: 1, charges: 9 };

    fn reserve(state: Priced, at_us: u64, amount: u64, price: u32) -> Priced {
        state.charged(&Request::new(Operation::Reserve, at_us, amount), price)
    }

    #[test]
    fn a_state_reads_back_whole_and_no_part_of_it_does() {
        let state = reserve(reserve(Priced::default(), 5, 7, 500), 6, 8, 250);
        assert_eq!(Priced::from_bytes(&state.to_bytes()), Some(state.clone()));
        assert_eq!(Priced::from_bytes(&state.to_bytes()[..20]), None);
    }

    #[test]
    fn each_reservation_is_settled_once_at_its_own_price() {
        let state = reserve(reserve(Priced::default(), 5, 10, 500), 6, 10, 250);
        assert_eq!(state.spent, 7_500);
        let state = state.settled(&Request::settle(9, 0, 10, 5), ALL, NOBODY);
        assert_eq!((state.spent, state.holds.len()), (2_500, 1));
        // Once more: nobody remembers it.
        let state = state.settled(&Request::settle(9, 0, 10, 5), ALL, NOBODY);
        assert_eq!((state.spent, state.holds.len()), (2_490, 1));
        let state = state.settled(&Request::settle(9, 12, 10, 6), ALL, NOBODY);
        assert_eq!((state.spent, state.holds.len()), (2_990, 0));
        assert_eq!(state.settled(&Request::settle(9, 12, 10, 6), ALL, NOBODY).spent, 3_008);
    }

    #[test]
    fn of_two_that_look_the_same_the_cheaper_goes_first() {
        let state = reserve(reserve(Priced::default(), 5, 10, 500), 5, 10, 250);
        assert_eq!(state.settled(&Request::settle(9, 0, 10, 5), ALL, NOBODY).spent, 5_000);
    }

    #[test]
    fn no_more_are_remembered_than_can_be_open() {
        let mut state = Priced::default();
        for n in 0..200 {
            state = reserve(state, n, 1, 1);
            assert!(state.holds.len() <= HOLDS_MAX);
        }
        assert_eq!(state.holds[0].at_us, 200 - HOLDS_MAX as u64);
        assert_eq!(reserve(state, 200 + HOLD_MAX_US, 1, 1).holds.len(), 1);
    }

    #[test]
    fn made_up_amounts_stay_at_the_end_of_64_bits() {
        let state = Priced::default().settled(&Request::settle(9, u64::MAX, 0, 0), ALL, NOBODY);
        assert_eq!(state.spent, u64::MAX);
    }
}
