//! The turn, step by step, as `crates/quota/src/shard/turn.rs` and `late.rs` take it.

use super::rules::Finished;
use super::state::{Claim, Content, Entry, FenceKey, Message, PROCESSES, Phase, Process, State, Store, Turn};
use super::world::World;
use cellar_model::Fence;
use cellar_quota::protocol::{Fate, Mode, Progress, Redis};

impl World {
    /// Step 1: raises the fence and nothing else.
    pub fn begin(&self, state: &mut State, who: usize) {
        self.close(state, who);
        let late_charged_before = state.postgres.late_mark > state.postgres.finished.opened;
        state.postgres.fence = state.postgres.fence.next();
        let (fence, finished) = (state.postgres.fence, state.postgres.finished.clone());
        let me = &mut state.processes[who];
        me.fence = fence;
        me.phase = Phase::Turning(Turn {
            finished,
            late_charged_before,
            progress: Progress::BEGUN,
            over: None,
            nonce: 0,
            late: None,
            late_charged: false,
            unheard: [false; PROCESSES],
        });
        if !self.rules.the_row_keeps_the_last_finished_turn {
            let key = FenceKey { fence, nonce: 0 };
            state.postgres.finished.owner = state.processes[who].life;
            state.postgres.finished.mode = Mode::Redis(Content { server_life: state.redis.life, key });
        }
        if !self.rules.fences_before_it_drains && state.reaches_redis(who) {
            self.drain_in_order(state, who, true);
        }
    }

    /// Step 2, answered.
    pub fn fence_redis(&self, state: &mut State, who: usize) {
        let key = self.next_key(state, who);
        let replaced = state.redis.disk.key;
        if replaced.is_some_and(|held| held.fence > key.fence) {
            return self.close(state, who);
        }
        let server_life = state.redis.life;
        state.redis.disk.key = Some(key);
        let Phase::Turning(turn) = &mut state.processes[who].phase else { return };
        let found = replaced.map(|key| Content { server_life, key });
        let certain = self.rules.content_is_certain(Some(&turn.finished), found.as_ref());
        turn.over = Some(Content { server_life, key });
        turn.late = None;
        turn.progress = Progress { redis: Redis::Fenced { certain }, ..Progress::BEGUN };
    }

    /// Step 2, given up: the call may still arrive. It is made again, or Redis counts as silent.
    pub fn fence_unanswered(&self, state: &mut State, who: usize) {
        state.faults.unanswered_fence -= 1;
        let key = self.next_key(state, who);
        let server_life = state.redis.life;
        state.send(Message::Fence(Content { server_life, key }));
    }

    fn next_key(&self, state: &mut State, who: usize) -> FenceKey {
        let fence = state.processes[who].fence;
        let Phase::Turning(turn) = &mut state.processes[who].phase else { return FenceKey { fence, nonce: 0 } };
        let nonce = turn.nonce;
        turn.nonce += u8::from(self.rules.a_nonce_in_the_fence_key);
        FenceKey { fence, nonce }
    }

    pub fn redis_is_silent(&self, state: &mut State, who: usize) {
        let Phase::Turning(turn) = &mut state.processes[who].phase else { return };
        turn.over = None;
        turn.late = None;
        turn.progress = Progress { redis: Redis::Silent, ..Progress::BEGUN };
    }

    /// Whether another process lives, reaches Postgres, and has something to hand over. It has
    /// `autonomy` to do so, which is ample.
    pub fn is_about_to_be_told(&self, state: &State, who: usize) -> bool {
        let holds = |process: &Process| {
            let calls = process.calls.iter().filter(|call| !call.denied).map(|call| &call.entry);
            process.tail.iter().chain(&process.unanswered).chain(calls).any(|entry| {
                !state.postgres.has_key(entry.key) && !state.postgres.late.iter().any(|late| late.is_call_of(entry))
            })
        };
        self.rules.a_deposed_owner_hands_over
            && (0..PROCESSES).any(|peer| peer != who && state.postgres_link[peer] && holds(&state.processes[peer]))
    }

