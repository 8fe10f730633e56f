//! How much is admitted.

use super::Trial;
use crate::user::Broken;

pub(super) fn exact_remaining(trial: &Trial<'_>) -> Result<(), Broken> {
    let mut user = trial.seasoned()?;
    let left = user.remaining()?;
    let now_us = user.now_us;
    if left > 0 && !user.ask(user.take(now_us, left))?.admitted {
        return Err(user.broken("what remains is not admitted"));
    }
    if user.ask(user.take(now_us, left.saturating_add(1)))?.admitted {
        return Err(user.broken("more than what remains is admitted"));
    }
    Ok(())
}

/// Method: greedy users. One takes all that remains at an instant, piece by piece; another takes whatever the
/// history lets him, and his admissions are held against the policy's promises.
pub(super) fn never_over_admits(trial: &Trial<'_>) -> Result<(), Broken> {
    let mut user = trial.seasoned()?;
    let left = user.remaining()?;
    let mut taken: u64 = 0;
    let piece = trial.amount().max(1);
    // The last piece is what is left by then, so that all of it goes.
    for cost in [piece, piece, left.saturating_sub(piece.saturating_mul(2)), 1, piece, left, 1] {
        if cost > 0 && user.consume(cost)?.admitted {
            taken = taken.saturating_add(cost);
        }
        if taken > left {
            return Err(user.broken(&format!("{taken} were admitted at an instant at which {left} remained")));
        }
    }
    let mut greedy = trial.user();
    let mut admitted = Vec::new();
    for step in &trial.case.steps {
        greedy.go(step.pause.us(trial.scale));
        for cost in [step.amount.units(trial.scale), greedy.remaining()?] {
            if cost > 0 && greedy.consume(cost)?.admitted {
                admitted.push((greedy.now_us, cost));
            }
        }
    }
    for promise in &trial.subject.about().promises {
        promise.check(&trial.case.settings, &admitted).map_err(|what| greedy.broken(&what))?;
    }
    Ok(())
}
