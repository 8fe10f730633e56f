//! One step of a request or of a reaper, as the processes take it.

use super::environments::{Kind, Request};
use super::rules::Rules;
use super::state::{Decision, Due, Home, Key, Present, Row, State, Step, Task, Then, Write};
use cellar_directory::claim_rules::{After, Met};
use cellar_directory::{Opened, Settlement};

/// Whose step it is.
pub struct Taker<'w> {
    pub rules: &'w Rules,
    pub task: usize,
    /// None: the reaper of `cell`.
    pub request: Option<Request>,
    pub cell: u8,
}

/// The conditional write that a step consists of, if it is one.
pub fn write_of(state: &State, step: Step, request: Option<Request>) -> Option<Write> {
    Some(match step {
        Step::Claim => {
            let Request { intent, user, cell, email, .. } = request?;
            Write::CreateClaim(Row { email, user, cell, intent, held: false, op: state.fresh_op() })
        }
        Step::Open(row) => Write::CreateHome(home_of(&row)),
        Step::TakeOver(row, met) => Write::ChangeHome { met, next: home_of(&row) },
        Step::ActivateThenHold(row, _) | Step::ActivateThenFree(row, _) | Step::ActivateThenLook(row, _) => {
            Write::Activate { user: row.user, intent: row.intent }
        }
        Step::Hold(row, _) => {
            Write::ChangeClaim { read: row.op, next: Row { held: true, op: state.fresh_op(), ..row } }
        }
        Step::Free(row, _) | Step::ReleaseFree(_, row) => Write::RemoveClaim { email: row.email, read: row.op },
        Step::Release(due) => Write::Activate { user: due.user, intent: due.intent },
        Step::Begin
        | Step::ReleaseFirst
        | Step::Ask(..)
        | Step::Commit(_)
        | Step::Look(..)
        | Step::Refuse(..)
        | Step::ReleaseLook(_)
        | Step::ReleaseDone(_)
        | Step::End => return None,
    })
}

fn home_of(row: &Row) -> Home {
    Home { user: row.user, cell: row.cell, creating: Some(row.intent) }
}

