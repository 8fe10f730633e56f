//! Serving: checks decided, commits carried out, answers handled, the ledger written behind.

use super::state::{Call, Charged, Claim, Entry, KEYS, Life, Message, Phase, Process, Reply, State, Store};
use super::world::World;
use cellar_model::{Fence, Seq};
use cellar_quota::protocol;
use std::time::Duration;

const AUTONOMY: Duration = Duration::from_secs(120);

/// The first second at which a taker's wait is over, counted from its step 1. The owner's fence was
/// confirmed before that.
fn waited_out_after() -> Duration {
    let mut seconds = (0..).map(Duration::from_secs);
    seconds.find(|now| protocol::wait_is_over(*now, Duration::ZERO, AUTONOMY)).unwrap_or(Duration::MAX)
}

impl Process {
    /// Whether it may still acknowledge. Time only counts where somebody waits for it to pass.
    pub fn is_autonomous(&self) -> bool {
        let now = if self.waited_out { waited_out_after() } else { Duration::ZERO };
        protocol::is_autonomous(now, Duration::ZERO, AUTONOMY)
    }
}

impl World {
    /// A client sends `key` to process `who`, which decides and calls its store.
    pub fn ask(&self, state: &mut State, who: usize, key: u8) -> Option<()> {
        let (user, index) = (self.user(key), usize::from(key));
        let store = state.processes[who].store()?;
        let busy = state.processes[who].calls.iter().any(|call| self.user(call.entry.key) == user);
        match store {
            _ if busy || !state.processes[who].is_autonomous() || state.processes[who].turn_due => return None,
            // One transaction at a time: each moves the watermark from where the one before left it.
            Store::Postgres if !state.postgres_link[who] || !state.processes[who].calls.is_empty() => return None,
            Store::Redis { .. } if !state.reaches_redis(who) => return None,
            Store::Redis { over, .. }
                if over.server_life != state.redis.life && self.rules.a_connection_is_of_one_life =>
            {
                state.processes[who].turn_due = true;
                return Some(());
            }
            _ => {}
        }
        state.tries[index] -= 1;
        let asks_ledger = match store {
            Store::Postgres => true,
            Store::Redis { valid_from, .. } => valid_from > Fence(1) && self.rules.young_content_asks_the_ledger,
        };
        let outcome = state.redis.disk.outcomes[index].filter(|_| store != Store::Postgres);
        let outcome_comes_first = outcome.is_some() && !self.rules.outcomes_carry_their_fence;
        if asks_ledger && !outcome_comes_first {
            let known =
                state.postgres_link[who].then(|| state.postgres.ledger.iter().find(|entry| entry.key == key))?;
            if let Some(charged) = known.map(|entry| entry.charged) {
                self.answer(state, key, charged);
                return Some(());
            }
        }
        let count = match state.processes[who].memory[user] {
            Some(count) => count,
            None => self.load(state, who, store, user)?,
        };
        state.processes[who].memory[user] = Some(count);
        let me = &mut state.processes[who];
        let denied = count >= self.environment.limit;
        let charged = Charged { fence: me.fence, count: count + 1 };
        let by_writer = !self.rules.the_store_numbers && !denied;
        let seq = by_writer.then(|| next_number(me));
        let entry = Entry { charged, seq, key, attempt: state.tries[index] };
        let (sender, fence, after) = (me.life, me.fence, me.drained);
        match store {
            Store::Redis { over, valid_from } => {
                me.calls.push(Call { entry, denied, reply: None, after_a_later_turn: false });
                // The call goes over whatever connection there is: of this life, unless that rule is off.
                let over = super::state::Content { server_life: state.redis.life, ..over };
                state.send(Message::Commit { sender, over, valid_from, entry, denied });
                if !self.rules.answers_after_the_commit && !denied {
                    self.answer(state, key, charged);
                }
            }
            Store::Postgres if denied => {
                if state.fence_is_mine(who) {
                    self.deny(state, key);
                } else {
                    state.processes[who].turn_due = true;
                }
            }
            Store::Postgres => {
                let entry = Entry { seq: Some(after.map_or(Seq(0), Seq::next)), ..entry };
                me.calls.push(Call { entry, denied, reply: None, after_a_later_turn: false });
                state.send(Message::Ledger { sender, fence, after, entries: vec![entry], drain: None });
            }
        }
        Some(())
    }

