//! How long sessions last.

use super::activity::SLACK;
use std::time::Duration;

/// A session is over when it is as old as `lasts`, and when nobody has used it for `idle`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SessionLife {
    pub(crate) lasts: Duration,
    pub(crate) idle: Duration,
}

impl SessionLife {
    pub(crate) const LASTS_H_DEFAULT: u32 = 30 * 24;
    pub(crate) const IDLE_H_DEFAULT: u32 = 14 * 24;
    /// A year.
    const HOURS_MAX: u32 = 365 * 24;

    /// None if a number is out of range: 1 hour to a year, and no idle time above the whole life.
    ///
    /// An hour is the least because what is known of activity is late by minutes: a session in use must not be over
    /// for want of a note.
    pub(crate) fn of_hours(lasts_h: u32, idle_h: u32) -> Option<Self> {
        let fits = (1..=Self::HOURS_MAX).contains(&lasts_h) && (1..=lasts_h).contains(&idle_h);
        let hours = |hours: u32| Duration::from_secs(u64::from(hours) * 3_600);
        fits.then(|| Self { lasts: hours(lasts_h), idle: hours(idle_h) })
    }

    /// From when on an unused one is refused: no sooner than said, and later by what activity may be behind.
    pub(super) fn refused_after(self) -> Duration {
        self.idle + SLACK
    }
}

impl Default for SessionLife {
    fn default() -> Self {
        let hours = |hours: u32| Duration::from_secs(u64::from(hours) * 3_600);
        Self { lasts: hours(Self::LASTS_H_DEFAULT), idle: hours(Self::IDLE_H_DEFAULT) }
    }
}
