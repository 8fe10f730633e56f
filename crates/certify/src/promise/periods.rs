//! Periods by the calendar of a library: policies have their own arithmetic, which is held against it.

use super::moment;
use cellar_model::Micros;
use jiff::civil::DateTime;
use jiff::tz::Offset;
use std::cmp::Ordering;
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Every {
    Hour,
    Day,
    Week,
    Month,
}

impl Every {
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "hour" => Some(Every::Hour),
            "day" => Some(Every::Day),
            "week" => Some(Every::Week),
            "month" => Some(Every::Month),
            _ => None,
        }
    }
}

/// Where periods begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    pub(super) every: Every,
    pub(super) anchor_day: u64,
    pub(super) from_minute: u64,
    pub(super) utc_offset_minutes: i64,
}

/// One period: its number among its kind, and a moment in it for who reads of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbered {
    pub(super) number: i64,
    at_us: u64,
    every: Every,
}

impl Clock {
    pub(super) fn period(&self, at_us: u64) -> Numbered {
        let local = self.local(at_us);
        // A day that begins later than midnight belongs, before that, to the day before.
        let late = minute_of_day(local) < self.from_minute;
        let day = days(local) - i64::from(late);
        let number = match self.every {
            Every::Hour => days(local) * 24 + i64::from(local.hour()),
            Every::Day => day,
            // Day 0 was a Thursday.
            Every::Week => (day + 3).div_euclid(7),
            Every::Month => {
                let date = local.date();
                let begins = i64::try_from(self.anchor_day).unwrap_or(31).min(i64::from(date.days_in_month()));
                let months = i64::from(date.year()) * 12 + i64::from(date.month());
                months - i64::from(i64::from(date.day()) < begins)
            }
        };
        Numbered { number, at_us, every: self.every }
    }

    /// Whether it is one of so many minutes from that one of a day on; they may reach into the next day.
    pub(super) fn within(&self, at_us: u64, from_minute: u64, minutes: u64) -> bool {
        let since = (minute_of_day(self.local(at_us)) + 24 * 60 - from_minute % (24 * 60)) % (24 * 60);
        since < minutes
    }

    fn local(&self, at_us: u64) -> DateTime {
        let at_us = i64::try_from(at_us.min(Micros::MAX.0)).unwrap_or(i64::MAX);
        let at = jiff::Timestamp::from_microsecond(at_us).unwrap_or(jiff::Timestamp::MAX);
        let seconds = i32::try_from(self.utc_offset_minutes.saturating_mul(60)).unwrap_or(0);
        Offset::from_seconds(seconds).unwrap_or(Offset::UTC).to_datetime(at)
    }
}

fn minute_of_day(local: DateTime) -> u64 {
    // Both are small and never negative.
    u64::try_from(i64::from(local.hour()) * 60 + i64::from(local.minute())).unwrap_or(0)
}

/// Days since 1970.
fn days(local: DateTime) -> i64 {
    let epoch = jiff::civil::date(1970, 1, 1);
    let since = epoch.until((jiff::Unit::Day, local.date()));
    since.map_or(0, |span| i64::from(span.get_days()))
}

impl fmt::Display for Numbered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let every = match self.every {
            Every::Hour => "hour",
            Every::Day => "day",
            Every::Week => "week",
            Every::Month => "month",
        };
        write!(f, "the {every} of {}", moment(self.at_us))
    }
}

impl PartialEq for Numbered {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Numbered {}

impl PartialOrd for Numbered {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Numbered {
    fn cmp(&self, other: &Self) -> Ordering {
        self.number.cmp(&other.number)
    }
}