    /// A user's count from Redis, where it counts since a fence, else from Postgres.
    fn load(&self, state: &mut State, who: usize, store: Store, user: usize) -> Option<u8> {
        let held = match store {
            Store::Redis { valid_from, .. } => state.redis.disk.records[user].filter(|held| held.fence >= valid_from),
            Store::Postgres => None,
        };
        if let Some(held) = held {
            let is_writer = state.processes[who].fence == state.postgres.finished.opened;
            if is_writer && held.fence < state.content_since {
                state.breaks(Claim::NoOldState);
            }
            return Some(held.count);
        }
        state.postgres_link[who].then(|| state.postgres.count(user))
    }

    /// A message arrives. One of a connection that is gone does not.
    pub fn deliver(&self, state: &mut State, message: Message) {
        if message.server_life().is_some_and(|life| !state.redis.up || life != state.redis.life) {
            return;
        }
        match message {
            Message::Fence(content) => {
                let disk = &mut state.redis.disk;
                if disk.key.is_none_or(|held| held.fence <= content.key.fence) {
                    disk.key = Some(content.key);
                }
            }
            Message::Commit { sender, over, valid_from, entry, denied } => {
                let key_is_sender_s = state.redis.disk.key == Some(over.key);
                let known = state.redis.disk.outcomes[usize::from(entry.key)]
                    .filter(|held| held.fence >= valid_from || !self.rules.outcomes_carry_their_fence)
                    .filter(|_| !denied || self.rules.denied_keys_are_in_the_call);
                let reply = match known {
                    _ if !key_is_sender_s && self.rules.the_script_compares_the_fence => Reply::Fenced,
                    Some(charged) => Reply::Replayed(charged),
                    None if denied => Reply::Denied,
                    None => Reply::Committed(self.commit(state, entry)),
                };
                let later = state.postgres.finished.opened > entry.fence();
                reply_to(state, sender, &entry, reply, later);
            }
            Message::Ledger { sender, fence, after, entries, drain } => {
                let mine = state.postgres.fence == fence || !self.rules.the_ledger_compares_the_fence;
                let continues = state.postgres.drained == after || !self.rules.the_ledger_compares_the_watermark;
                let (written, last) = (mine && continues, entries.last().and_then(|entry| entry.seq));
                if written {
                    if state.postgres.finished.opened > fence {
                        state.breaks(Claim::OneWriter);
                    }
                    entries.iter().for_each(|entry| self.append(state, *entry));
                    state.postgres.drained = last;
                }
                if drain.is_some() {
                    self.drained(state, sender, fence, drain, written.then_some(last));
                } else if let Some(entry) = entries.first() {
                    let reply = last.filter(|_| written).map_or(Reply::Fenced, Reply::Committed);
                    reply_to(state, sender, entry, reply, false);
                }
            }
        }
    }

    /// The second pass of `commit.lua`.
    fn commit(&self, state: &mut State, entry: Entry) -> Seq {
        let (fence, disk) = (entry.fence(), &mut state.redis.disk);
        let numbered = match disk.last_id {
            Some((last, seq)) if last == fence => seq.next(),
            _ => Seq(0),
        };
        let seq = entry.seq.unwrap_or(numbered);
        disk.last_id = Some((fence, seq));
        disk.records[self.user(entry.key)] = Some(entry.charged);
        disk.outcomes[usize::from(entry.key)] = Some(entry.charged);
        disk.stream.push(Entry { seq: Some(seq), ..entry });
        disk.stream.sort_by_key(|entry| (entry.fence(), entry.seq));
        let finished = &state.postgres.finished;
        // (While Redis is away it may take calls that the new writer cannot know of: late entries.)
        if finished.opened > fence && finished.mode != protocol::Mode::Postgres {
            state.breaks(Claim::OneWriter);
        }
        seq
    }

    /// The process looks at a store's answer.
    pub fn handle(&self, state: &mut State, who: usize, place: usize) {
        let me = &mut state.processes[who];
        let call = me.calls.remove(place);
        let (key, user) = (call.entry.key, self.user(call.entry.key));
        let autonomous = me.is_autonomous() || !self.rules.autonomy_when_handled;
        match call.reply {
            Some(Reply::Committed(seq)) => {
                me.memory[user] = Some(call.entry.charged.count);
                match me.store() {
                    Some(Store::Postgres) => me.drained = Some(seq),
                    _ => me.tail.push(Entry { seq: Some(seq), ..call.entry }),
                }
                if autonomous {
                    if call.after_a_later_turn {
                        state.breaks(Claim::OneWriter);
                    }
                    self.answer(state, key, call.entry.charged);
                }
            }
            Some(Reply::Replayed(charged)) => {
                me.memory[user] = None;
                if autonomous {
                    self.answer(state, key, charged);
                }
            }
            Some(Reply::Denied) if autonomous => self.deny(state, key),
            Some(Reply::Denied) | None => {}
            Some(Reply::Fenced) => {
                me.memory[user] = None;
                me.turn_due = true;
            }
        }
    }