    /// The wait, to its end: the last owner has stopped, or cannot be acknowledging any more.
    pub fn wait(&self, state: &mut State, who: usize) {
        let Phase::Turning(turn) = &mut state.processes[who].phase else { return };
        turn.progress.waited = true;
        turn.unheard = state.postgres_link.map(|link| !link);
        let (owner, opened) = (turn.finished.owner, turn.finished.opened);
        let owner = state.processes.iter_mut().find(|process| process.life == owner && process.fence == opened);
        if let Some(owner) = owner.filter(|owner| owner.is_open()) {
            owner.waited_out = true;
        }
    }

    /// Step 3, in order; what is late is left to [`World::charge_late`].
    pub fn drain(&self, state: &mut State, who: usize) {
        let Phase::Turning(turn) = &state.processes[who].phase else { return };
        let (over, opened) = (turn.over, turn.finished.opened);
        if over.is_some_and(|over| !state.reaches_redis(who) || state.redis.life != over.server_life) {
            return self.close(state, who);
        }
        let stream_read = over.is_some();
        let mut late = if self.rules.fences_before_it_drains {
            self.drain_in_order(state, who, stream_read)
        } else {
            self.drain_in_order(state, who, false)
        };
        let me = &mut state.processes[who];
        if !self.rules.a_broken_turn_keeps_the_tail {
            me.tail.retain(|entry| entry.fence() == opened);
        }
        let charged = |entry: &&Entry| self.rules.charges_unanswered(entry.fence(), Some(opened), stream_read);
        late.extend(me.unanswered.iter().filter(charged));
        late.sort_by_key(|entry| entry.charged);
        let nothing_late = late.is_empty() && state.postgres.late.is_empty();
        let Phase::Turning(turn) = &mut state.processes[who].phase else { return };
        turn.late = Some(late);
        turn.progress.drained = nothing_late && over.is_none();
    }

    /// Writes what is in order, from memory and the stream. Returns what is late.
    fn drain_in_order(&self, state: &mut State, who: usize, stream_read: bool) -> Vec<Entry> {
        let Phase::Turning(turn) = &state.processes[who].phase else { return Vec::new() };
        let late_charged = turn.late_charged_before && self.rules.the_late_mark_is_heeded_by_the_drain;
        let opened = turn.finished.opened;
        let mut found = state.processes[who].tail.clone();
        if stream_read {
            // What memory holds stays: it is the same commit.
            let in_memory =
                |entry: &Entry| found.iter().any(|held| (held.fence(), held.seq) == (entry.fence(), entry.seq));
            let beyond: Vec<Entry> =
                state.redis.disk.stream.iter().filter(|entry| !in_memory(entry)).copied().collect();
            found.extend(beyond);
        }
        found.sort_by_key(|entry| (entry.fence(), entry.seq));
        let mut late = Vec::new();
        for entry in found {
            let Some(seq) = entry.seq else { continue };
            let watermark = if entry.fence() == opened || !self.rules.a_watermark_for_each_fence {
                state.postgres.drained
            } else {
                let held = state.postgres.watermarks.iter().find(|(fence, _)| *fence == entry.fence());
                held.and_then(|(_, seq)| *seq)
            };
            match self.rules.fate(entry.fence(), seq, Some(opened), watermark, late_charged) {
                Fate::Drained => {}
                Fate::Late => late.push(entry),
                Fate::InOrder => {
                    if !(late_charged && self.is_known(state, &entry)) {
                        self.append(state, entry);
                    }
                    state.postgres.drained = state.postgres.drained.max(Some(seq));
                }
            }
        }
        late
    }

