//! The world as a model: what may happen next, what then is, and what must hold.

use super::environments::{Environment, Kind};
use super::rules::Rules;
use super::state::{CELLS, Cell, Decision, EMAILS, Home, INTENTS, Present, Row, State, Step, Task, Then, USERS, Write};
use super::steps::{Taker, write_of};
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
    ReapRelease(usize),
    Arrive(usize),
    /// It was lost on the way.
    Vanish(usize),
}

impl World {
    fn taker(&self, task: usize) -> Taker<'_> {
        let request = self.environment.requests.get(task).copied();
        let cell = request.map_or_else(|| (task - self.environment.requests.len()) as u8, |request| request.cell);
        Taker { rules: &self.rules, task, request, cell }
    }

    /// Without the rule, a change of a claim goes over whatever stands there.
    fn apply(&self, state: &mut State, write: Write) -> bool {
        let stands = |email: u8| state.claims[usize::from(email)].map(|row| row.op);
        let write = match write {
            Write::ChangeClaim { next, .. } if !self.rules.changes_name_the_op => {
                let Some(read) = stands(next.email) else { return false };
                Write::ChangeClaim { read, next }
            }
            Write::RemoveClaim { email, .. } if !self.rules.changes_name_the_op => {
                let Some(read) = stands(email) else { return false };
                Write::RemoveClaim { email, read }
            }
            write => write,
        };
        state.apply(write)
    }

    fn actions_of(&self, state: &State, task: usize, actions: &mut Vec<Action>) {
        let taker = self.taker(task);
        let Task { step, unanswered, .. } = state.tasks[task];
        match (step, taker.request) {
            (Step::End, _) => return,
            (Step::Begin, Some(request)) => {
                if state.cells[usize::from(request.cell)].users[usize::from(request.user)].is_some() {
                    actions.push(Action::Step(task));
                }
                return;
            }
            (Step::Begin, None) => {
                let cell = usize::from(taker.cell);
                let named = |row: &Row| row.cell == taker.cell || !self.rules.only_the_named_cell_settles;
                let creating =
                    (0..EMAILS).filter(|email| state.claims[*email].is_some_and(|row| !row.held && named(&row)));
                if self.rules.claims_are_reaped {
                    actions.extend(creating.map(|email| Action::ReapClaim(task, email)));
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

    fn step(&self, state: &mut State, task: usize) {
        let taker = self.taker(task);
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
        let taker = self.taker(task);
        if let Some(write) = write_of(state, state.tasks[task].step, taker.request) {
            state.late.push(write);
        }
    }

    fn crash(&self, state: &mut State, task: usize) {
        state.crashes -= 1;
        let request = self.taker(task).request;
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
            claims: [None; EMAILS],
            homes: [None; USERS],
            cells: [Cell::default(), Cell::default()],
            tasks,
            late: Vec::new(),
            crashes: self.environment.crashes,
            unanswered: self.environment.unanswered,
            told: [None; INTENTS],
            changed: [false; USERS],
            another_id: false,
            undone: false,
            taken_over: false,
            arrived_late: false,
        };
        if self.environment.settled {
            state.claims[0] = Some(Row { email: 0, user: 0, cell: 0, intent: 0, held: true, op: 1 });
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
                let write = write_of(&state, state.tasks[task].step, self.taker(task).request)?;
                state.late.push(write);
                if self.rules.unanswered_writes_are_read_back {
                    state.tasks[task].unanswered = true;
                } else {
                    self.taker(task).applied(&mut state, write);
                }
            }
            Action::Crash(task) => self.crash(&mut state, task),
            Action::CrashSending(task) => {
                self.send(&mut state, task);
                self.crash(&mut state, task);
            }
            Action::ReapClaim(task, email) => {
                state.decide(super::state::Key::Claim(email as u8));
                let row = state.claims[email]?;
                state.tasks[task] = Task::at(Step::Look(row, Then::Nobody));
            }
            Action::ReapRelease(task) => {
                let taker = self.taker(task);
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
            Property::always("a living user's e-mail is claimed by that user", |_, state: &State| {
                living(state).all(|(_, user, present)| {
                    state.claims[usize::from(present.email)]
                        .is_some_and(|row| usize::from(row.user) == user && row.intent == present.intent)
                })
            }),
            Property::always("a repeat gets its own id", |_, state: &State| !state.another_id),
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
            Property::sometimes("a write takes effect late", |_, state: &State| state.arrived_late),
        ];
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
