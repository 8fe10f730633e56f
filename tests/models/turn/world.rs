//! The world as a model: what may happen next, what then is, and what must hold.

use super::environments::Environment;
use super::rules::Rules;
use super::state::{Claim, Disk, KEYS, PROCESSES, Phase, Process, Reply, State, Store, USERS};
use cellar_model::{Fence, Seq};
use cellar_quota::protocol::{Mode, Next};
use stateright::{Model, Property};

#[derive(Clone, Copy, Debug)]
pub struct World {
    pub environment: Environment,
    pub rules: Rules,
}

/// Numbers are processes, keys, and places in the network or among a process's calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    BeginTurn(usize),
    FenceRedis(usize),
    FenceUnanswered(usize),
    RedisSilent(usize),
    Wait(usize),
    Drain(usize),
    ChargeLate(usize),
    ConfirmKey(usize),
    Open(usize),
    BreakTurn(usize),
    Ask(usize, u8),
    Deliver(usize),
    Handle(usize, usize),
    GiveUpCall(usize, usize),
    StartDrain(usize),
    GiveUpDrain(usize),
    Trim(usize),
    Learn(usize),
    HandOver(usize),
    ProcessDies(usize),
    RedisDies,
    RedisBack,
    RedisBackEmpty,
    RedisBackOlder,
    CopyDisk,
    Flush,
    RedisLink(usize),
    PostgresLink(usize),
}

impl World {
    pub fn user(&self, key: u8) -> usize {
        usize::from(self.environment.user_of[usize::from(key)])
    }

    fn actions_of(&self, state: &State, who: usize, actions: &mut Vec<Action>) {
        let (me, postgres, faults) = (&state.processes[who], state.postgres_link[who], &state.faults);
        let mine = state.fence_is_mine(who);
        let unfinished = matches!(me.phase, Phase::Turning(_)) && mine;
        if postgres && !unfinished && state.postgres.fence < Fence(self.environment.fence_max.into()) {
            actions.push(Action::BeginTurn(who));
        }
        if postgres && !mine && me.phase != Phase::Closed {
            actions.push(Action::Learn(who));
        }
        let holds = !me.tail.is_empty() || !me.unanswered.is_empty();
        if postgres && !mine && me.phase == Phase::Closed && holds && self.rules.a_deposed_owner_hands_over {
            actions.push(Action::HandOver(who));
        }
        if let Phase::Turning(_) = me.phase {
            self.steps_of(state, who, actions);
            if mine && faults.broken_turn > 0 {
                actions.push(Action::BreakTurn(who));
            }
        }
        if let Some(store) = me.store() {
            let keys = (0..KEYS as u8).filter(|key| state.tries[usize::from(*key)] > 0);
            actions.extend(keys.map(|key| Action::Ask(who, key)));
            let on_redis = matches!(store, Store::Redis { .. });
            if on_redis && me.drain.is_none() && postgres && !me.turn_due && !self.front(me).is_empty() {
                actions.push(Action::StartDrain(who));
            }
            if me.drain.is_some() && faults.unanswered_drain > 0 {
                actions.push(Action::GiveUpDrain(who));
            }
            if on_redis && self.environment.trims && me.drained.is_some() {
                actions.push(Action::Trim(who));
            }
            for (place, call) in me.calls.iter().enumerate() {
                if call.reply.is_some() {
                    actions.push(Action::Handle(who, place));
                } else if faults.unanswered_commit > 0 {
                    actions.push(Action::GiveUpCall(who, place));
                }
            }
        }
        if faults.process_dies > 0 {
            actions.push(Action::ProcessDies(who));
        }
        if !state.redis_link[who] || faults.redis_link > 0 {
            actions.push(Action::RedisLink(who));
        }
        if !postgres || faults.postgres_link > 0 {
            actions.push(Action::PostgresLink(who));
        }
    }

    /// The next step of a turn, as the protocol says.
    fn steps_of(&self, state: &State, who: usize, actions: &mut Vec<Action>) {
        let me = &state.processes[who];
        let Phase::Turning(turn) = &me.phase else { return };
        let may_write = state.postgres_link[who] && state.fence_is_mine(who);
        let must_wait = self.rules.must_wait(Some(&turn.finished), &me.life, turn.progress.redis);
        match self.rules.next(turn.progress, must_wait) {
            Next::AskRedis => {
                if state.reaches_redis(who) {
                    actions.push(Action::FenceRedis(who));
                    if state.faults.unanswered_fence > 0 {
                        actions.push(Action::FenceUnanswered(who));
                    }
                }
                if !state.reaches_redis(who) || self.environment.faults.unanswered_fence > 0 {
                    actions.push(Action::RedisSilent(who));
                }
            }
            Next::Wait if may_write && !self.is_about_to_be_told(state, who) => actions.push(Action::Wait(who)),
            Next::Drain if may_write => actions.push(match &turn.late {
                None => Action::Drain(who),
                Some(late) if !late.is_empty() || !state.postgres.late.is_empty() => Action::ChargeLate(who),
                Some(_) => Action::ConfirmKey(who),
            }),
            Next::OpenOnRedis | Next::OpenOnPostgres if may_write => actions.push(Action::Open(who)),
            Next::Wait | Next::Drain | Next::OpenOnRedis | Next::OpenOnPostgres => {}
        }
    }

