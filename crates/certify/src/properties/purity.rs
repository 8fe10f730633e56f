//! A pure function that answers.

use super::Trial;
use crate::user::{Broken, Call, User, request, settle};
use cellar_policy_host::Operation;

/// Whatever is asked, in whatever order.
pub(super) fn answers(trial: &Trial<'_>) -> Result<(), Broken> {
    let mut user = trial.user();
    for (n, step) in trial.case.steps.iter().enumerate() {
        user.go(step.pause.us(trial.scale));
        let (now_us, cost) = (user.now_us, step.amount.units(trial.scale));
        match n % 4 {
            0 | 1 => user.tell(request(Operation::Consume, now_us, cost))?,
            2 => user.tell(request(Operation::Reserve, now_us, cost))?,
            _ => user.tell(settle(now_us, cost, trial.amount(), now_us.saturating_sub(trial.pause_us())))?,
        };
        let before = user.peek(now_us)?;
        // A denial that is remembered anywhere shows in what is left.
        let denied = !user.ask(request(Operation::Consume, now_us, before.limit.saturating_add(1)))?.admitted;
        let after = user.peek(now_us)?;
        if !denied {
            return Err(user.broken("more than its own limit is admitted"));
        }
        if after != before {
            return Err(user.broken("a denied call has changed what is left"));
        }
    }
    Ok(())
}

/// Method: what one instance was asked in the order of the history, another is asked backwards, and a third in the
/// same order once more. Fuel is compared in the same order only: what a call burns also depends on the heap that
/// earlier calls left behind.
pub(super) fn deterministic(trial: &Trial<'_>) -> Result<(), Broken> {
    let user = trial.seasoned()?;
    let again = |calls: &mut dyn Iterator<Item = &Call>, same_order: bool| -> Result<(), Broken> {
        let mut other = User::new(trial.subject, &trial.parameters, user.now_us);
        for call in calls {
            other.state.clone_from(&call.state);
            let outcome = other.ask(call.request)?;
            let fuel = other.calls.last().map_or(0, |call| call.fuel);
            if outcome != call.outcome {
                return Err(user.broken(&format!(
                    "asked again, with the same state, of another instance, the call at {} us is answered {outcome:?} and not {:?}",
                    call.request.now_us, call.outcome
                )));
            }
            if same_order && fuel != call.fuel {
                return Err(user.broken(&format!("the same calls burn {fuel} units of fuel, and burnt {}", call.fuel)));
            }
        }
        Ok(())
    };
    again(&mut user.calls.iter().rev(), false)?;
    again(&mut user.calls.iter(), true)
}

pub(super) fn migrates(trial: &Trial<'_>) -> Result<(), Broken> {
    let mut user = trial.seasoned()?;
    if user.state.is_empty() {
        return Ok(());
    }
    let at_us = user.now_us.saturating_add(trial.pause_us());
    let before = (user.remaining()?, user.peek(at_us)?.remaining);
    let migrated = user.migrate(trial.subject.about().state_schema)?;
    let mut other = user.twin(trial.subject);
    other.state = migrated;
    let after = (other.remaining()?, other.peek(at_us)?.remaining);
    if before != after {
        return Err(user.broken(&format!("migrated, {} and later {} are left instead", after.0, after.1)));
    }
    Ok(())
}
