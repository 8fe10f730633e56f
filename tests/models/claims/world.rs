//! The world as a model: what may happen next, what then is, and what must hold.

use super::environments::{Environment, Kind, Request};
use super::rules::Rules;
use super::state::{
    CELLS, Cell, Decision, EMAILS, Home, INTENTS, PEPPERS, Present, Row, SLOTS, State, Step, Task, Then, USERS, Write,
    slot,
};
use super::steps::{Taker, write_of};
use cellar_directory::Settlement;
use stateright::{Model, Property};

#[derive(Clone, Copy, Debug)]
pub struct World {
    pub environment: Environment,
    pub rules: Rules,
}

/// Numbers are tasks, cells, e-mails, and places among the late writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Its next step; a write is answered.
    Step(usize),
    /// Its next step, a write, which is not answered.
    Unanswered(usize),
    Crash(usize),
    /// It stops after it has sent its write.
    CrashSending(usize),
    ReapClaim(usize, usize),
    /// A user's missing claim under the next pepper.
    Fill(usize, usize),
    ReapRelease(usize),
    Arrive(usize),
    /// It was lost on the way.
    Vanish(usize),
}

impl World {
    fn taker(&self, state: &State, task: usize) -> Taker<'_> {
        let sent_to = state.tasks[task].sent_to;
        let request = self.environment.requests.get(task).copied();
        let request = request.map(|request| Request { cell: sent_to.unwrap_or(request.cell), ..request });
        let cell = request.map_or_else(|| (task - self.environment.requests.len()) as u8, |request| request.cell);
        Taker { rules: &self.rules, task, request, cell }
    }

    /// Without the rule, a change of a claim goes over whatever stands there.
    fn apply(&self, state: &mut State, write: Write) -> bool {
        let stands = |slot: usize| state.claims[slot].map(|row| row.op);
        let write = match write {
            Write::ChangeClaim { next, .. } if !self.rules.changes_name_the_op => {
                let Some(read) = stands(next.slot()) else { return false };
                Write::ChangeClaim { read, next }
            }
            Write::RemoveClaim { slot, .. } if !self.rules.changes_name_the_op => {
                let Some(read) = stands(slot) else { return false };
                Write::RemoveClaim { slot, read }
            }
            write => write,
        };
        state.apply(write)
    }

    fn actions_of(&self, state: &State, task: usize, actions: &mut Vec<Action>) {
        let taker = self.taker(state, task);
        let Task { step, unanswered, .. } = state.tasks[task];
        match (step, taker.request) {
            (Step::Claim, Some(request)) if request.peppers == [1] && !self.first_may_go(state) => return,
            (Step::End, _) => return,
            (Step::Begin, Some(request)) => {
                if state.cells[usize::from(request.cell)].users[usize::from(request.user)].is_some() {
                    actions.push(Action::Step(task));
                }
                return;
            }
            (Step::Begin, None) => {
                let cell = usize::from(taker.cell);
                if self.rules.claims_are_reaped {
                    let found = (0..SLOTS).filter(|slot| self.is_found(state, &taker, *slot));
                    actions.extend(found.map(|slot| Action::ReapClaim(task, slot)));
                }
                if self.environment.backfill {
                    let users = state.cells[cell].users.iter().enumerate();
                    let missing = users.filter_map(|(user, present)| Some((user, (*present)?)));
                    let missing = missing.filter(|(_, present)| state.claims[slot(1, present.email)].is_none());
                    actions.extend(missing.map(|(user, _)| Action::Fill(task, user)));
                }
                if !state.cells[cell].releases.is_empty() {
                    actions.push(Action::ReapRelease(task));
                }
                return;
            }
            _ => {}
        }
        actions.push(Action::Step(task));
        let sends = write_of(state, step, taker.request).is_some() && !unanswered;
        if sends && state.unanswered > 0 {
            actions.push(Action::Unanswered(task));
        }
        if sends && state.crashes > 0 {
            actions.push(Action::CrashSending(task));
        }
        if state.crashes > 0 && step != Step::Claim {
            actions.push(Action::Crash(task));
        }
    }

    /// Whether the reaper comes to this claim: it is half way, or was left and is still held.
    fn is_found(&self, state: &State, taker: &Taker<'_>, slot: usize) -> bool {
        let Some(row) = state.claims[slot] else { return false };
        let named = row.cell == taker.cell || !self.rules.only_the_named_cell_settles;
        let rows = &state.cells[usize::from(taker.cell)];
        named && (!row.held || self.rules.settle(&row, taker.cell, rows) == Settlement::Free)
    }

    /// Whether a process without the first pepper may begin where one is to take the place of the other.
    fn first_may_go(&self, state: &State) -> bool {
        if !self.environment.backfill || !self.rules.drops_the_first_after_the_backfill {
            return true;
        }
        let requests = self.environment.requests.iter().zip(&state.tasks);
        let mut old = requests.filter(|(request, _)| request.peppers == [0]);
        old.all(|(_, task)| task.step == Step::End)
            && living(state).all(|(_, user, present)| {
                let claim = state.claims[slot(1, present.email)];
                claim.is_some_and(|row| row.held && usize::from(row.user) == user && row.intent == present.intent)
            })
    }

    fn step(&self, state: &mut State, task: usize) {
        let taker = self.taker(state, task);
        let Task { step, unanswered, .. } = state.tasks[task];
        let Some(write) = write_of(state, step, taker.request) else { return taker.act(state) };
        if unanswered {
            state.decide(write.key());
            taker.met(state, write.key());
        } else if self.apply(state, write) {
            taker.applied(state, write);
        } else {
            taker.met(state, write.key());
        }
    }

    /// A write is under way, and its sender does not know more.
    fn send(&self, state: &mut State, task: usize) {
        let taker = self.taker(state, task);
        if let Some(write) = write_of(state, state.tasks[task].step, taker.request) {
            state.late.push(write);
        }
    }

    fn crash(&self, state: &mut State, task: usize) {
        state.crashes -= 1;
        let request = self.taker(state, task).request;
        state.tasks[task] = Task::at(if request.is_some() { Step::End } else { Step::Begin });
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let requests = self.environment.requests.iter();
        let begin = |kind| if kind == Kind::SignUp { Step::Claim } else { Step::Begin };
        let mut tasks: Vec<Task> = requests.map(|request| Task::at(begin(request.kind))).collect();
        tasks.extend([Task::at(Step::Begin); CELLS]);
        let mut state = State {
            claims: [None; SLOTS],
            homes: [None; USERS],
            cells: [Cell::default(), Cell::default()],
            tasks,
            late: Vec::new(),
            crashes: self.environment.crashes,
            unanswered: self.environment.unanswered,
            told: [None; INTENTS],
            changed: [false; USERS],
            another_id: false,
            denied: false,
            undone: false,
            taken_over: false,
            joined: false,
            arrived_late: false,
        };
        if self.environment.settled {
            for pepper in self.environment.settled_under {
                let op = pepper + 1;
                let row = Row { pepper: *pepper, email: 0, user: 0, cell: 0, intent: 0, held: true, op };
                state.claims[row.slot()] = Some(row);
            }
            state.homes[0] = Some(Home { user: 0, cell: 0, creating: None });
            state.cells[0].intents[0] = Some(Decision::Committed { user: 0, email: 0 });
            state.cells[0].users[0] = Some(Present { email: 0, intent: 0 });
        }
        vec![state.normalise()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for task in 0..state.tasks.len() {
            self.actions_of(state, task, actions);
        }
        for (place, write) in state.late.iter().enumerate() {
            let names_op = self.rules.changes_name_the_op;
            if state.would_apply(*write) || !names_op {
                actions.push(Action::Arrive(place));
            }
            actions.push(Action::Vanish(place));
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Step(task) => self.step(&mut state, task),
            Action::Unanswered(task) => {
                state.unanswered -= 1;
                let write = write_of(&state, state.tasks[task].step, self.taker(&state, task).request)?;
                state.late.push(write);
                if self.rules.unanswered_writes_are_read_back {
                    state.tasks[task].unanswered = true;
                } else {
                    self.taker(last, task).applied(&mut state, write);
                }
            }
            Action::Crash(task) => self.crash(&mut state, task),
            Action::CrashSending(task) => {
                self.send(&mut state, task);
                self.crash(&mut state, task);
            }
            Action::ReapClaim(task, slot) => {
                state.decide(super::state::Key::Claim(slot));
                let row = state.claims[slot]?;
                state.tasks[task] = Task::at(Step::Look(row, Then::Nobody.alone()));
            }
            Action::Fill(task, user) => {
                let cell = self.taker(last, task).cell;
                let Present { email, intent } = state.cells[usize::from(cell)].users[user]?;
                let row = Row { pepper: 1, email, user: user as u8, cell, intent, held: false, op: 0 };
                state.tasks[task] = Task::at(Step::Fill(row));
            }
            Action::ReapRelease(task) => {
                let taker = self.taker(last, task);
                let due = *state.cells[usize::from(taker.cell)].releases.first()?;
                state.tasks[task] = Task::at(taker.release(due));
            }
            Action::Arrive(place) => {
                let write = state.late.remove(place);
                state.arrived_late |= self.apply(&mut state, write);
            }
            Action::Vanish(place) => {
                state.late.remove(place);
            }
        }
        Some(state.normalise())
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("an e-mail has one living user", |_, state: &State| {
                let mut users = [0; EMAILS];
                living(state).for_each(|(_, _, present)| users[usize::from(present.email)] += 1);
                users.iter().all(|users| *users <= 1)
            }),
            Property::always("a user lives in one cell", |_, state: &State| {
                let mut cells = [0; USERS];
                living(state).for_each(|(_, user, _)| cells[user] += 1);
                cells.iter().all(|cells| *cells <= 1)
            }),
            Property::always("a living user's e-mail is claimed by that user", |world: &World, state: &State| {
                let common = world.environment.common;
                living(state).all(|(_, user, present)| {
                    let mut peppers = (0..PEPPERS as u8).filter(|pepper| common.is_none_or(|common| common == *pepper));
                    peppers.any(|pepper| {
                        state.claims[slot(pepper, present.email)]
                            .is_some_and(|row| usize::from(row.user) == user && row.intent == present.intent)
                    })
                })
            }),
            Property::always("a repeat gets its own id", |_, state: &State| !state.another_id),
            Property::always("who was told of an account is not refused it", |_, state: &State| !state.denied),
            Property::always("a refused intent never commits", |_, state: &State| !state.undone),
            Property::always(
                "in the end directory and cells agree, and nothing is half way",
                |world: &World, state| !is_quiet(world, state) || agrees(state),
            ),
            Property::sometimes("it ends with a user more, or with another e-mail", |world: &World, state| {
                is_quiet(world, state)
                    && state.cells.iter().any(|cell| made(cell) > usize::from(world.environment.settled))
            }),
            Property::sometimes("it ends with nothing more than there was", |world: &World, state| {
                is_quiet(world, state)
                    && state.cells.iter().map(made).sum::<usize>() == usize::from(world.environment.settled)
            }),
        ];
        if self.environment.crashes + self.environment.unanswered > 0 {
            let arrives = |_: &World, state: &State| state.arrived_late;
            properties.push(Property::sometimes("a write takes effect late", arrives));
        }
        if self.environment.name.starts_with("a-repeat-from-new") {
            properties.push(Property::sometimes("a claim follows the last pepper's", |_, state: &State| state.joined));
        }
        if self.environment.name.starts_with("one-id-one-cell") {
            properties.push(Property::sometimes("a home is taken over", |_, state: &State| state.taken_over));
        }
        properties
    }
}

