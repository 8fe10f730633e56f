//! The rules of the turn, each a switch. All on, the model is the protocol; with one off it is the
//! protocol without that rule, and has to be found wrong.

use super::state::{Content, Life};
use cellar_model::{Fence, Seq};
use cellar_quota::protocol::{self, Fate, Mode, Next, Progress, Redis};

pub type Finished = protocol::Finished<Life, Content>;

rules! {
    // What the pure functions answer: a rule that is off replaces the answer.
    /// `must_wait`, when Redis is silent.
    waits_when_redis_is_silent,
    /// `must_wait`, when Redis answers and its content is not certain.
    waits_when_content_is_uncertain,
    /// `content_is_certain` compares the fence key: a flush leaves the server's life as it is.
    content_by_fence_key,
    /// `content_is_certain` compares the server's life: a restart may bring an older disk.
    content_by_server_life,
    /// Redis is behind what mode `postgres` took: neither the turn to it keeps `valid_from`, nor
    /// the one back. (Off: both do. Either alone suffices.)
    mode_postgres_raises_valid_from,
    /// `valid_from` rises with uncertain content.
    uncertain_raises_valid_from,
    /// `valid_from` rises when the turn charged late entries.
    late_charge_raises_valid_from,
    /// `Progress::next` goes back to Redis when the turn's key is gone after the drain.
    asks_again_when_key_is_gone,
    /// `fate` calls entries of older fences late: others have decided since.
    older_fences_are_late,
    /// `fate` is asked with the watermark of the entry's own fence.
    a_watermark_for_each_fence,
    /// `charges_unanswered` says yes when nobody can say.
    unanswered_are_charged,
    /// `charges_unanswered` says no when the stream was read.
    the_stream_settles_unanswered,
    /// `charges_unanswered` says no to calls of fences that earlier turns ended.
    earlier_turns_settled_unanswered,
    /// `is_autonomous` is asked when a store's answer is handled, not only when the call is sent.
    autonomy_when_handled,

    // Steps of the turn.
    /// The row describes the last finished turn; who takes a turn changes nothing but the fence.
    the_row_keeps_the_last_finished_turn,
    /// Redis is fenced before its stream is read.
    fences_before_it_drains,
    /// A fence key has a nonce of its own, each call another.
    a_nonce_in_the_fence_key,
    /// `shard.late` is written before late entries are charged, and the next turn raises `valid_from`.
    the_late_mark_raises_valid_from,
    /// … and does not write what it finds of the ended fence as if nothing had been charged since.
    the_late_mark_is_heeded_by_the_drain,
    /// … but charges all of it by the late rule: not only is what the ledger has void, the rest was decided
    /// on a record that is behind the one in Postgres.
    after_late_charges_all_is_late,
    /// Late entries are charged at all.
    late_entries_are_charged,
    /// A late entry whose key the ledger has is void.
    known_late_entries_are_void,
    /// A process that cannot finish its turn keeps what it holds of older fences.
    a_broken_turn_keeps_the_tail,
    /// A deposed owner that reaches Postgres hands over what it holds.
    a_deposed_owner_hands_over,
    /// What is handed over says whether it was answered, and unanswered calls are judged as one's own.
    handed_over_calls_are_judged,
    /// Records in memory go with every turn.
    memory_goes_with_the_turn,

    // Commits, answers, and the drain behind them.
    /// `commit.lua` compares the fence key.
    the_script_compares_the_fence,
    /// The ledger's transaction compares the fence.
    the_ledger_compares_the_fence,
    /// … and the watermark.
    the_ledger_compares_the_watermark,
    /// A connection belongs to one life of the server.
    a_connection_is_of_one_life,
    /// An answer leaves after the commit.
    answers_after_the_commit,
    /// While Redis's content is young, keys are looked up in the ledger.
    young_content_asks_the_ledger,
    /// Outcomes carry their fence, and those below `valid_from` are misses. (Off: and are looked at before
    /// the ledger is asked. Either alone suffices.)
    outcomes_carry_their_fence,
    /// The keys of denied checks are in the call.
    denied_keys_are_in_the_call,
    /// A call without an answer is followed by a turn.
    an_unanswered_call_is_a_turn,
    /// A transaction of mode `postgres` without an answer is left to the ledger.
    unanswered_transactions_are_final,
    /// The store numbers the batches, not their writer.
    the_store_numbers,
    /// The drain stops at the first number that is missing.
    the_drain_stops_at_gaps,
    /// The stream is trimmed only up to what Postgres holds.
    trims_after_the_drain,
}

impl Rules {
    pub fn next(&self, progress: Progress, must_wait: bool) -> Next {
        let key_stands = progress.key_stands || !self.asks_again_when_key_is_gone;
        Progress { key_stands, ..progress }.next(must_wait)
    }

    pub fn must_wait(&self, finished: Option<&Finished>, me: &Life, redis: Redis) -> bool {
        let rule = match redis {
            Redis::Fenced { .. } => self.waits_when_content_is_uncertain,
            Redis::NotAsked | Redis::Silent => self.waits_when_redis_is_silent,
        };
        rule && protocol::must_wait(finished, me, redis == Redis::Fenced { certain: true }, false)
    }

    pub fn content_is_certain(&self, finished: Option<&Finished>, found: Option<&Content>) -> bool {
        let left = finished.map(|finished| &finished.mode);
        if !self.mode_postgres_raises_valid_from && left == Some(&Mode::Postgres) {
            return found.is_some();
        }
        // A rule that is off takes what is found for what was left.
        let believed = match (left, found) {
            (Some(Mode::Redis(left)), Some(found)) => Some(Content {
                server_life: if self.content_by_server_life { found.server_life } else { left.server_life },
                key: if self.content_by_fence_key { found.key } else { left.key },
            }),
            (Some(Mode::Redis(left)), None) if !self.content_by_fence_key => Some(*left),
            _ => found.copied(),
        };
        protocol::content_is_certain(finished, believed.as_ref())
    }

    pub fn valid_from(&self, finished: Option<&Finished>, fence: Fence, redis: Redis, late_charged: bool) -> Fence {
        let certain = match redis {
            Redis::Fenced { certain } => certain || !self.uncertain_raises_valid_from,
            Redis::NotAsked | Redis::Silent => !self.mode_postgres_raises_valid_from,
        };
        protocol::valid_from(finished, fence, certain, late_charged && self.late_charge_raises_valid_from)
    }

    /// `late_charged`: a turn that did not finish has charged late entries.
    pub fn fate(
        &self,
        fence: Fence,
        seq: Seq,
        opened: Option<Fence>,
        watermark: Option<Seq>,
        late_charged: bool,
    ) -> Fate {
        let late_charged = late_charged && self.after_late_charges_all_is_late;
        match protocol::fate(fence, seq, opened, watermark, late_charged) {
            Fate::Late if !self.older_fences_are_late && Some(fence) != opened => Fate::InOrder,
            fate => fate,
        }
    }

    pub fn charges_unanswered(&self, fence: Fence, opened: Option<Fence>, stream_read: bool) -> bool {
        let stream_read = stream_read && self.the_stream_settles_unanswered;
        let opened = if self.earlier_turns_settled_unanswered { opened } else { Some(fence) };
        self.unanswered_are_charged && protocol::charges_unanswered(fence, opened, stream_read)
    }
}