impl Taker<'_> {
    /// After the step's write was answered with yes, or believed to be.
    pub fn applied(&self, state: &mut State, write: Write) {
        let next = match (state.tasks[self.task].step, write) {
            (Step::Claim, Write::CreateClaim(row)) => self.claimed(row),
            (Step::Open(row) | Step::TakeOver(row, _), _) => {
                state.taken_over |= matches!(write, Write::ChangeHome { .. });
                Step::Commit(row)
            }
            (Step::Hold(_, then) | Step::Free(_, then), _) => return self.finish(state, then),
            (step, _) => activated(step),
        };
        self.go(state, next);
    }

    /// After a no, or a serial read: judges by the row that stands there now.
    pub fn met(&self, state: &mut State, key: Key) {
        let step = state.tasks[self.task].step;
        let next = match (step, key) {
            (Step::Claim, Key::Claim(email)) => match state.claims[usize::from(email)] {
                Some(met) => self.met_claim(met),
                None => step,
            },
            (Step::Open(row), Key::Home(user)) => match state.homes[usize::from(user)] {
                Some(met) => self.opened(&row, met),
                None => step,
            },
            (Step::TakeOver(row, refused), Key::Home(user)) => match state.homes[usize::from(user)] {
                Some(met) if met != refused => self.opened(&row, met),
                _ => step,
            },
            (Step::Hold(read, then) | Step::Free(read, then), Key::Claim(email)) => {
                let now = state.claims[usize::from(email)];
                match self.rules.after_change(&read, now.as_ref()) {
                    After::Done => return self.finish(state, then),
                    After::LookAgain => self.given_up(),
                    // Another claim than the one that was read only where that rule is off.
                    After::Repeat => match (step, now) {
                        (Step::Hold(..), Some(now)) => Step::Hold(now, then),
                        (_, Some(now)) => Step::Free(now, then),
                        (step, None) => step,
                    },
                }
            }
            // It is ACTIVE, or not this intent's; else it is tried again.
            (_, Key::Home(user)) => match write_of(state, step, self.request) {
                Some(Write::Activate { intent, .. })
                    if state.homes[usize::from(user)].is_some_and(|home| home.creating == Some(intent)) =>
                {
                    step
                }
                _ => activated(step),
            },
            (step, _) => activated(step),
        };
        self.go(state, next);
    }

    fn claimed(&self, row: Row) -> Step {
        match self.request.map(|request| request.kind) {
            Some(Kind::Change) => Step::Commit(row),
            _ => Step::Open(row),
        }
    }

    fn met_claim(&self, met: Row) -> Step {
        let Some(request) = self.request else { return Step::End };
        match self.rules.meet(&met, request.intent, request.cell) {
            // The router takes it to the claim's cell.
            Met::Elsewhere => self.claimed(met),
            Met::Mine if met.intent == request.intent && met.cell == request.cell => self.claimed(met),
            Met::Mine => self.claimed(Row { user: request.user, cell: request.cell, intent: request.intent, ..met }),
            Met::Taken => Step::End,
        }
    }

    fn opened(&self, row: &Row, met: Home) -> Step {
        match self.rules.open(&met, row) {
            Opened::Creating { .. } | Opened::Settled { .. } => Step::Commit(*row),
            Opened::OfAnother(_) if self.rules.takes_over_after_a_refusal => Step::Ask(*row, met),
            Opened::OfAnother(_) => Step::TakeOver(*row, met),
            Opened::Elsewhere { .. } | Opened::UserTaken => Step::Look(*row, Then::No),
        }
    }

    /// A step that is no conditional write.
    pub fn act(&self, state: &mut State) {
        let next = match state.tasks[self.task].step {
            Step::Begin => return self.begin(state),
            Step::ReleaseFirst => match self.due_of_user(state) {
                Some(due) => {
                    state.tasks[self.task] = Task { first: true, ..Task::at(self.release(due)) };
                    return;
                }
                None => Step::Claim,
            },
            Step::Ask(row, met) => {
                let asked = met.creating.unwrap_or_default();
                let at = if self.rules.asks_the_cell_of_the_home { met.cell } else { row.cell };
                let intents = &mut state.cells[usize::from(at)].intents;
                match intents[usize::from(asked)].get_or_insert(Decision::Refused) {
                    Decision::Refused => Step::TakeOver(row, met),
                    Decision::Committed { .. } => Step::Look(row, Then::No),
                }
            }
            Step::Commit(row) => self.commit(state, row),
            Step::Look(row, then) => return self.look(state, row, then),
            Step::Refuse(row, then) => {
                let at = if self.request.is_some() { row.cell } else { self.cell };
                let intents = &mut state.cells[usize::from(at)].intents;
                intents[usize::from(row.intent)].get_or_insert(Decision::Refused);
                Step::Look(row, then)
            }
            Step::ReleaseLook(due) => {
                state.decide(Key::Claim(due.email));
                match state.claims[usize::from(due.email)].filter(|row| self.rules.is_of(&due, row)) {
                    Some(row) => Step::ReleaseFree(due, row),
                    None => Step::ReleaseDone(due),
                }
            }
            Step::ReleaseDone(due) => {
                let cell = &mut state.cells[usize::from(self.cell)];
                cell.releases.retain(|other| *other != due);
                if state.tasks[self.task].first { Step::ReleaseFirst } else { self.given_up() }
            }
            step => step,
        };
        self.go(state, next);
    }

    fn begin(&self, state: &mut State) {
        let Some(request) = self.request else { return };
        let present = state.cells[usize::from(request.cell)].users[usize::from(request.user)];
        let Some(present) = present else { return };
        if present.email == request.email {
            state.decide(Key::Claim(request.email));
            match state.claims[usize::from(request.email)] {
                Some(row) if !row.held => self.go(state, Step::Look(row, Then::Done)),
                _ => self.finish(state, Then::Done),
            }
        } else if self.rules.commits_before_it_releases {
            self.go(state, Step::ReleaseFirst);
        } else {
            let due = Due { email: present.email, user: request.user, intent: present.intent };
            state.tasks[self.task] = Task { first: true, ..Task::at(self.release(due)) };
        }
    }

    fn due_of_user(&self, state: &State) -> Option<Due> {
        let user = self.request?.user;
        state.cells[usize::from(self.cell)].releases.iter().find(|due| due.user == user).copied()
    }

    pub fn release(&self, due: Due) -> Step {
        if self.rules.the_home_before_the_release { Step::Release(due) } else { Step::ReleaseLook(due) }
    }

    /// The cell's transaction.
    fn commit(&self, state: &mut State, row: Row) -> Step {
        let Some(request) = self.request else { return Step::Begin };
        let (intent, user) = (usize::from(row.intent), usize::from(row.user));
        let cell = &mut state.cells[usize::from(row.cell)];
        match cell.intents[intent] {
            Some(Decision::Refused) if self.rules.a_refused_intent_does_not_commit => Step::Look(row, Then::No),
            Some(Decision::Committed { user, email }) if user == row.user && email == request.email => {
                match request.kind {
                    Kind::Change => Step::Look(row, Then::Done),
                    Kind::SignUp if self.rules.a_repeat_looks_at_the_rows => Step::ActivateThenLook(row, Then::Done),
                    Kind::SignUp => Step::ActivateThenHold(row, Then::Done),
                }
            }
            Some(Decision::Committed { .. }) => Step::Look(row, Then::No),
            decided => {
                let present = Present { email: row.email, intent: row.intent };
                let next = match (request.kind, cell.users[user]) {
                    (Kind::SignUp, None) => Step::ActivateThenHold(row, Then::Done),
                    (Kind::Change, Some(old)) => {
                        let due = Due { email: old.email, user: row.user, intent: old.intent };
                        if self.rules.the_release_is_due_with_the_change {
                            cell.releases.push(due);
                        }
                        state.changed[user] = true;
                        Step::Hold(row, Then::Leaves(due))
                    }
                    _ => return Step::Look(row, Then::No),
                };
                state.undone |= decided.is_some();
                let cell = &mut state.cells[usize::from(row.cell)];
                cell.intents[intent] = Some(Decision::Committed { user: row.user, email: request.email });
                cell.users[user] = Some(present);
                next
            }
        }
    }

    fn look(&self, state: &mut State, row: Row, then: Then) {
        let at = if self.request.is_some() { row.cell } else { self.cell };
        let cell = &state.cells[usize::from(at)];
        let committed = matches!(cell.intents[usize::from(row.intent)], Some(Decision::Committed { .. }));
        let home_first = committed && self.rules.the_home_before_the_claim;
        let next = match self.rules.settle(&row, at, cell) {
            Settlement::Refuse => Step::Refuse(row, then),
            Settlement::Hold if home_first => Step::ActivateThenHold(row, then),
            Settlement::Hold => Step::Hold(row, then),
            Settlement::Free if home_first => Step::ActivateThenFree(row, then),
            Settlement::Free => Step::Free(row, then),
            Settlement::Leave | Settlement::Later | Settlement::PassOn(_) => return self.finish(state, then),
        };
        self.go(state, next);
    }

    fn finish(&self, state: &mut State, then: Then) {
        if let (Then::Done, Some(Request { kind: Kind::SignUp, intent, .. })) = (then, self.request) {
            let committed = state.cells.iter().find_map(|cell| match cell.intents[usize::from(intent)] {
                Some(Decision::Committed { user, .. }) => Some(user),
                _ => None,
            });
            let told = &mut state.told[usize::from(intent)];
            let worn_out = told.is_some_and(|user| state.changed[usize::from(user)]);
            let user = self.answered(state.tasks[self.task].step).or(committed);
            state.another_id |= !worn_out && told.is_some() && *told != user;
            *told = told.or(user);
        }
        let next = match then {
            Then::Leaves(due) => self.release(due),
            Then::Done | Then::No | Then::Nobody => self.given_up(),
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

    fn given_up(&self) -> Step {
        if self.request.is_some() { Step::End } else { Step::Begin }
    }

    fn go(&self, state: &mut State, step: Step) {
        let task = &mut state.tasks[self.task];
        *task = Task { step, unanswered: false, first: task.first && is_release(step) };
    }
}

fn is_release(step: Step) -> bool {
    matches!(step, Step::Release(_) | Step::ReleaseLook(_) | Step::ReleaseFree(..) | Step::ReleaseDone(_))
}

/// What follows a step whose write needs no judgement.
fn activated(step: Step) -> Step {
    match step {
        Step::ActivateThenHold(row, then) => Step::Hold(row, then),
        Step::ActivateThenFree(row, then) => Step::Free(row, then),
        Step::ActivateThenLook(row, then) => Step::Look(row, then),
        Step::Release(due) | Step::ReleaseFree(due, _) => Step::ReleaseLook(due),
        step => step,
    }
}
