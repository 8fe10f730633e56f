//! Calendar months in UTC, from whole numbers alone: a policy has no calendar to ask.

use cellar_policy_sdk::TIME_MAX_US;

const DAY_US: u64 = 86_400_000_000;

/// The days from 0000-03-01 to 1970-01-01. Years begin in March here, so that a leap day is a
/// year's last and every month's first day has one formula.
const EPOCH_DAY: u64 = 719_468;
/// Days of 400 years, after which the Gregorian calendar repeats.
const ERA_DAYS: u64 = 146_097;

/// One calendar month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Month {
    pub start_us: u64,
    /// The next one's start.
    pub end_us: u64,
}

impl Month {
    /// The month that holds the moment.
    pub fn of(at_us: u64) -> Self {
        let day = at_us / DAY_US + EPOCH_DAY;
        let (era, day_of_era) = (day / ERA_DAYS, day % ERA_DAYS);
        // Leap days so far are taken out: one each 4 years (1,460 days), none each 100, one each 400.
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        // Months counted from March: 0 to 11.
        let month = (5 * day_of_year + 2) / 153;
        let months = (era * 400 + year_of_era) * 12 + month;
        // Before the first of March 1970 nothing underflows: the epoch is in January 1970, a month
        // that begins with it.
        Self { start_us: first_day_us(months), end_us: first_day_us(months + 1) }
    }

    /// From the moment to the month's end.
    pub fn rest_us(self, at_us: u64) -> u64 {
        self.end_us.saturating_sub(at_us).min(TIME_MAX_US)
    }
}

/// When a month begins, counted in months from March of the year 0.
fn first_day_us(months: u64) -> u64 {
    let (year, month) = (months / 12, months % 12);
    // March to January have 31 30 31 30 31, 31 30 31 30 31, 31 days: 153 in five months.
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5;
    (days - EPOCH_DAY).saturating_mul(DAY_US)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;
    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    fn start_us(year: i16, month: i8) -> u64 {
        let start = TimeZone::UTC.to_timestamp(date(year, month, 1).at(0, 0, 0, 0)).unwrap();
        u64::try_from(start.as_microsecond()).unwrap()
    }

    #[test]
    fn every_month_of_eight_thousand_years_begins_and_ends_where_the_calendar_says() {
        for year in 1970..9999_i16 {
            for month in 1..=12_i8 {
                let (start, end) = (
                    start_us(year, month),
                    match month {
                        12 => start_us(year + 1, 1),
                        _ => start_us(year, month + 1),
                    },
                );
                let expected = Month { start_us: start, end_us: end };
                assert_eq!(Month::of(start), expected, "{year}-{month}");
                assert_eq!(Month::of(end - 1), expected, "{year}-{month}");
            }
        }
    }

    #[test]
    fn leap_days_belong_to_february() {
        for (year, days) in [(2023, 28), (2024, 29), (2000, 29), (2100, 28), (2400, 29)] {
            let month = Month::of(start_us(year, 2));
            assert_eq!((month.end_us - month.start_us) / DAY_US, days, "{year}");
        }
    }

    proptest! {
        #[test]
        fn a_moment_lies_in_its_month(at_us: u64) {
            let month = Month::of(at_us);
            prop_assert!(month.start_us <= at_us);
            prop_assert!(at_us < month.end_us || month.end_us == u64::MAX);
        }
    }
}
