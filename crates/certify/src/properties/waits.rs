//! What is said of waiting.

use super::Trial;
use crate::promise::moment;
use crate::user::{Broken, User};

const DAY_US: u64 = 86_400_000_000;

pub(super) fn honest_retry_after(trial: &Trial<'_>) -> Result<(), Broken> {
    let mut user = trial.seasoned()?;
    // Something is denied: what the case asks, or one more than is left.
    let cost = trial.amount().max(user.remaining()?.saturating_add(1));
    let now_us = user.now_us;
    let denied = user.ask(user.take(now_us, cost))?;
    if denied.admitted {
        return Ok(());
    }
    let admitted =
        |user: &mut User, at_us: u64| -> Result<bool, Broken> { Ok(user.ask(user.take(at_us, cost))?.admitted) };
    let wait_us = denied.retry_after_us;
    if wait_us == 0 {
        for later_us in [1, DAY_US, 31 * DAY_US, 366 * DAY_US, 3_660 * DAY_US] {
            if admitted(&mut user, now_us.saturating_add(later_us))? {
                return Err(user.broken("it was denied without a wait, as if none helped"));
            }
        }
        return Ok(());
    }
    if !admitted(&mut user, now_us.saturating_add(wait_us))? {
        return Err(user.broken("it is still denied when it was promised"));
    }
    if wait_us > 1 && admitted(&mut user, now_us.saturating_add(wait_us - 1))? {
        return Err(user.broken("it is admitted earlier than promised"));
    }
    Ok(())
}

pub(super) fn honest_reset_after(trial: &Trial<'_>) -> Result<(), Broken> {
    let mut user = trial.seasoned()?;
    let stands = user.peek(user.now_us)?;
    let full = |trial: &Trial<'_>, at_us: u64| trial.user().peek(at_us).map(|outcome| outcome.remaining);
    let back_us = user.now_us.saturating_add(stands.reset_after_us);
    if user.peek(back_us)?.remaining < full(trial, back_us)? {
        return Err(user.broken(&format!("not everything is back at {}", moment(back_us))));
    }
    let lacks = stands.remaining < full(trial, user.now_us)?;
    if lacks && stands.reset_after_us > 0 {
        let before_us = back_us - 1;
        // Where nobody has anything, at an hour that is closed, nothing is back.
        let before = full(trial, before_us)?;
        if before > 0 && user.peek(before_us)?.remaining >= before {
            return Err(user.broken(&format!("everything is back before {}", moment(back_us))));
        }
    }
    if lacks && stands.reset_after_us == 0 {
        return Err(user.broken("something is lacking, and nothing is to come back"));
    }
    Ok(())
}
