//! daily-window against an oracle that keeps every charge by the local date on which its window opened.

#![allow(clippy::unwrap_used, reason = "what cannot be unwrapped is the test's failure")]

#[path = "../../../tests/policies/user.rs"]
mod user;

use cellar_policy_daily_window::{DAY_MINUTES, DailyWindow, LIMIT_MAX};
use cellar_policy_sdk::{Operation, Request, configure};
use jiff::civil::Date;
use jiff::tz::Offset;
use jiff::{Timestamp, ToSpan};
use proptest::prelude::*;
use std::collections::HashMap;
use user::{Rule, User, us};

const MINUTE_US: u64 = 60_000_000;
const DAY_US: u64 = 86_400_000_000;

#[derive(Clone, Copy, Debug)]
struct Window {
    limit: u64,
    opens_at_minute: u64,
    open_minutes: u64,
    utc_offset_minutes: i64,
}

impl Rule for Window {
    type Policy = DailyWindow;

    fn settings(self) -> String {
        let Self { limit, opens_at_minute, open_minutes, utc_offset_minutes } = self;
        format!(
            r#"{{"limit":{limit},"opens_at_minute":{opens_at_minute},"open_minutes":{open_minutes},"utc_offset_minutes":{utc_offset_minutes}}}"#
        )
    }
}

impl Window {
    /// The date on which the window of that moment opened, and whether it is still open, by the calendar.
    fn day(self, at_us: u64) -> (Date, bool) {
        let offset = Offset::from_seconds(i32::try_from(self.utc_offset_minutes * 60).unwrap()).unwrap();
        let local = offset.to_datetime(Timestamp::from_microsecond(at_us as i64).unwrap());
        let minute = i64::from(local.hour()) * 60 + i64::from(local.minute());
        let since_opening = minute - i64::try_from(self.opens_at_minute).unwrap();
        let (date, since_opening) = if since_opening < 0 {
            (local.date().checked_sub(1.day()).unwrap(), since_opening + DAY_MINUTES as i64)
        } else {
            (local.date(), since_opening)
        };
        (date, since_opening < self.open_minutes as i64)
    }
}

fn windows() -> impl Strategy<Value = Window> {
    let limit = prop_oneof![1..50_u64, 1..=LIMIT_MAX];
    let opens = prop_oneof![Just(0_u64), 0..DAY_MINUTES];
    let open = prop_oneof![Just(DAY_MINUTES), 1..=DAY_MINUTES];
    let offset = prop_oneof![Just(0_i64), -720..=840_i64];
    (limit, opens, open, offset).prop_map(|(limit, opens_at_minute, open_minutes, utc_offset_minutes)| Window {
        limit,
        opens_at_minute,
        open_minutes,
        utc_offset_minutes,
    })
}

fn histories() -> impl Strategy<Value = (Window, Vec<(u64, u64)>)> {
    windows().prop_flat_map(|window| {
        let limit = window.limit;
        let pause = prop_oneof![Just(0_u64), 0..5_u64, 0..60 * MINUTE_US, 0..DAY_US, 0..40 * DAY_US];
        let cost = prop_oneof![Just(1_u64), 0..=limit, Just(limit), 1..=(limit / 3).max(1), Just(limit + 1)];
        (Just(window), prop::collection::vec((pause, cost), 1..50))
    })
}

fn starts() -> std::ops::Range<u64> {
    // The oracle's calendar is asked about the day before, too.
    2 * DAY_US..100 * 366 * DAY_US
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_day_ever_holds_more_than_its_limit_and_closed_hours_hold_nothing(
        (window, history) in histories(), start_us in starts(),
    ) {
        let (mut user, mut now_us, mut spent) = (User::new(window), start_us, HashMap::new());
        for (pause_us, cost) in history {
            now_us += pause_us;
            let (day, open) = window.day(now_us);
            let spent: &mut u64 = spent.entry(day).or_default();
            let outcome = user.consume(now_us, cost);
            prop_assert_eq!(outcome.admitted, cost == 0 || (open && *spent + cost <= window.limit));
            if outcome.admitted {
                *spent += cost;
            } else {
                prop_assert_eq!(&outcome.state, &None);
            }
            prop_assert_eq!(outcome.remaining, if open { window.limit - *spent } else { 0 });
            prop_assert_eq!(outcome.limit, window.limit);
        }
    }

    #[test]
    fn waits_end_when_the_next_window_opens((window, history) in histories(), start_us in starts()) {
        let (mut user, mut now_us) = (User::new(window), start_us);
        for (pause_us, cost) in history {
            now_us += pause_us;
            let outcome = user.consume(now_us, cost);
            let end_us = now_us + outcome.reset_after_us;
            let (today, _) = window.day(now_us);
            prop_assert_eq!(window.day(end_us), (today.tomorrow().unwrap(), true));
            prop_assert_eq!(window.day(end_us - 1).0, today);
            prop_assert_eq!(user.remaining(end_us), window.limit);
            if !outcome.admitted && cost <= window.limit {
                prop_assert_eq!(outcome.retry_after_us, outcome.reset_after_us);
                let at = |at_us| user.ask(&Request::new(Operation::Consume, at_us, cost)).admitted;
                prop_assert!(at(end_us) && !at(end_us - 1));
            }
        }
    }

    /// At the change nothing is forgotten or invented. Later nothing that was spent in the day at hand is forgotten,
    /// and a day that began after the change begins at zero.
    #[test]
    fn other_hours_and_limits_find_what_was_spent(
        (from, history) in histories(), to in windows(), start_us in starts(), pauses in prop::collection::vec(0..DAY_US, 1..5),
    ) {
        let (mut user, mut now_us, mut charges) = (User::new(from), start_us, Vec::new());
        for (pause_us, cost) in history {
            now_us += pause_us;
            if user.consume(now_us, cost).admitted {
                charges.push((now_us, cost));
            }
        }
        let last = charges.last().copied();
        // A day that was over before the change stays over, under whichever settings.
        let last_day = last.map(|(at, _)| from.day(at).0);
        charges.retain(|(at, _)| Some(from.day(*at).0) == last_day);
        let today: u64 = charges.iter().filter(|(at, _)| from.day(*at).0 == from.day(now_us).0).map(|(_, cost)| cost).sum();
        let to = Window { open_minutes: DAY_MINUTES, ..to };
        user.goes_under(to);
        if last.is_some_and(|(at, cost)| at == now_us && cost > 0) {
            prop_assert_eq!(user.remaining(now_us), to.limit.saturating_sub(today));
        }
        let changed = to.day(now_us).0;
        for pause_us in pauses {
            now_us += pause_us;
            let day = to.day(now_us).0;
            let spent: u64 = charges.iter().filter(|(at, _)| to.day(*at).0 == day).map(|(_, cost)| cost).sum();
            prop_assert!(user.remaining(now_us) <= to.limit.saturating_sub(spent), "something is forgotten");
            prop_assert!(day == changed || user.remaining(now_us) == to.limit, "something is invented");
        }
    }
}

