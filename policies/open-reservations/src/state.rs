//! What is kept of a user.

use cellar_policy_sdk::{Fixed, fixed_struct};

/// Reservations that are kept: as many as the service lets a user have open.
pub const OPEN_MAX: usize = 64;

fixed_struct! {
    /// One reservation.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Open {
        pub at_us: u64,
        pub amount: u64,
    }
}

/// The open ones, in the order in which they were made. Read under any limit and any length: what is open stays
/// open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub open: Vec<Open>,
}

/// Their number comes first: a user of whom nothing is open has a state all the same.
impl Fixed for State {
    const BYTES: usize = 1 + 4 * Open::BYTES;

    fn append(&self, bytes: &mut Vec<u8>) {
        bytes.push(self.open.len() as u8);
        self.open.iter().for_each(|open| open.append(bytes));
    }

    fn take(bytes: &mut &[u8]) -> Option<Self> {
        let count = usize::from(u8::take(bytes)?);
        let open = (0..count.min(OPEN_MAX)).map(|_| Open::take(bytes)).collect::<Option<_>>()?;
        Some(Self { open })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_reads_back_whole_and_no_part_of_it_does() {
        let open = |at_us| Open { at_us, amount: 7 };
        for state in [State::default(), State { open: (0..OPEN_MAX as u64).map(open).collect() }] {
            let bytes = state.to_bytes();
            assert_eq!(State::from_bytes(&bytes[..bytes.len() - 1]), None);
            assert_eq!(State::from_bytes(&bytes), Some(state));
        }
    }
}
