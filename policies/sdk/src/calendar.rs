//! Hours, days, weeks and months at a fixed distance from UTC, from whole numbers alone: a policy has no
//! calendar to ask.

use crate::fixed_struct;
use crate::request::TIME_MAX_US;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A minute, in microseconds.
pub const MINUTE_US: u64 = 60_000_000;
/// An hour, in microseconds.
pub const HOUR_US: u64 = 60 * MINUTE_US;
/// A day, in microseconds: no day of a policy has a leap second.
pub const DAY_US: u64 = 24 * HOUR_US;

/// The clocks of the world, from twelve hours behind UTC to fourteen ahead of it.
pub const UTC_OFFSET_MIN_MINUTES: i64 = -720;
/// The other end of them.
pub const UTC_OFFSET_MAX_MINUTES: i64 = 840;

/// From one border to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    /// A period that began before 1970 begins with it.
    pub start_us: u64,
    /// The next one's start.
    pub end_us: u64,
}

impl Period {
    /// From the moment to the period's end.
    pub fn rest_us(self, at_us: u64) -> u64 {
        self.end_us.saturating_sub(at_us).min(TIME_MAX_US)
    }
}

/// What settings name a period by. Weeks begin on Monday.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
// A schema has variants with comments as forms of their own, and a longer list for whoever reads it.
#[allow(missing_docs, reason = "each is what its name says")]
pub enum Every {
    Hour,
    Day,
    Week,
    #[default]
    Month,
}

fixed_struct! {
    /// All of time cut into periods, each with a number.
    ///
    /// Local time is `at + origin`: the offset, and so many whole days that it never is below zero.
    /// Months have no one length; for them `length_us` is zero and `origin_us` is that of days.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Grid {
        length_us: u64,
        origin_us: u64,
        /// The day on which a month begins. In a month that lacks it, the last one.
        anchor_day: u8,
    }
}

impl Grid {
    /// # Panics
    /// If the offset is out of its bounds: the schema of every setting that becomes one has them.
    pub fn every(every: Every, utc_offset_minutes: i64) -> Self {
        // The epoch was a Thursday: ten days before it, one of which is in `ahead_us`, was a Monday.
        let (length_us, more_days) = match every {
            Every::Hour => (HOUR_US, 0),
            Every::Day => (DAY_US, 0),
            Every::Week => (7 * DAY_US, 9),
            Every::Month => return Self::months(1, utc_offset_minutes),
        };
        Self { length_us, origin_us: ahead_us(utc_offset_minutes) + more_days * DAY_US, anchor_day: 1 }
    }

    /// Days that begin so many minutes after midnight.
    pub fn days_from(from_minute: u64, utc_offset_minutes: i64) -> Self {
        // One more day, since the minutes are taken off.
        let origin_us = ahead_us(utc_offset_minutes) + DAY_US - from_minute * MINUTE_US;
        Self { length_us: DAY_US, origin_us, anchor_day: 1 }
    }

    /// Months that begin on that day, 1 to 31.
    ///
    /// # Panics
    /// As [`Grid::every`].
    pub fn months(anchor_day: u8, utc_offset_minutes: i64) -> Self {
        Self { length_us: 0, origin_us: ahead_us(utc_offset_minutes), anchor_day }
    }

    /// The period that holds the moment.
    pub fn period(&self, at_us: u64) -> Period {
        let index = self.index(at_us);
        Period { start_us: self.border_us(index), end_us: self.border_us(index + 1) }
    }

    /// The period's number. They follow one another.
    pub fn index(&self, at_us: u64) -> u64 {
        let local_us = at_us.saturating_add(self.origin_us);
        // None: months, which have no one length.
        if let Some(index) = local_us.checked_div(self.length_us) {
            return index;
        }
        let (months, day) = month_of(local_us / DAY_US + ORIGIN_DAY);
        if day < self.first_of(months) { months - 1 } else { months }
    }

    /// When the period of that number begins.
    pub fn border_us(&self, index: u64) -> u64 {
        let local_us = if self.length_us > 0 {
            index.saturating_mul(self.length_us)
        } else {
            (first_day(index) + self.first_of(index)).saturating_sub(ORIGIN_DAY).saturating_mul(DAY_US)
        };
        local_us.saturating_sub(self.origin_us)
    }

    /// How far into its month, in days, the period of a month begins.
    fn first_of(&self, months: u64) -> u64 {
        match u64::from(self.anchor_day) {
            // Every month has them: nothing to look up.
            day @ 0..=28 => day.saturating_sub(1),
            day => day.min(first_day(months + 1) - first_day(months)) - 1,
        }
    }
}

/// Microseconds that local time is ahead of UTC, and a day.
fn ahead_us(utc_offset_minutes: i64) -> u64 {
    let minutes = u64::try_from(utc_offset_minutes + 24 * 60).expect("an offset within its bounds");
    minutes * MINUTE_US
}

/// The day that local time counts from, 1969-12-31, in days from 0000-03-01. Years begin in March here, so that
/// a leap day is a year's last and every month's first day has one formula.
const ORIGIN_DAY: u64 = 719_467;
/// Days of 400 years, after which the Gregorian calendar repeats.
const ERA_DAYS: u64 = 146_097;

/// Months from March of the year 0 to that day, and the days of its month before it.
fn month_of(day: u64) -> (u64, u64) {
    let (era, day_of_era) = (day / ERA_DAYS, day % ERA_DAYS);
    // Leap days so far are taken out: one each 4 years (1,460 days), none each 100, one each 400.
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // Months counted from March: 0 to 11.
    let month = (5 * day_of_year + 2) / 153;
    ((era * 400 + year_of_era) * 12 + month, day_of_year - (153 * month + 2) / 5)
}

