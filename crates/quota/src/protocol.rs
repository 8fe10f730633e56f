//! The rules of the turn, as pure functions: the shard's process runs them, and so does the model that
//! searches every order of events for a lost or doubled charge (`tests/models`).

use cellar_model::{Fence, Seq};
use std::time::Duration;

/// The last finished turn, as Postgres has it. `C` is what Redis must show for its content to be what
/// that turn left there; `O` one life of a process.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Finished<O, C> {
    pub opened: Fence,
    pub owner: O,
    pub mode: Mode<C>,
    /// Since which fence records and outcomes in Redis count.
    pub valid_from: Fence,
}

/// The store that takes a shard's commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode<C> {
    Redis(C),
    Postgres,
}

/// What step 2 found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Redis {
    NotAsked,
    /// No answer, or none that can be used: what it holds is not known.
    Silent,
    /// The turn's own fence key stands; no older writer's script writes any more.
    Fenced {
        certain: bool,
    },
}

/// How far a turn has come after step 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Progress {
    pub redis: Redis,
    /// The wait is over, or was not needed.
    pub waited: bool,
    pub drained: bool,
    /// After the drain: the turn's fence key still stands.
    pub key_stands: bool,
}

/// What a turn does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Next {
    AskRedis,
    /// Until the last owner has stopped, or cannot be acknowledging any more.
    Wait,
    Drain,
    OpenOnRedis,
    OpenOnPostgres,
}

impl Progress {
    pub const BEGUN: Self = Self { redis: Redis::NotAsked, waited: false, drained: false, key_stands: true };

    /// `must_wait` as [`must_wait`] says of what was found.
    pub fn next(self, must_wait: bool) -> Next {
        match self.redis {
            Redis::NotAsked => Next::AskRedis,
            _ if must_wait && !self.waited => Next::Wait,
            _ if !self.drained => Next::Drain,
            // Emptied, or restarted from an older disk, between the drain and here: what it holds now is
            // not what was drained.
            Redis::Fenced { .. } if !self.key_stands => Next::AskRedis,
            Redis::Fenced { .. } => Next::OpenOnRedis,
            Redis::Silent => Next::OpenOnPostgres,
        }
    }
}

/// Whether what Redis holds is what the last finished turn left there and its owner added: `found` is
/// what stands there (which life of the server, which key). A flush changes neither `run_id` nor
/// replication ids, so the key has to tell.
pub fn content_is_certain<O, C: PartialEq>(finished: Option<&Finished<O, C>>, found: Option<&C>) -> bool {
    match (finished.map(|finished| &finished.mode), found) {
        (Some(Mode::Redis(left)), Some(found)) => left == found,
        _ => false,
    }
}

/// Whether the last owner may still hold acknowledged charges that neither store shows. `ended`: it has
/// said so itself, or is proven dead.
pub fn must_wait<O: PartialEq, C>(finished: Option<&Finished<O, C>>, me: &O, certain: bool, ended: bool) -> bool {
    finished
        .is_some_and(|finished| matches!(finished.mode, Mode::Redis(_)) && finished.owner != *me && !certain && !ended)
}

/// Since which fence records and outcomes in Redis count under the new `fence`. Older ones are misses:
/// no scan is needed. Late charges went into Postgres alone, so Redis is behind it. Before the first turn
/// nothing was ever committed, however many were begun at once.
pub fn valid_from<O, C>(finished: Option<&Finished<O, C>>, fence: Fence, certain: bool, late_charged: bool) -> Fence {
    match finished {
        None => Fence(1),
        Some(finished) if certain && !late_charged => finished.valid_from,
        Some(_) => fence,
    }
}

/// What becomes of a committed entry that a turn finds, in the stream or in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// Postgres holds it.
    Drained,
    /// Of the fence this turn ends: written in order, with the record it left.
    InOrder,
    /// Above what the ledger has of its fence, and others have decided, or charged, since: it is charged on
    /// the user's present record, unless its charge or key is known.
    Late,
}

/// `watermark`: the last seq of `fence` that Postgres holds. `late_charged`: a turn that ended the same
/// fence charged late entries and did not finish, so records it left are ahead of those found.
pub fn fate(fence: Fence, seq: Seq, opened: Option<Fence>, watermark: Option<Seq>, late_charged: bool) -> Fate {
    if Some(seq) <= watermark {
        Fate::Drained
    } else if Some(fence) == opened && !late_charged {
        Fate::InOrder
    } else {
        Fate::Late
    }
}

/// Whether an unanswered call to Redis under `fence` is charged by the late rule. With the stream read,
/// it alone says what was written; those of earlier fences were settled by earlier turns. A transaction
/// of mode `postgres` never is: step 1 made the ledger's word final.
pub fn charges_unanswered(fence: Fence, opened: Option<Fence>, stream_read: bool) -> bool {
    Some(fence) == opened && !stream_read
}

/// Whether an owner may still acknowledge: `autonomy` runs from when the question was *sent* that
/// Postgres last answered with its fence, and is looked at when a store's answer is *handled*.
pub fn is_autonomous(now: Duration, confirmed: Duration, autonomy: Duration) -> bool {
    now.saturating_sub(confirmed) <= autonomy
}

