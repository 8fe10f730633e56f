//! Charged now, corrected later.

use super::Trial;
use crate::user::{Broken, request, settle};
use cellar_policy_host::Operation;

/// Method: of three users one reserves and settles, one takes the settled amount at once, and one never asked.
pub(super) fn settle_conserves(trial: &Trial<'_>) -> Result<(), Broken> {
    let mut user = trial.seasoned()?;
    let (mut lesser, mut without) = (user.twin(trial.subject), user.twin(trial.subject));
    let held_at_us = user.now_us;
    let held = trial.amount().min(user.remaining()?);
    if held == 0 || !user.tell(request(Operation::Reserve, held_at_us, held))?.admitted {
        return Ok(());
    }
    let used = u64::try_from(u128::from(held) * u128::from(trial.case.share) / 1_000).unwrap_or(0);
    if used > 0 {
        lesser.consume(used)?;
    }
    // At the same instant nothing has come back yet: it is as if the lesser amount had been taken.
    let mut at_once = user.twin(trial.subject);
    at_once.tell(settle(held_at_us, used, held, held_at_us))?;
    let (found, expected) = (at_once.remaining()?, lesser.remaining()?);
    if found != expected {
        return Err(
            at_once.broken(&format!("{found} are left where {expected} would be, had {used} been taken at once"))
        );
    }
    overshoot(trial, &user, held, held_at_us)?;
    // Later, and in another period: never better than the lesser amount, nor than nothing.
    for one in [&mut user, &mut lesser, &mut without] {
        one.go(trial.pause_us());
    }
    // Something is spent by then, which a gift would take away.
    let again = held.min(user.remaining()?);
    for one in [&mut user, &mut lesser, &mut without] {
        if again > 0 && !one.consume(again)?.admitted {
            return Err(one.broken("who has reserved more was admitted this"));
        }
    }
    user.tell(settle(user.now_us, used, held, held_at_us))?;
    let (found, lesser, without) = (user.remaining()?, lesser.remaining()?, without.remaining()?);
    if found > lesser || found > without {
        return Err(user.broken(&format!(
            "{found} are left; had {used} been taken at once, {lesser} would be, and without any of it {without}"
        )));
    }
    Ok(())
}

/// What was used above what was held is charged, whatever the limit says.
fn overshoot(trial: &Trial<'_>, reserved: &crate::user::User, held: u64, held_at_us: u64) -> Result<(), Broken> {
    let mut user = reserved.twin(trial.subject);
    let left = user.remaining()?;
    let more = trial.amount().max(1);
    let outcome = user.tell(settle(held_at_us, held.saturating_add(more), held, held_at_us))?;
    if !outcome.admitted {
        return Err(user.broken("a settle was denied: what was used was used"));
    }
    let (found, expected) = (user.remaining()?, left.saturating_sub(more));
    if found != expected {
        return Err(
            user.broken(&format!("{more} more were used than held, and {found} are left instead of {expected}"))
        );
    }
    Ok(())
}
