//! Policy time.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Microseconds since the Unix epoch. Wall-clock time decides nothing but what policies decide by it.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Micros(pub u64);

impl Micros {
    /// The last moment every UTC offset can name, 9999-12-30T22:00:00Z. Later times are refused at
    /// the door.
    pub const MAX: Micros = Micros(253_402_207_200_000_000);

    pub fn saturating_add(self, us: u64) -> Self {
        Self(self.0.saturating_add(us).min(Self::MAX.0))
    }

    pub fn since(self, earlier: Micros) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// RFC 3339 in UTC with as many digits as there are, as bodies carry it.
    pub fn to_rfc3339(self) -> String {
        // In range by the minimum with MAX, which fits i64 and jiff's calendar.
        let us = self.0.min(Self::MAX.0) as i64;
        jiff::Timestamp::from_microsecond(us).map_or_else(|_| String::new(), |t| t.to_string())
    }
}

impl fmt::Debug for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_carry_rfc_3339_in_utc() {
        assert_eq!(Micros(1_700_158_546_680_590).to_rfc3339(), "2023-11-16T18:15:46.68059Z");
        assert_eq!(Micros::MAX.to_rfc3339(), "9999-12-30T22:00:00Z");
    }
}
