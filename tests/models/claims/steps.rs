//! One step of a request or of a reaper, as the processes take it.

use super::environments::{Kind, Request};
use super::rules::Rules;
use super::settling::look_at_all;
use super::state::{Decision, Due, Home, Key, Next, Pair, Present, Row, State, Step, Task, Then, Write, slot};
use cellar_directory::claim_rules::{After, Met};
use cellar_directory::{Joined, Opened};

/// Times a sign-up is sent on.
const SENT_MAX: u8 = 3;

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
            let Request { intent, user, cell, email, peppers, .. } = request?;
            let op = state.fresh_op();
            Write::CreateClaim(Row { pepper: peppers[0], email, user, cell, intent, held: false, op })
        }
        Step::ClaimNext(first) => {
            let pepper = request?.peppers[1];
            Write::CreateClaim(Row { pepper, held: false, op: state.fresh_op(), ..first })
        }
        Step::Fill(row) => Write::CreateClaim(Row { op: state.fresh_op(), ..row }),
        Step::Follow(first, last) => {
            let next = Row { user: last.user, cell: last.cell, op: state.fresh_op(), ..first };
            Write::ChangeClaim { read: first.op, next }
        }
        Step::Open(pair) => Write::CreateHome(home_of(&pair.first)),
        Step::TakeOver(pair, met) => Write::ChangeHome { met, next: home_of(&pair.first) },
        Step::ActivateThenHold(row, _) | Step::ActivateThenFree(row, _) | Step::ActivateThenLook(row, _) => {
            Write::Activate { user: row.user, intent: row.intent }
        }
        Step::Hold(row, _) => {
            Write::ChangeClaim { read: row.op, next: Row { held: true, op: state.fresh_op(), ..row } }
        }
        Step::Free(row, _) | Step::ReleaseFree(_, row) => Write::RemoveClaim { slot: row.slot(), read: row.op },
        Step::Release(due) => Write::Activate { user: due.user, intent: due.intent },
        Step::Begin
        | Step::ReleaseFirst
        | Step::TakenFirst
        | Step::Join(..)
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
            (Step::ClaimNext(first), Write::CreateClaim(row)) => self.placed(Pair { first, second: Some(row) }),
            (Step::Fill(_), Write::CreateClaim(row)) => Step::Look(row, Then::Nobody.alone()),
            (Step::Follow(first, last), _) => {
                state.joined = true;
                self.followed(state, &first, &last)
            }
            (Step::Open(pair) | Step::TakeOver(pair, _), _) => {
                state.taken_over |= matches!(write, Write::ChangeHome { .. });
                Step::Commit(pair)
            }
            (Step::Hold(_, next) | Step::Free(_, next), _) => return self.finish(state, next),
            (step, _) => activated(step),
        };
        self.go(state, next);
    }

    /// After a no, or a serial read: judges by the row that stands there now.
    pub fn met(&self, state: &mut State, key: Key) {
        let step = state.tasks[self.task].step;
        let next = match (step, key) {
            (Step::Claim, Key::Claim(slot)) => match state.claims[slot] {
                Some(met) => self.met_claim(state, met),
                None => step,
            },
            (Step::ClaimNext(first), Key::Claim(slot)) => match state.claims[slot] {
                Some(met) => self.met_next(first, met),
                None => step,
            },
            (Step::Fill(row), Key::Claim(slot)) => match state.claims[slot] {
                Some(met) if (met.user, met.intent, met.cell) == (row.user, row.intent, row.cell) => {
                    Step::Look(met, Then::Nobody.alone())
                }
                Some(_) => Step::Begin,
                None => step,
            },
            (Step::Open(pair), Key::Home(user)) => match state.homes[usize::from(user)] {
                Some(met) => self.opened(&pair, met),
                None => step,
            },
            (Step::TakeOver(pair, refused), Key::Home(user)) => match state.homes[usize::from(user)] {
                Some(met) if met != refused => self.opened(&pair, met),
                _ => step,
            },
            (Step::Follow(first, last), Key::Claim(slot)) => {
                match self.rules.after_change(&first, state.claims[slot].as_ref()) {
                    After::Done => self.followed(state, &first, &last),
                    After::LookAgain => self.given_up(),
                    After::Repeat => step,
                }
            }
            (Step::Hold(read, next) | Step::Free(read, next), Key::Claim(slot)) => {
                let now = state.claims[slot];
                match self.rules.after_change(&read, now.as_ref()) {
                    After::Done => return self.finish(state, next),
                    After::LookAgain => self.given_up(),
                    // Another claim than the one that was read only where that rule is off.
                    After::Repeat => match (step, now) {
                        (Step::Hold(..), Some(now)) => Step::Hold(now, next),
                        (_, Some(now)) => Step::Free(now, next),
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

    pub(super) fn has_two(&self) -> bool {
        self.request.is_some_and(|request| request.peppers.len() > 1)
    }

    /// The first is this intent's.
    fn claimed(&self, row: Row) -> Step {
        if self.has_two() && self.rules.claims_under_every_pepper {
            Step::ClaimNext(row)
        } else {
            self.placed(Pair { first: row, second: None })
        }
    }

    /// All are.
    fn placed(&self, pair: Pair) -> Step {
        match self.request.map(|request| request.kind) {
            Some(Kind::Change) => Step::Commit(pair),
            _ => Step::Open(pair),
        }
    }

    fn met_claim(&self, state: &mut State, met: Row) -> Step {
        let Some(request) = self.request else { return Step::End };
        match self.rules.meet(&met, request.intent, request.cell) {
            Met::Elsewhere if self.has_two() => self.sent_on(state, met.cell),
            // The router takes it to the claim's cell.
            Met::Elsewhere => self.claimed(met),
            Met::Mine if met.intent == request.intent && met.cell == request.cell => self.claimed(met),
            Met::Mine => self.claimed(Row { user: request.user, cell: request.cell, intent: request.intent, ..met }),
            Met::Taken if self.has_two() && self.rules.looks_under_the_next => Step::TakenFirst,
            Met::Taken => self.refused(state),
        }
    }

    fn met_next(&self, first: Row, met: Row) -> Step {
        match self.rules.meet(&met, first.intent, first.cell) {
            Met::Taken => Step::Look(first, Then::AsDecided.alone()),
            Met::Mine if met.user == first.user => self.placed(Pair { first, second: Some(met) }),
            _ if !self.rules.follows_the_last_pepper => self.placed(Pair { first, second: Some(met) }),
            _ => Step::Join(first, met),
        }
    }

    /// The router takes it to the cell that a claim names, where it begins anew.
    fn sent_on(&self, state: &mut State, cell: u8) -> Step {
        let task = &mut state.tasks[self.task];
        if task.sent == SENT_MAX || self.request.is_some_and(|request| request.kind == Kind::Change) {
            return Step::End;
        }
        task.sent += 1;
        task.sent_to = Some(cell);
        Step::Claim
    }

    fn followed(&self, state: &mut State, first: &Row, last: &Row) -> Step {
        if first.cell == last.cell { Step::Claim } else { self.sent_on(state, last.cell) }
    }

    /// The answer is no.
    pub(super) fn refused(&self, state: &mut State) -> Step {
        if let Some(Request { kind: Kind::SignUp, intent, email, .. }) = self.request
            && state.tasks[self.task].told.unwrap_or(true)
            && let Some(user) = state.told[usize::from(intent)]
        {
            let has = Some(Present { email, intent });
            state.denied |= state.cells.iter().any(|cell| cell.users[usize::from(user)] == has);
        }
        self.given_up()
    }

    fn opened(&self, pair: &Pair, met: Home) -> Step {
        match self.rules.open(&met, &pair.first) {
            Opened::Creating { .. } | Opened::Settled { .. } => Step::Commit(*pair),
            Opened::OfAnother(_) if self.rules.takes_over_after_a_refusal => Step::Ask(*pair, met),
            Opened::OfAnother(_) => Step::TakeOver(*pair, met),
            Opened::Elsewhere { .. } | Opened::UserTaken => look_at_all(pair, Then::No),
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
            Step::TakenFirst => self.taken_first(state),
            Step::Join(first, last) => self.join(state, first, last),
            Step::Ask(pair, met) => {
                let asked = met.creating.unwrap_or_default();
                let at = if self.rules.asks_the_cell_of_the_home { met.cell } else { pair.first.cell };
                let intents = &mut state.cells[usize::from(at)].intents;
                match intents[usize::from(asked)].get_or_insert(Decision::Refused) {
                    Decision::Refused => Step::TakeOver(pair, met),
                    Decision::Committed { .. } => look_at_all(&pair, Then::No),
                }
            }
            Step::Commit(pair) => self.commit(state, &pair),
            Step::Look(row, next) => return self.look(state, row, next),
            Step::Refuse(row, next) => {
                let intents = &mut state.cells[usize::from(self.settles_at(&row))].intents;
                intents[usize::from(row.intent)].get_or_insert(Decision::Refused);
                Step::Look(row, next)
            }
            Step::ReleaseLook(due) => {
                let at = slot(due.pepper, due.email);
                state.decide(Key::Claim(at));
                match state.claims[at].filter(|row| self.rules.is_of(&due, row)) {
                    Some(row) => Step::ReleaseFree(due, row),
                    None => Step::ReleaseDone(due),
                }
            }
            Step::ReleaseDone(due) => {
                let cell = &mut state.cells[usize::from(self.cell)];
                cell.releases.retain(|other| *other != due);
                match self.due_of_user(state) {
                    _ if state.tasks[self.task].first => Step::ReleaseFirst,
                    Some(due) => self.release(due),
                    None => self.given_up(),
                }
            }
            step => step,
        };
        self.go(state, next);
    }

    /// The first claim is another's. A process that does not ask for it may have committed this intent.
    fn taken_first(&self, state: &mut State) -> Step {
        let Some(request) = self.request else { return Step::End };
        let at = slot(request.peppers[1], request.email);
        state.decide(Key::Claim(at));
        let Some(met) = state.claims[at] else { return self.refused(state) };
        match self.rules.meet(&met, request.intent, request.cell) {
            Met::Mine => Step::Look(met, Then::AsDecided.alone()),
            Met::Elsewhere => self.sent_on(state, met.cell),
            Met::Taken => self.refused(state),
        }
    }

    fn join(&self, state: &mut State, first: Row, last: Row) -> Step {
        let cell = &mut state.cells[usize::from(first.cell)];
        match self.rules.join(&first, &last, cell) {
            Joined::Rewrite | Joined::PassOn => Step::Follow(first, last),
            Joined::Refuse => {
                cell.intents[usize::from(first.intent)].get_or_insert(Decision::Refused);
                Step::Join(first, last)
            }
            Joined::Decided => look_at_all(&Pair { first, second: Some(last) }, Then::AsDecided),
        }
    }

    fn begin(&self, state: &mut State) {
        let Some(request) = self.request else { return };
        let present = state.cells[usize::from(request.cell)].users[usize::from(request.user)];
        let Some(present) = present else { return };
        if present.email == request.email {
            let mut unsettled = request.peppers.iter().filter_map(|pepper| {
                let at = slot(*pepper, request.email);
                state.decide(Key::Claim(at));
                state.claims[at].filter(|row| !row.held)
            });
            match (unsettled.next(), unsettled.next()) {
                (Some(row), rest) => self.go(state, Step::Look(row, Next { rest, ..Then::Done.alone() })),
                (None, _) => self.finish(state, Then::Done.alone()),
            }
        } else if self.rules.commits_before_it_releases {
            self.go(state, Step::ReleaseFirst);
        } else {
            let due = Due { pepper: 0, email: present.email, user: request.user, intent: present.intent };
            state.tasks[self.task] = Task { first: true, ..Task::at(self.release(due)) };
        }
    }

    /// The last pepper's first.
    fn due_of_user(&self, state: &State) -> Option<Due> {
        let user = self.request?.user;
        state.cells[usize::from(self.cell)].releases.iter().rev().find(|due| due.user == user).copied()
    }

    pub fn release(&self, due: Due) -> Step {
        if self.rules.the_home_before_the_release { Step::Release(due) } else { Step::ReleaseLook(due) }
    }

    pub(super) fn given_up(&self) -> Step {
        if self.request.is_some() { Step::End } else { Step::Begin }
    }

    pub(super) fn go(&self, state: &mut State, step: Step) {
        let told = self.request.map(|request| state.told[usize::from(request.intent)].is_some());
        let task = &mut state.tasks[self.task];
        if task.step == Step::Claim {
            task.told = task.told.or(told);
        }
        *task = Task { step, unanswered: false, first: task.first && is_release(step), ..*task };
        if matches!(step, Step::End | Step::Begin) {
            *task = Task::at(step);
        }
    }
}

fn is_release(step: Step) -> bool {
    matches!(step, Step::Release(_) | Step::ReleaseLook(_) | Step::ReleaseFree(..) | Step::ReleaseDone(_))
}

/// What follows a step whose write needs no judgement.
fn activated(step: Step) -> Step {
    match step {
        Step::ActivateThenHold(row, next) => Step::Hold(row, next),
        Step::ActivateThenFree(row, next) => Step::Free(row, next),
        Step::ActivateThenLook(row, next) => Step::Look(row, next),
        Step::Release(due) | Step::ReleaseFree(due, _) => Step::ReleaseLook(due),
        step => step,
    }
}
