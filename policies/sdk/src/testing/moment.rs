//! Times as people write them, without a calendar that every policy would have to compile.

use crate::request::TIME_MAX_US;
use std::time::Duration;

const SECOND_US: u64 = 1_000_000;
const DAY_S: u64 = 86_400;

/// So many seconds.
pub const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// So many minutes.
pub const fn minutes(minutes: u64) -> Duration {
    seconds(minutes * 60)
}

/// So many hours.
pub const fn hours(hours: u64) -> Duration {
    seconds(hours * 3_600)
}

/// So many days of 24 hours.
pub const fn days(days: u64) -> Duration {
    seconds(days * DAY_S)
}

/// A moment: microseconds since the Unix epoch, or a text like `2024-02-29T23:59:59.5Z`.
pub trait Moment {
    /// Microseconds since the Unix epoch, at most [`TIME_MAX_US`].
    ///
    /// # Panics
    /// If it is no moment, or one beyond the calendar.
    fn us(self) -> u64;
}

impl Moment for u64 {
    #[track_caller]
    fn us(self) -> u64 {
        assert!(self <= TIME_MAX_US, "{self} us is beyond the calendar: at most {TIME_MAX_US}");
        self
    }
}

impl Moment for &str {
    #[track_caller]
    fn us(self) -> u64 {
        parsed(self).unwrap_or_else(|| panic!("{self:?} is no moment; one is written 2024-02-29T23:59:59Z"))
    }
}

/// A time in UTC, from 1970 on: `2024-02-29T23:59:59Z`, with up to six digits of a second.
fn parsed(text: &str) -> Option<u64> {
    let text = text.strip_suffix('Z')?;
    let (date, time) = text.split_once('T')?;
    let [year, month, day] = numbers(date, '-')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let [hour, minute, second] = numbers(time, ':')?;
    let is_date = (1970..=9_999).contains(&year) && (1..=12).contains(&month);
    if !is_date || day < 1 || day > days_in(year, month) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    if fraction.is_empty() || fraction.len() > 6 || !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let fraction_us: u64 = format!("{fraction:0<6}").parse().ok()?;
    let seconds = days_before(year, month, day) * DAY_S + hour * 3_600 + minute * 60 + second;
    let us = seconds * SECOND_US + fraction_us;
    (us <= TIME_MAX_US).then_some(us)
}

fn numbers(text: &str, separator: char) -> Option<[u64; 3]> {
    let digits = |part: &str| part.bytes().all(|digit| digit.is_ascii_digit()).then(|| part.parse().ok())?;
    let mut parts = text.splitn(3, separator).map(digits);
    Some([parts.next()??, parts.next()??, parts.next()??])
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in(year: u64, month: u64) -> u64 {
    match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from the epoch to the date, which is not before it.
fn days_before(year: u64, month: u64, day: u64) -> u64 {
    let leaps = |year: u64| year / 4 - year / 100 + year / 400;
    let years = (year - 1970) * 365 + leaps(year - 1) - leaps(1969);
    let months: u64 = (1..month).map(|month| days_in(year, month)).sum();
    years + months + day - 1
}

/// A time as [`Moment`] reads it.
pub(super) fn shown(us: u64) -> String {
    let (mut year, mut left) = (1970, us / SECOND_US / DAY_S);
    while left >= 365 + u64::from(is_leap(year)) {
        left -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let mut month = 1;
    while left >= days_in(year, month) {
        left -= days_in(year, month);
        month += 1;
    }
    let (second, fraction_us) = (us / SECOND_US % DAY_S, us % SECOND_US);
    let fraction = if fraction_us == 0 { String::new() } else { format!(".{fraction_us:06}") };
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year}-{month:02}-{:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z", left + 1)
}

/// A span as people read it: in seconds, to the microsecond.
pub(super) fn span(us: u64) -> String {
    match (us / SECOND_US, us % SECOND_US) {
        (whole, 0) => format!("{whole} s"),
        (whole, part) => format!("{whole}.{part:06} s"),
    }
}

/// A duration in whole microseconds, at most the calendar.
pub(super) fn duration_us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).map_or(TIME_MAX_US, |us| us.min(TIME_MAX_US))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_reads_back_as_it_was_written() {
        let moments = [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59Z", 951_868_799_000_000),
            ("2023-11-14T22:13:20Z", 1_700_000_000_000_000),
            ("2100-03-01T00:00:00.000001Z", 4_107_542_400_000_001),
            ("9999-12-30T22:00:00Z", TIME_MAX_US),
        ];
        for (text, us) in moments {
            assert_eq!((text.us(), shown(us).as_str()), (us, text));
        }
        assert_eq!("2023-11-14T22:13:20.5Z".us(), 1_700_000_000_500_000);
    }

    #[test]
    fn what_is_no_moment_is_none() {
        for bad in [
            "",
            "now",
            "2023-11-14",
            "2023-11-14T22:13:20",
            "2023-02-29T00:00:00Z",
            "2023-13-01T00:00:00Z",
            "1969-12-31T23:59:59Z",
            "2023-11-14T24:00:00Z",
            "2023-11-14T22:13:20.Z",
            "2023-11-14T22:13:20.1234567Z",
            "2023-11-14T22:13:+2Z",
            "9999-12-31T00:00:00Z",
        ] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }
}
