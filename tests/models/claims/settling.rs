//! What a request or a reaper does from the cell's transaction on: claims held, settled by rows, answered.

use super::environments::{Kind, Request};
use super::state::{Decision, Due, Next, Pair, Present, Row, State, Step, Then};
use super::steps::Taker;
use cellar_directory::Settlement;

impl Taker<'_> {
    /// The cell's transaction.
    pub(super) fn commit(&self, state: &mut State, pair: &Pair) -> Step {
        let (Some(request), row) = (self.request, pair.first) else { return Step::Begin };
        let (intent, user) = (usize::from(row.intent), usize::from(row.user));
        let cell = &mut state.cells[usize::from(row.cell)];
        match cell.intents[intent] {
            Some(Decision::Refused) if self.rules.a_refused_intent_does_not_commit => look_at_all(pair, Then::No),
            Some(Decision::Committed { user, email }) if user == row.user && email == request.email => {
                let look = look_at_all(pair, Then::Done);
                match (request.kind, look) {
                    (Kind::SignUp, Step::Look(row, next)) if self.rules.a_repeat_looks_at_the_rows => {
                        Step::ActivateThenLook(row, next)
                    }
                    (Kind::SignUp, _) => hold_all(pair),
                    (Kind::Change, look) => look,
                }
            }
            Some(Decision::Committed { .. }) => look_at_all(pair, Then::No),
            decided => {
                let present = Present { email: row.email, intent: row.intent };
                let next = match (request.kind, cell.users[user]) {
                    (Kind::SignUp, None) => hold_all(pair),
                    (Kind::Change, Some(old)) => {
                        let of = |pepper| Due { pepper, email: old.email, user: row.user, intent: old.intent };
                        if self.rules.the_release_is_due_with_the_change {
                            cell.releases.extend(request.peppers.iter().map(|pepper| of(*pepper)));
                        }
                        state.changed[user] = true;
                        let due = of(*request.peppers.last().unwrap_or(&0));
                        Step::Hold(row, Next { rest: pair.second, looks: false, then: Then::Leaves(due) })
                    }
                    _ => return look_at_all(pair, Then::No),
                };
                state.undone |= decided.is_some();
                let cell = &mut state.cells[usize::from(row.cell)];
                cell.intents[intent] = Some(Decision::Committed { user: row.user, email: request.email });
                cell.users[user] = Some(present);
                next
            }
        }
    }

    /// A request that asks for one pepper goes on at the cell of the claim that it met; one that asks for two has
    /// been sent there, or settles here.
    pub(super) fn settles_at(&self, row: &Row) -> u8 {
        if self.request.is_some() && !self.has_two() { row.cell } else { self.cell }
    }

    pub(super) fn look(&self, state: &mut State, row: Row, next: Next) {
        let at = self.settles_at(&row);
        let cell = &state.cells[usize::from(at)];
        let committed = matches!(cell.intents[usize::from(row.intent)], Some(Decision::Committed { .. }));
        let home_first = committed && self.rules.the_home_before_the_claim;
        let next = match self.rules.settle(&row, at, cell) {
            Settlement::Refuse => Step::Refuse(row, next),
            Settlement::Hold if home_first => Step::ActivateThenHold(row, next),
            Settlement::Hold => Step::Hold(row, next),
            Settlement::Free if home_first => Step::ActivateThenFree(row, next),
            Settlement::Free => Step::Free(row, next),
            Settlement::Leave | Settlement::Later | Settlement::PassOn(_) => return self.finish(state, next),
        };
        self.go(state, next);
    }

    pub(super) fn finish(&self, state: &mut State, next: Next) {
        if let Some(row) = next.rest {
            let last = Next { rest: None, ..next };
            return self.go(state, if next.looks { Step::Look(row, last) } else { Step::Hold(row, last) });
        }
        let (step, mut then) = (state.tasks[self.task].step, next.then);
        let mut named = self.answered(step);
        if then == Then::AsDecided {
            let intent = self.request.map_or(0, |request| usize::from(request.intent));
            let decided = state.cells[usize::from(self.cell)].intents[intent];
            let email = self.request.map(|request| request.email);
            (then, named) = match decided {
                Some(Decision::Committed { user, email: asked }) if Some(asked) == email => (Then::Done, Some(user)),
                _ => (Then::No, None),
            };
        }
        if let (Then::Done, Some(Request { kind: Kind::SignUp, intent, .. })) = (then, self.request) {
            let committed = state.cells.iter().find_map(|cell| match cell.intents[usize::from(intent)] {
                Some(Decision::Committed { user, .. }) => Some(user),
                _ => None,
            });
            let told = &mut state.told[usize::from(intent)];
            let worn_out = told.is_some_and(|user| state.changed[usize::from(user)]);
            let user = named.or(committed);
            state.another_id |= !worn_out && told.is_some() && *told != user;
            *told = told.or(user);
        }
        let next = match then {
            Then::Leaves(due) => self.release(due),
            Then::No => self.refused(state),
            Then::Done | Then::AsDecided | Then::Nobody => self.given_up(),
        };
        self.go(state, next);
    }

    /// Whom an answer names.
    fn answered(&self, step: Step) -> Option<u8> {
        match step {
            Step::Hold(row, _) | Step::Free(row, _) | Step::Look(row, _) => Some(row.user),
            _ => None,
        }
    }
}

/// All claims are judged by the cell's rows, the last pepper's first.
pub(super) fn look_at_all(pair: &Pair, then: Then) -> Step {
    match pair.second {
        Some(last) => Step::Look(last, Next { rest: Some(pair.first), looks: true, then }),
        None => Step::Look(pair.first, then.alone()),
    }
}

/// Straight from the transaction: the home, then all claims.
fn hold_all(pair: &Pair) -> Step {
    Step::ActivateThenHold(pair.first, Next { rest: pair.second, looks: false, then: Then::Done })
}
