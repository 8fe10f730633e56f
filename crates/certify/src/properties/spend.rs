//! What spending, waiting and other settings do to what is left.

use super::Trial;
use crate::user::{Broken, User, said};
use serde_json::Value;

pub(super) fn monotone_in_time(trial: &Trial<'_>) -> Result<(), Broken> {
    let mut user = trial.seasoned()?;
    let mut left = user.remaining()?;
    let mut at_us = user.now_us;
    for pause in trial.case.steps.iter().map(|step| step.pause).chain([trial.case.pause]) {
        at_us = at_us.saturating_add(pause.us(trial.scale));
        let later = user.peek(at_us)?.remaining;
        if later < left {
            return Err(user.broken(&format!("waiting left {later}, where {left} were left")));
        }
        left = later;
    }
    Ok(())
}

/// Method: a twin who leaves out one of the admitted calls.
pub(super) fn monotone_in_spend(trial: &Trial<'_>) -> Result<(), Broken> {
    let left_out = trial.case.steps.len() * usize::from(trial.case.share) / 1_001;
    let (mut user, mut twin) = (trial.user(), trial.user());
    for (n, step) in trial.case.steps.iter().enumerate() {
        user.go(step.pause.us(trial.scale));
        twin.go(step.pause.us(trial.scale));
        let cost = step.amount.units(trial.scale);
        // Both spend the same, else they could not be compared: what the poorer one may.
        let admitted = user.consume(cost)?.admitted;
        if admitted && n != left_out && !twin.consume(cost)?.admitted {
            return Err(twin.broken("who has spent less is denied what the other was admitted"));
        }
        let (poorer, richer) = (user.remaining()?, twin.remaining()?);
        if richer < poorer {
            return Err(
                user.broken(&format!("a user who has not spent {} of it has {richer} left", spent(trial, left_out)))
            );
        }
    }
    Ok(())
}

fn spent(trial: &Trial<'_>, step: usize) -> u64 {
    trial.case.steps.get(step).map_or(0, |step| step.amount.units(trial.scale))
}

/// Method: the same settings with their member `limit` raised, if they have one.
pub(super) fn monotone_in_limit(trial: &Trial<'_>) -> Result<(), Broken> {
    let Some(limit) = trial.case.settings.get("limit").and_then(Value::as_u64) else { return Ok(()) };
    let mut settings = trial.case.settings.clone();
    settings["limit"] = limit.saturating_add(1 + limit.saturating_mul(u64::from(trial.case.share)) / 1_000).into();
    // Where the schema ends, nothing higher can be said.
    let Ok(higher) = trial.subject.configure(&settings) else { return Ok(()) };
    let (mut user, mut other) = (trial.user(), User::new(trial.subject, &higher, trial.user().now_us));
    for step in &trial.case.steps {
        let (pause_us, cost) = (step.pause.us(trial.scale), step.amount.units(trial.scale));
        user.go(pause_us);
        other.go(pause_us);
        if user.consume(cost)?.admitted && !other.consume(cost)?.admitted {
            return Err(said(&settings, &other.broken(&format!("a limit of {limit} admits it"))));
        }
    }
    Ok(())
}

/// At one instant: what was taken under these settings is lacking under others, and under these again.
pub(super) fn carries_spend(trial: &Trial<'_>) -> Result<(), Broken> {
    let mut user = trial.user();
    let cost = u128::from(user.remaining()?) * u128::from(trial.case.share) / 1_000;
    let cost = u64::try_from(cost).unwrap_or(0);
    if cost > 0 && !user.consume(cost)?.admitted {
        return Err(user.broken("less than what remains is not admitted"));
    }
    let left = user.remaining()?;
    let fresh = User::new(trial.subject, &trial.others, user.now_us).remaining()?;
    let mut moved = user.twin(trial.subject);
    moved.parameters.clone_from(&trial.others);
    let (found, expected) = (moved.remaining()?, fresh.saturating_sub(cost));
    if found != expected {
        let text =
            format!("under other settings, which leave {fresh} to a new user, {found} are left instead of {expected}");
        return Err(said(&trial.case.others, &user.broken(&text)));
    }
    // One who spends under the others comes back with both.
    let extra = found.min(1);
    if extra > 0 {
        moved.consume(extra)?;
    }
    moved.parameters.clone_from(&user.parameters);
    let (back, expected) = (moved.remaining()?, left.saturating_sub(extra));
    // Parts of a unit are rounded against the user, by one unit at most.
    if back > expected || back.saturating_add(1) < expected {
        let text = format!("back under these settings {back} are left instead of {expected}");
        return Err(said(&trial.case.others, &moved.broken(&text)));
    }
    Ok(())
}