const OFFICE: Window = Window { limit: 10, opens_at_minute: 9 * 60, open_minutes: 8 * 60, utc_offset_minutes: 60 };

#[test]
fn a_window_opens_and_closes_to_the_microsecond() {
    let mut user = User::new(OFFICE);
    let (opens, closes) = (us("2024-03-01T08:00:00"), us("2024-03-01T16:00:00"));
    let early = user.consume(opens - 1, 1);
    assert_eq!((early.admitted, early.retry_after_us, early.note), (false, 1, 2));
    assert!(user.consume(opens, 4).admitted);
    assert!(user.consume(closes - 1, 6).admitted);
    let late = user.consume(closes, 1);
    assert_eq!((late.admitted, late.retry_after_us, late.note), (false, 16 * 60 * MINUTE_US, 2));
    assert!(user.consume(opens + DAY_US, 10).admitted);
}

#[test]
fn a_window_over_midnight_is_one_window() {
    let mut user = User::new(Window { opens_at_minute: 22 * 60, utc_offset_minutes: 0, ..OFFICE });
    assert!(user.consume(us("2024-03-01T23:59:59.999999"), 6).admitted);
    assert!(!user.consume(us("2024-03-02T00:00:00"), 5).admitted);
    assert!(user.consume(us("2024-03-02T05:59:59.999999"), 4).admitted);
    assert_eq!(user.consume(us("2024-03-02T06:00:00"), 1).note, 2);
}

#[test]
fn the_first_day_of_all_is_counted_whole() {
    let mut user = User::new(Window { opens_at_minute: 60, open_minutes: 120, limit: 10, utc_offset_minutes: 0 });
    assert!(!user.consume(0, 1).admitted);
    assert!(user.consume(60 * MINUTE_US, 10).admitted);
    assert_eq!(user.consume(180 * MINUTE_US, 1).note, 2);
    assert!(user.consume(DAY_US + 60 * MINUTE_US, 10).admitted);
}

#[test]
fn a_cost_above_the_limit_never_passes_and_says_so() {
    let outcome = User::new(OFFICE).consume(us("2024-03-01T12:00:00"), 11);
    assert_eq!((outcome.admitted, outcome.retry_after_us, outcome.note), (false, 0, 1));
}

#[test]
fn a_settle_adjusts_the_day_that_took_it_and_is_charged_at_any_hour() {
    let mut user = User::new(OFFICE);
    let (taken, closed, next) = (us("2024-03-01T15:59:00"), us("2024-03-01T16:01:00"), us("2024-03-02T08:00:00"));
    user.tell(&Request::new(Operation::Reserve, taken, 8));
    user.tell(&Request::settle(closed, 3, 8, taken));
    assert_eq!(user.remaining(us("2024-03-01T15:59:30")), 7);
    let given = user.tell(&Request::settle(next, 0, 3, taken));
    assert_eq!((given.admitted, given.remaining, given.state), (true, 10, None));
    assert_eq!(user.tell(&Request::settle(next, 25, 3, taken)).remaining, 0);
    for _ in 0..3 {
        user.tell(&Request::settle(next, u64::MAX, 0, next));
    }
    assert!(!user.consume(next, 1).admitted);
}

#[test]
fn hours_that_do_not_exist_are_refused_at_their_places() {
    let problems =
        configure::<DailyWindow>(r#"{"limit":1,"opens_at_minute":1440,"open_minutes":0,"utc_offset_minutes":841}"#);
    let said: Vec<String> = problems.unwrap_err().into_iter().map(|p| p.pointer).collect();
    assert_eq!(said, ["/open_minutes", "/opens_at_minute", "/utc_offset_minutes"]);
}