    fn redis_dies(&self, state: &mut State) {
        state.faults.redis_dies -= 1;
        state.redis.up = false;
        state.redis.life += 1;
        state.network.retain(|message| message.server_life().is_none());
    }

    /// Redis has other content than it had.
    fn redis_holds(&self, state: &mut State, disk: Disk) {
        state.redis.up = true;
        state.redis.disk = disk;
        state.content_lost = true;
        state.excuse_what_is_lost();
    }

    fn check(&self, state: &mut State) {
        let lost = (0..KEYS).any(|key| state.answers[key].is_some() && !state.survives(key as u8));
        if lost && !state.excused.losses {
            state.breaks(Claim::NothingLost);
        }
        for user in 0..USERS {
            let rows = state.postgres.ledger.iter().filter(|entry| self.user(entry.key) == user).count();
            if rows != usize::from(state.postgres.count(user)) {
                state.breaks(Claim::CounterIsLedger);
            }
        }
    }
}

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::initial(self.environment.faults, self.environment.tries)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_some() {
            return;
        }
        (0..PROCESSES).for_each(|who| self.actions_of(state, who, actions));
        // Of equal messages one is enough.
        let distinct =
            (0..state.network.len()).filter(|place| *place == 0 || state.network[*place] != state.network[*place - 1]);
        actions.extend(distinct.map(Action::Deliver));
        let faults = &state.faults;
        if state.redis.up {
            if faults.redis_dies > 0 {
                actions.push(Action::RedisDies);
            }
            if faults.flushed > 0 {
                actions.push(Action::Flush);
            }
            if faults.comes_back_older > 0 && state.redis.older_copy.is_none() {
                actions.push(Action::CopyDisk);
            }
        } else {
            actions.push(Action::RedisBack);
            if faults.comes_back_empty > 0 {
                actions.push(Action::RedisBackEmpty);
            }
            if faults.comes_back_older > 0 && state.redis.older_copy.is_some() {
                actions.push(Action::RedisBackOlder);
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::BeginTurn(who) => self.begin(&mut state, who),
            Action::FenceRedis(who) => self.fence_redis(&mut state, who),
            Action::FenceUnanswered(who) => self.fence_unanswered(&mut state, who),
            Action::RedisSilent(who) => self.redis_is_silent(&mut state, who),
            Action::Wait(who) => self.wait(&mut state, who),
            Action::Drain(who) => self.drain(&mut state, who),
            Action::ChargeLate(who) => self.charge_late(&mut state, who),
            Action::ConfirmKey(who) => self.confirm_key(&mut state, who),
            Action::Open(who) => self.open(&mut state, who),
            Action::BreakTurn(who) => {
                state.faults.broken_turn -= 1;
                self.close(&mut state, who);
            }
            Action::Ask(who, key) => self.ask(&mut state, who, key)?,
            Action::Deliver(place) => {
                let message = state.network.remove(place);
                self.deliver(&mut state, message);
            }
            Action::Handle(who, place) => self.handle(&mut state, who, place),
            Action::GiveUpCall(who, place) => self.give_up_call(&mut state, who, place),
            Action::StartDrain(who) => self.start_drain(&mut state, who),
            Action::GiveUpDrain(who) => {
                state.faults.unanswered_drain -= 1;
                state.processes[who].drain = None;
            }
            Action::Trim(who) => {
                let drained = state.processes[who].drained;
                self.trim(&mut state, who, drained);
            }
            Action::Learn(who) => self.learn(&mut state, who),
            Action::HandOver(who) => self.hand_over(&mut state, who),
            Action::ProcessDies(who) => {
                state.faults.process_dies -= 1;
                state.processes[who] = Process::new(who, state.processes[who].life.number + 1);
                state.excuse_what_is_lost();
            }
            Action::RedisDies => self.redis_dies(&mut state),
            Action::RedisBack => state.redis.up = true,
            Action::RedisBackEmpty => {
                state.faults.comes_back_empty -= 1;
                self.redis_holds(&mut state, Disk::default());
            }
            Action::RedisBackOlder => {
                state.faults.comes_back_older -= 1;
                let copy = state.redis.older_copy.take()?;
                self.redis_holds(&mut state, copy);
            }
            Action::CopyDisk => state.redis.older_copy = Some(state.redis.disk.clone()),
            Action::Flush => {
                state.faults.flushed -= 1;
                self.redis_holds(&mut state, Disk::default());
            }
            Action::RedisLink(who) => {
                state.faults.redis_link -= u8::from(state.redis_link[who]);
                state.redis_link[who] = !state.redis_link[who];
            }
            Action::PostgresLink(who) => {
                state.faults.postgres_link -= u8::from(state.postgres_link[who]);
                state.postgres_link[who] = !state.postgres_link[who];
            }
        }
        self.check(&mut state);
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("a deposed writer commits nothing beside the next one", |_, state: &State| {
                state.broken != Some(Claim::OneWriter)
            }),
            Property::always("no more than the limit is admitted", |_, state: &State| {
                state.broken != Some(Claim::NoOverAdmission)
            }),
            Property::always("what was acknowledged survives", |_, state: &State| {
                state.broken != Some(Claim::NothingLost)
            }),
            Property::always("the counter is the ledger", |_, state: &State| {
                state.broken != Some(Claim::CounterIsLedger)
            }),
            Property::always("a key is charged once", |_, state: &State| state.broken != Some(Claim::ChargedOnce)),
            Property::always("a key repeated gets the same answer", |_, state: &State| {
                state.broken != Some(Claim::SameAnswer)
            }),
            Property::always("no state of an older life is believed", |_, state: &State| {
                state.broken != Some(Claim::NoOldState)
            }),
            Property::always("nothing late is forgotten", |_, state: &State| {
                state.broken != Some(Claim::NothingLateForgotten)
            }),
            Property::always("a transaction that Postgres did not take is not charged", |_, state: &State| {
                state.broken != Some(Claim::NothingRefusedIsCharged)
            }),
            Property::always("the drain is never stuck", |_, state: &State| !is_stuck(state)),
            Property::always(
                "nothing is excused without a dead process or a partition",
                |world: &World, state: &State| {
                    let faults = world.environment.faults;
                    let partition = faults.redis_link + faults.postgres_link > 0;
                    let redis_fails =
                        faults.redis_dies + faults.flushed + faults.comes_back_empty + faults.comes_back_older > 0;
                    let out_of_reach = partition || (faults.process_dies > 0 && redis_fails);
                    let excused = state.excused;
                    out_of_reach || !(excused.replays || excused.admissions || excused.losses)
                },
            ),
            Property::sometimes("it quiesces with the other process as writer", |_, state: &State| {
                let other = &state.processes[1];
                state.is_quiet()
                    && other.is_open()
                    && state.fence_is_mine(1)
                    && state.answers[0].is_some()
                    && !state.postgres.ledger.is_empty()
            }),
            Property::sometimes("a key is repeated after a turn", |world: &World, state: &State| {
                let never = world.environment.tries.iter().all(|tries| *tries < 2);
                never || (state.seen.replay && state.postgres.finished.opened > Fence(1))
            }),
            Property::sometimes("the shard returns from Postgres to Redis", |world: &World, state: &State| {
                let faults = world.environment.faults;
                let never = faults.redis_link + faults.redis_dies == 0 || world.environment.fence_max < 3;
                let returned = state.seen.mode_postgres && state.postgres.finished.mode != Mode::Postgres;
                never || (returned && !state.postgres.ledger.is_empty())
            }),
            Property::sometimes("a late entry is charged", |world: &World, state: &State| {
                let faults = world.environment.faults;
                let never = faults.redis_link + faults.redis_dies + faults.flushed == 0;
                never || state.seen.late_charge
            }),
        ]
    }
}

/// A writer has entries to drain, nothing is under way, and it cannot.
fn is_stuck(state: &State) -> bool {
    state.processes.iter().enumerate().any(|(who, process)| {
        let serving = matches!(process.store(), Some(Store::Redis { .. })) && state.fence_is_mine(who);
        let idle = process.calls.is_empty() && process.drain.is_none() && state.network.is_empty();
        let first = process.tail.iter().map(|entry| entry.seq).min().flatten();
        let next = process.drained.map_or(Seq(0), Seq::next);
        serving && idle && !process.turn_due && !process.tail.is_empty() && first != Some(next)
    })
}

/// For traces: what an action was about.
pub fn describe(state: &State, action: Action) -> String {
    match action {
        Action::Deliver(place) => format!("Deliver {:?}", state.network[place]),
        Action::Handle(who, place) => {
            let call = state.processes[who].calls[place];
            let reply = call.reply.unwrap_or(Reply::Fenced);
            format!("Handle({who}) key {} {reply:?}", call.entry.key)
        }
        action => format!("{action:?}"),
    }
}