    /// Charges one late entry, or finds it void: the mark first, then the charge on the present record
    /// under its old name.
    pub fn charge_late(&self, state: &mut State, who: usize) {
        let fence = state.processes[who].fence;
        let Phase::Turning(turn) = &mut state.processes[who].phase else { return };
        let (opened, stream_read) = (turn.finished.opened, turn.over.is_some());
        let Some(late) = &mut turn.late else { return };
        let entry = if !late.is_empty() {
            late.remove(0)
        } else if !state.postgres.late.is_empty() {
            let entry = state.postgres.late.remove(0);
            // What is handed over unanswered is judged like one's own.
            let judged = entry.seq.is_none() && self.rules.handed_over_calls_are_judged;
            if judged && !self.rules.charges_unanswered(entry.fence(), Some(opened), stream_read) {
                return;
            }
            entry
        } else {
            return;
        };
        if self.is_known(state, &entry) || !self.rules.late_entries_are_charged {
            return;
        }
        let Phase::Turning(turn) = &mut state.processes[who].phase else { return };
        turn.late_charged = true;
        // Step 1 waited out the transactions of that fence: what the ledger does not have, it never will.
        if entry.seq.is_none() && entry.fence() == opened && turn.finished.mode == Mode::Postgres {
            state.broken = Some(Claim::NothingRefusedIsCharged);
        }
        state.seen.late_charge = true;
        state.postgres.late_mark = fence;
        self.append_forced(state, entry, fence);
    }

    /// Whether the ledger has an entry by its charge or its key.
    fn is_known(&self, state: &State, entry: &Entry) -> bool {
        let user = self.user(entry.key);
        let same_charge = |held: &Entry| self.user(held.key) == user && held.charged == entry.charged;
        state.postgres.ledger.iter().any(same_charge)
            || (self.rules.known_late_entries_are_void && state.postgres.has_key(entry.key))
    }

    /// The end of step 3: does the turn's key still stand?
    pub fn confirm_key(&self, state: &mut State, who: usize) {
        let Phase::Turning(turn) = &state.processes[who].phase else { return };
        if let Some(over) = turn.over
            && (!state.reaches_redis(who) || state.redis.life != over.server_life)
        {
            return self.close(state, who);
        }
        let held = state.redis.disk.key;
        let Phase::Turning(turn) = &mut state.processes[who].phase else { return };
        turn.progress.drained = true;
        turn.progress.key_stands = turn.over.is_none_or(|over| held == Some(over.key));
    }

    /// Step 4: the only one that writes what a next turn goes by.
    pub fn open(&self, state: &mut State, who: usize) {
        let Phase::Turning(turn) = state.processes[who].phase.clone() else { return };
        self.excuse_what_is_out_of_reach(state, who, &turn);
        let fence = state.processes[who].fence;
        let redis = turn.progress.redis;
        let marked = turn.late_charged_before && self.rules.the_late_mark_raises_valid_from;
        let valid_from = self.rules.valid_from(Some(&turn.finished), fence, redis, turn.late_charged || marked);
        if turn.over.is_some() {
            let forgotten = |entry: &Entry| entry.fence() < fence && !state.postgres.has_key(entry.key);
            let key_is_mine = state.redis.disk.key.is_some_and(|key| key.fence == fence);
            if key_is_mine && state.redis.disk.stream.iter().any(forgotten) {
                state.breaks(Claim::NothingLateForgotten);
            }
        }
        if turn.over.is_none() || state.content_lost {
            (state.content_since, state.content_lost) = (fence, false);
        }
        state.seen.mode_postgres |= turn.over.is_none();
        let ended = (state.postgres.finished.opened, state.postgres.drained.take());
        state.postgres.watermarks.push(ended);
        let mode = turn.over.map_or(Mode::Postgres, Mode::Redis);
        state.postgres.finished = Finished { opened: fence, owner: state.processes[who].life, mode, valid_from };
        let store = turn.over.map_or(Store::Postgres, |over| Store::Redis { over, valid_from });
        let me = &mut state.processes[who];
        let memory = if self.rules.memory_goes_with_the_turn { Default::default() } else { me.memory };
        *me = Process { fence, phase: Phase::Open(store), memory, ..Process::new(who, me.life.number) };
    }