/// The first day of a month, counted in months from March of the year 0.
fn first_day(months: u64) -> u64 {
    let (year, month) = (months / 12, months % 12);
    // March to January have 31 30 31 30 31, 31 30 31 30 31, 31 days: 153 in five months.
    year.saturating_mul(365) + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::{Date, DateTime, date};
    use jiff::tz::Offset;
    use jiff::{Span, Timestamp, ToSpan};
    use proptest::prelude::*;

    const OFFSETS: std::ops::RangeInclusive<i64> = UTC_OFFSET_MIN_MINUTES..=UTC_OFFSET_MAX_MINUTES;

    fn offset(minutes: i64) -> Offset {
        Offset::from_seconds(i32::try_from(minutes * 60).unwrap()).unwrap()
    }

    fn local(at_us: u64, minutes: i64) -> DateTime {
        offset(minutes).to_datetime(Timestamp::from_microsecond(i64::try_from(at_us).unwrap()).unwrap())
    }

    /// What began before 1970 begins with it.
    fn us(local: DateTime, minutes: i64) -> u64 {
        u64::try_from(offset(minutes).to_timestamp(local).unwrap().as_microsecond()).unwrap_or(0)
    }

    fn anchored(year: i16, month: i8, anchor: u8) -> Date {
        let first = date(year, month, 1);
        first.with().day(i8::try_from(anchor).unwrap().min(first.days_in_month())).build().unwrap()
    }

    /// Another way round: the calendar names the days, and the borders are those two that hold the moment.
    fn month_by_the_calendar(at_us: u64, anchor: u8, minutes: i64) -> Period {
        let today = local(at_us, minutes).date();
        let neighbour = |by: Span| {
            let other = today.first_of_month().checked_add(by).unwrap();
            anchored(other.year(), other.month(), anchor)
        };
        let this = neighbour(0.months());
        let (start, end) = if this <= today { (this, neighbour(1.month())) } else { (neighbour((-1).month()), this) };
        let moment = |day: Date| us(day.at(0, 0, 0, 0), minutes);
        Period { start_us: moment(start), end_us: moment(end) }
    }

    fn moments() -> impl Strategy<Value = u64> {
        // The calendar at hand ends with 9999.
        prop_oneof![0..253_000_000_000_000_000_u64, 0..100 * DAY_US, 1_500_000_000_000_000..2_500_000_000_000_000_u64]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_month_is_the_calendars_on_any_day_at_any_offset(at_us in moments(), anchor in 1..=31_u8, minutes in OFFSETS) {
            let grid = Grid::months(anchor, minutes);
            let expected = month_by_the_calendar(at_us, anchor, minutes);
            prop_assert_eq!(grid.period(at_us), expected);
            for within in [expected.start_us, expected.end_us - 1] {
                prop_assert_eq!(grid.period(within), expected);
            }
            prop_assert_eq!(grid.index(expected.end_us), grid.index(at_us) + 1);
        }

        #[test]
        fn hours_days_and_weeks_are_the_calendars_at_any_offset(at_us in moments(), minutes in OFFSETS) {
            let now = local(at_us, minutes);
            let (hour, midnight) = (now.date().at(now.hour(), 0, 0, 0), now.date().at(0, 0, 0, 0));
            let monday = midnight.checked_sub(i64::from(now.weekday().to_monday_zero_offset()).days()).unwrap();
            for (every, start, length) in [
                (Every::Hour, hour, 1.hour()),
                (Every::Day, midnight, 1.day()),
                (Every::Week, monday, 1.week()),
            ] {
                let end_us = us(start.checked_add(length).unwrap(), minutes);
                let expected = Period { start_us: us(start, minutes), end_us };
                prop_assert_eq!(Grid::every(every, minutes).period(at_us), expected, "{:?}", every);
            }
        }

        #[test]
        fn a_moment_lies_in_its_period(at_us: u64, anchor in 1..=31_u8, minutes in OFFSETS, from in 0..1_440_u64) {
            let every = |every| Grid::every(every, minutes);
            for grid in [
                every(Every::Hour), every(Every::Day), every(Every::Week), every(Every::Month),
                Grid::months(anchor, minutes), Grid::days_from(from, minutes),
            ] {
                let period = grid.period(at_us);
                prop_assert!(period.start_us <= at_us);
                prop_assert!(at_us < period.end_us || at_us > TIME_MAX_US);
            }
        }

        #[test]
        fn a_day_may_begin_at_any_minute(at_us in moments(), minutes in OFFSETS, from in 0..1_440_u64) {
            let period = Grid::days_from(from, minutes).period(at_us);
            let end = local(period.end_us, minutes);
            prop_assert_eq!(i64::from(end.hour()) * 60 + i64::from(end.minute()), i64::try_from(from).unwrap());
            prop_assert_eq!((end.second(), end.subsec_nanosecond()), (0, 0));
            prop_assert!(period.end_us - period.start_us == DAY_US || period.start_us == 0);
        }
    }

    #[test]
    fn every_month_of_eight_thousand_years_begins_and_ends_where_the_calendar_says() {
        for anchor in [1, 29, 30, 31] {
            let grid = Grid::months(anchor, 0);
            for year in 1970..9999_i16 {
                for month in 1..=12_i8 {
                    let start_us = us(anchored(year, month, anchor).at(0, 0, 0, 0), 0);
                    let expected = month_by_the_calendar(start_us, anchor, 0);
                    assert_eq!(expected.start_us, start_us);
                    assert_eq!(grid.period(start_us), expected, "{year}-{month}");
                    assert_eq!(grid.period(expected.end_us - 1), expected, "{year}-{month}");
                }
            }
        }
    }
}