    /// The process waits no longer for a store's answer.
    pub fn give_up_call(&self, state: &mut State, who: usize, place: usize) {
        state.faults.unanswered_commit -= 1;
        let me = &mut state.processes[who];
        let call = me.calls.remove(place);
        me.memory[self.user(call.entry.key)] = None;
        let on_redis = matches!(me.store(), Some(Store::Redis { .. }));
        if self.rules.an_unanswered_call_is_a_turn {
            me.turn_due = true;
            if !call.denied && (on_redis || !self.rules.unanswered_transactions_are_final) {
                me.unanswered.push(Entry { seq: None, ..call.entry });
            }
        } else if !on_redis {
            me.drained = state.postgres.drained;
        }
    }

    /// The front of the tail, on its way to Postgres.
    pub fn front(&self, process: &Process) -> Vec<Entry> {
        let mut front = process.tail.clone();
        front.sort_by_key(|entry| entry.seq);
        if self.rules.the_drain_stops_at_gaps {
            let mut expected = process.drained.map_or(Seq(0), Seq::next);
            let consecutive = front.iter().take_while(|entry| {
                let next = entry.seq == Some(expected);
                expected = expected.next();
                next
            });
            front = consecutive.copied().collect();
        }
        front
    }

    pub fn start_drain(&self, state: &mut State, who: usize) {
        let entries = self.front(&state.processes[who]);
        let attempt = state.faults.unanswered_drain;
        let me = &mut state.processes[who];
        me.drain = Some(attempt);
        let (sender, fence, after) = (me.life, me.fence, me.drained);
        let last = entries.last().and_then(|entry| entry.seq);
        state.send(Message::Ledger { sender, fence, after, entries, drain: Some(attempt) });
        if !self.rules.trims_after_the_drain {
            self.trim(state, who, last);
        }
    }

    fn drained(&self, state: &mut State, to: Life, fence: Fence, attempt: Option<u8>, written: Option<Option<Seq>>) {
        let Some(me) = state.processes.iter_mut().find(|process| process.life == to && process.fence == fence) else {
            return;
        };
        if me.drain != attempt || !me.is_open() {
            return;
        }
        me.drain = None;
        match written {
            Some(last) => {
                me.drained = last;
                me.tail.retain(|entry| entry.seq > last);
            }
            None => me.turn_due = true,
        }
    }

    /// `drained.lua`: drops what is below `last`, if the fence is one's own.
    pub fn trim(&self, state: &mut State, who: usize, last: Option<Seq>) {
        let Some(Store::Redis { over, .. }) = state.processes[who].store() else { return };
        if state.reaches_redis(who) && state.redis.life == over.server_life && state.redis.disk.key == Some(over.key) {
            state.redis.disk.stream.retain(|entry| (entry.fence(), entry.seq) > (over.key.fence, last));
        }
    }

    /// A client hears that its check was admitted.
    fn answer(&self, state: &mut State, key: u8, charged: Charged) {
        let index = usize::from(key);
        match state.answers[index] {
            None => state.answers[index] = Some(charged),
            Some(first) => {
                state.seen.replay = true;
                if first != charged && !state.excused.replays {
                    state.breaks(Claim::SameAnswer);
                }
            }
        }
        let of_user = |other: &usize| self.user(*other as u8) == self.user(key) && state.answers[*other].is_some();
        let admitted = (0..KEYS).filter(of_user).count();
        if admitted > usize::from(self.environment.limit) && !state.excused.admissions {
            state.breaks(Claim::NoOverAdmission);
        }
    }

    /// A client hears that its check was denied.
    fn deny(&self, state: &mut State, key: u8) {
        if state.answers[usize::from(key)].is_some() && !state.excused.replays {
            state.breaks(Claim::SameAnswer);
        }
    }
}

fn reply_to(state: &mut State, to: Life, entry: &Entry, reply: Reply, after_a_later_turn: bool) {
    let Some(process) = state.processes.iter_mut().find(|process| process.life == to) else { return };
    if !matches!(process.phase, Phase::Open(_)) {
        return;
    }
    if let Some(call) = process.calls.iter_mut().find(|call| call.entry.is_call_of(entry)) {
        (call.reply, call.after_a_later_turn) = (Some(reply), after_a_later_turn);
    }
}

/// What a writer that numbers its batches itself takes for the next number.
fn next_number(process: &Process) -> Seq {
    let calls = process.calls.iter().map(|call| call.entry.seq);
    let last = process.tail.iter().map(|entry| entry.seq).chain(calls).max().flatten();
    last.max(process.drained).map_or(Seq(0), Seq::next)
}
