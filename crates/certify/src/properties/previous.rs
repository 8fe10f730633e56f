//! A version and the one before it, each with what the other has written.

use super::Trial;
use crate::subject::Subject;
use crate::user::{Broken, User};

pub(super) fn reads_previous(trial: &Trial<'_>) -> Result<(), Broken> {
    let Some((previous, parameters)) = &trial.previous else { return Ok(()) };
    handed_over(trial, (*previous, parameters), (trial.subject, &trial.parameters), "the version before it")
}

pub(super) fn read_by_previous(trial: &Trial<'_>) -> Result<(), Broken> {
    let Some((previous, parameters)) = &trial.previous else { return Ok(()) };
    handed_over(trial, (trial.subject, &trial.parameters), (*previous, parameters), "this version")
}

type Side<'s> = (&'s dyn Subject, &'s [u8]);

/// Method: a user lives under `writer` and goes on under `reader`, at one instant. Under the same schema the state
/// is handed over as it is, as a cell does it; else the reader migrates it. Where both say how much a new user has,
/// what is lacking of it is what was spent.
fn handed_over(trial: &Trial<'_>, writer: Side<'_>, reader: Side<'_>, who: &str) -> Result<(), Broken> {
    let mut user = User::new(writer.0, writer.1, trial.user().now_us);
    user.live(&trial.case.steps, trial.scale)?;
    if user.state.is_empty() {
        return Ok(());
    }
    let (written, read) = (writer.0.about().state_schema, reader.0.about().state_schema);
    let mut other = User::new(reader.0, reader.1, user.now_us);
    other.state.clone_from(&user.state);
    if written != read {
        other.state = other.migrate(written)?;
    }
    let spent = lacking(&mut user, writer)?;
    let fresh = fresh(&other, reader)?;
    let found = lacking(&mut other, reader)?;
    let expected = spent.min(fresh);
    // Parts of a unit are rounded against the user, by one unit at most.
    if found < expected || found > expected.saturating_add(1).min(fresh) {
        return Err(other.broken(&format!("{spent} were spent under {who}, and {found} are lacking of {fresh} here")));
    }
    Ok(())
}

fn fresh(user: &User, side: Side<'_>) -> Result<u64, Broken> {
    User::new(side.0, side.1, user.now_us).remaining()
}

/// How much less is left than to a new user.
fn lacking(user: &mut User, side: Side<'_>) -> Result<u64, Broken> {
    Ok(fresh(user, side)?.saturating_sub(user.remaining()?))
}