fn living(state: &State) -> impl Iterator<Item = (usize, usize, Present)> {
    state.cells.iter().enumerate().flat_map(|(at, cell)| {
        cell.users.iter().enumerate().filter_map(move |(user, present)| Some((at, user, (*present)?)))
    })
}

fn made(cell: &Cell) -> usize {
    cell.intents.iter().filter(|decision| matches!(decision, Some(Decision::Committed { .. }))).count()
}

/// Nothing can happen any more.
fn is_quiet(world: &World, state: &State) -> bool {
    let mut actions = Vec::new();
    world.actions(state, &mut actions);
    actions.is_empty()
}

/// What `cellctl directory audit` looks at, with nothing under way.
fn agrees(state: &State) -> bool {
    let of = |row: &Row| state.cells[usize::from(row.cell)].users[usize::from(row.user)];
    let claims = state.claims.iter().flatten().all(|row| {
        row.held && of(row).is_some_and(|present| present.email == row.email && present.intent == row.intent)
    });
    let homes = living(state).all(|(cell, user, _)| {
        state.homes[user].is_some_and(|home| usize::from(home.cell) == cell && home.creating.is_none())
    });
    claims && homes && state.cells.iter().all(|cell| cell.releases.is_empty())
}

pub fn describe(state: &State, action: Action) -> String {
    match action {
        Action::Step(task) => format!("{task} {:?}", state.tasks[task]),
        Action::Unanswered(task) | Action::CrashSending(task) | Action::Crash(task) => {
            format!("{action:?} at {:?}", state.tasks[task].step)
        }
        Action::Arrive(place) | Action::Vanish(place) => format!("{action:?} {:?}", state.late[place]),
        action => format!("{action:?}"),
    }
}