    /// What §11 promises no more once the shard opens: charges that neither the taker nor a process that
    /// it can hear of knows. (They are found late, and may exceed the limit by the undrained bound.)
    fn excuse_what_is_out_of_reach(&self, state: &mut State, who: usize, turn: &Turn) {
        let silent = turn.over.is_none();
        let unheard = |peer: usize| turn.unheard[peer] || !state.postgres_link[peer];
        let mut out_of_reach: Vec<Entry> = Vec::new();
        for (peer, other) in state.processes.iter().enumerate() {
            if peer == who || !unheard(peer) {
                continue;
            }
            out_of_reach.extend(&other.tail);
            // A call whose script may have run: it has, or Redis is not there to refuse it.
            let may_have_run = other.calls.iter().filter(|call| !call.denied && (call.reply.is_some() || silent));
            out_of_reach.extend(may_have_run.map(|call| call.entry));
            out_of_reach.extend(other.unanswered.iter().filter(|_| silent));
            // Told after the wait, and too late for this turn.
            out_of_reach.extend(&state.postgres.late);
        }
        if silent {
            out_of_reach.extend(&state.redis.disk.stream);
            out_of_reach.extend(state.network.iter().filter_map(|message| match message {
                Message::Commit { sender, entry, denied: false, .. } => {
                    let peer = usize::from(sender.process);
                    let is_dead = state.processes[peer].life != *sender;
                    (is_dead || (peer != who && unheard(peer))).then_some(entry)
                }
                _ => None,
            }));
        }
        let me = &state.processes[who];
        let known_to_me = |entry: &Entry| me.unanswered.iter().chain(&me.tail).any(|held| held.is_call_of(entry));
        out_of_reach.retain(|entry| !state.postgres.has_key(entry.key) && !known_to_me(entry));
        for entry in out_of_reach {
            state.excused.admissions = true;
            state.excused.replays |= state.answers[usize::from(entry.key)].is_some();
        }
    }

    /// Ends serving or turning: what is under way will not be answered any more.
    pub fn close(&self, state: &mut State, who: usize) {
        let me = &mut state.processes[who];
        let on_redis = matches!(me.store(), Some(Store::Redis { .. }));
        for call in std::mem::take(&mut me.calls) {
            me.memory[self.user(call.entry.key)] = None;
            if !call.denied && (on_redis || !self.rules.unanswered_transactions_are_final) {
                me.unanswered.push(Entry { seq: None, ..call.entry });
            }
        }
        me.unanswered.sort();
        if self.rules.memory_goes_with_the_turn {
            me.memory = Default::default();
        }
        me.phase = Phase::Closed;
        (me.drain, me.turn_due, me.waited_out) = (None, false, false);
    }

    /// A process sees that another has taken its shard.
    pub fn learn(&self, state: &mut State, who: usize) {
        self.close(state, who);
        if !self.rules.a_deposed_owner_hands_over {
            state.processes[who].tail.clear();
            state.processes[who].unanswered.clear();
        }
    }

    /// A deposed owner gives what it holds to the table of late entries, and forgets it.
    pub fn hand_over(&self, state: &mut State, who: usize) {
        let (opened, turning) = (state.postgres.finished.opened, state.postgres.fence);
        let me = &mut state.processes[who];
        let tail = std::mem::take(&mut me.tail).into_iter();
        // Once the turn that ended their fence is finished, it has settled them.
        let unanswered = std::mem::take(&mut me.unanswered).into_iter();
        let unanswered = unanswered.filter(|entry| entry.fence() == opened && turning > opened);
        for entry in tail.chain(unanswered) {
            let there = state.postgres.late.iter().any(|late| late.is_call_of(&entry));
            if !there && !state.postgres.has_key(entry.key) {
                state.postgres.late.push(entry);
            }
        }
        state.postgres.late.sort_by_key(|entry| (entry.charged, entry.seq));
    }

    /// A ledger row, with the record its commit left, unless Postgres holds a later one.
    pub fn append(&self, state: &mut State, entry: Entry) {
        self.append_row(state, entry);
        let record = &mut state.postgres.records[self.user(entry.key)];
        *record = (*record).max(Some(entry.charged));
    }

    fn append_forced(&self, state: &mut State, entry: Entry, fence: Fence) {
        self.append_row(state, entry);
        let user = self.user(entry.key);
        let count = state.postgres.count(user) + 1;
        state.postgres.records[user] = Some(super::state::Charged { fence, count });
    }

    fn append_row(&self, state: &mut State, entry: Entry) {
        if state.postgres.has_key(entry.key) {
            state.breaks(Claim::ChargedOnce);
        }
        state.postgres.ledger.push(entry);
    }
}