/// For how long beyond `autonomy` a taker waits: clocks of two machines run at different speeds.
const WAIT_MARGIN: Duration = Duration::from_secs(1);

/// Whether a taker that knows nothing of the last owner has waited long enough since step 1 was answered.
pub fn wait_is_over(now: Duration, begun: Duration, autonomy: Duration) -> bool {
    now.saturating_sub(begun) > autonomy + WAIT_MARGIN
}

#[cfg(test)]
mod tests {
    use super::*;

    type Turn = Finished<&'static str, (&'static str, &'static str)>;

    fn finished() -> Turn {
        Finished { opened: Fence(4), owner: "other", mode: Mode::Redis(("run", "4:aa")), valid_from: Fence(2) }
    }

    #[test]
    fn content_counts_only_in_the_same_life_with_the_same_key() {
        let turn = finished();
        assert!(content_is_certain(Some(&turn), Some(&("run", "4:aa"))));
        assert!(!content_is_certain(Some(&turn), Some(&("run", "4:bb"))), "another turn came between");
        assert!(!content_is_certain(Some(&turn), None), "flushed, or silent");
        assert!(!content_is_certain(Some(&turn), Some(&("other", "4:aa"))), "restarted");
        let postgres = Turn { mode: Mode::Postgres, ..turn };
        assert!(!content_is_certain(Some(&postgres), Some(&("run", "4:aa"))), "behind what Postgres took");
        assert!(!content_is_certain::<(), ()>(None, Some(&())), "never opened");
    }

    #[test]
    fn uncertain_content_counts_from_the_new_fence() {
        assert_eq!(valid_from(Some(&finished()), Fence(5), true, false), Fence(2));
        assert_eq!(valid_from(Some(&finished()), Fence(5), false, false), Fence(5));
        assert_eq!(valid_from(Some(&finished()), Fence(5), true, true), Fence(5), "Postgres alone has the late charge");
        assert_eq!(valid_from::<(), ()>(None, Fence(5), false, false), Fence(1), "nothing was ever committed");
    }

    #[test]
    fn only_another_life_that_may_still_run_is_waited_for() {
        assert!(must_wait(Some(&finished()), &"me", false, false));
        assert!(!must_wait(Some(&finished()), &"me", true, false), "nothing can be missing");
        assert!(!must_wait(Some(&finished()), &"me", false, true), "it is dead, or has said that it stopped");
        assert!(!must_wait(Some(&finished()), &"other", false, false), "it is this very process");
        let postgres = Turn { mode: Mode::Postgres, ..finished() };
        assert!(!must_wait(Some(&postgres), &"me", false, false), "step 1 waited out its transactions");
    }

    #[test]
    fn a_turn_asks_waits_drains_and_opens_and_asks_again_when_its_key_is_gone() {
        let begun = Progress::BEGUN;
        assert_eq!(begun.next(false), Next::AskRedis);
        let silent = Progress { redis: Redis::Silent, ..begun };
        assert_eq!(silent.next(true), Next::Wait);
        assert_eq!(Progress { waited: true, ..silent }.next(true), Next::Drain);
        assert_eq!(Progress { drained: true, ..silent }.next(false), Next::OpenOnPostgres);
        let fenced = Progress { redis: Redis::Fenced { certain: true }, drained: true, ..begun };
        assert_eq!(fenced.next(false), Next::OpenOnRedis);
        assert_eq!(Progress { key_stands: false, ..fenced }.next(false), Next::AskRedis);
    }

    #[test]
    fn entries_of_the_ended_fence_go_in_order_and_older_ones_late() {
        let opened = Some(Fence(4));
        assert_eq!(fate(Fence(4), Seq(7), opened, Some(Seq(7)), false), Fate::Drained);
        assert_eq!(fate(Fence(4), Seq(8), opened, Some(Seq(7)), false), Fate::InOrder);
        assert_eq!(fate(Fence(4), Seq(0), opened, None, false), Fate::InOrder);
        assert_eq!(fate(Fence(3), Seq(8), opened, Some(Seq(7)), false), Fate::Late);
        assert_eq!(fate(Fence(3), Seq(7), opened, Some(Seq(7)), false), Fate::Drained);
        assert_eq!(fate(Fence(4), Seq(8), opened, Some(Seq(7)), true), Fate::Late, "after late charges all is late");
    }

    #[test]
    fn an_unanswered_call_is_charged_only_while_nobody_can_say() {
        assert!(charges_unanswered(Fence(4), Some(Fence(4)), false));
        assert!(!charges_unanswered(Fence(4), Some(Fence(4)), true), "the stream says");
        assert!(!charges_unanswered(Fence(3), Some(Fence(4)), false), "an earlier turn has said");
    }

    #[test]
    fn a_taker_waits_longer_than_an_owner_may_acknowledge() {
        let s = Duration::from_secs;
        assert!(is_autonomous(s(130), s(10), s(120)));
        assert!(!is_autonomous(s(131), s(10), s(120)));
        assert!(!wait_is_over(s(131), s(10), s(120)));
        assert!(wait_is_over(s(132), s(10), s(120)));
    }
}
