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

    /// From RFC 3339, to the microsecond. None: it is no time, or none that can be named here.
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let us = text.parse::<jiff::Timestamp>().ok()?.as_microsecond();
        u64::try_from(us).ok().map(Self).filter(|at| *at <= Self::MAX)
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
    fn a_time_is_read_in_any_offset_and_refused_beyond_the_calendar() {
        let read = Micros::from_rfc3339;
        assert_eq!(read("2023-11-16T19:15:46.68059+01:00"), Some(Micros(1_700_158_546_680_590)));
        for bad in ["", "soon", "2023-11-16", "1969-12-31T23:59:59Z", "9999-12-31T00:00:00Z"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn bodies_carry_rfc_3339_in_utc() {
        assert_eq!(Micros(1_700_158_546_680_590).to_rfc3339(), "2023-11-16T18:15:46.68059Z");
        assert_eq!(Micros::MAX.to_rfc3339(), "9999-12-30T22:00:00Z");
    }
}
