//! The world: two processes, one shard, its two stores, and what is under way between them.

use super::environments::Faults;
use super::rules::Finished;
use cellar_model::{Fence, Seq};
use cellar_quota::protocol::Progress;

pub const PROCESSES: usize = 2;
pub const USERS: usize = 2;
pub const KEYS: usize = 3;

/// One life of a process: what owns a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Life {
    pub process: u8,
    pub number: u8,
}

/// `<fence>:<nonce>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FenceKey {
    pub fence: Fence,
    pub nonce: u8,
}

/// What Redis shows: which life of the server, which key. A connection is bound to the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Content {
    pub server_life: u8,
    pub key: FenceKey,
}

/// A record after a commit, and the body of the answer to it: who decided, and the checks charged so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Charged {
    pub fence: Fence,
    pub count: u8,
}

/// A commit of one check. Its charge is named by user, fence and count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Entry {
    pub charged: Charged,
    /// Given by the store; none: the call was not answered.
    pub seq: Option<Seq>,
    pub key: u8,
    /// Tells the calls of a key apart.
    pub attempt: u8,
}

impl Entry {
    pub fn fence(&self) -> Fence {
        self.charged.fence
    }

    pub fn is_call_of(&self, other: &Entry) -> bool {
        (self.key, self.attempt) == (other.key, other.attempt)
    }
}

/// What is on its way to a store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Message {
    /// `commit.lua`. A denied check only has its key looked up and the fence confirmed.
    Commit { sender: Life, over: Content, valid_from: Fence, entry: Entry, denied: bool },
    /// The ledger's transaction: a commit of mode `postgres`, or a drain (which one of its attempts).
    Ledger { sender: Life, fence: Fence, after: Option<Seq>, entries: Vec<Entry>, drain: Option<u8> },
    /// A `fence.lua` that nobody waits for any more.
    Fence(Content),
}

impl Message {
    /// The life of the server whose connection carries it.
    pub fn server_life(&self) -> Option<u8> {
        match self {
            Message::Commit { over, .. } | Message::Fence(over) => Some(over.server_life),
            Message::Ledger { .. } => None,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Disk {
    pub key: Option<FenceKey>,
    pub records: [Option<Charged>; USERS],
    pub outcomes: [Option<Charged>; KEYS],
    /// `ledger:{s}`, in the order of its ids.
    pub stream: Vec<Entry>,
    pub last_id: Option<(Fence, Seq)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RedisServer {
    pub up: bool,
    pub life: u8,
    pub disk: Disk,
    pub older_copy: Option<Disk>,
}

/// The row of the shard, and the tables beside it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Postgres {
    pub fence: Fence,
    pub finished: Finished,
    /// `drained_seq`.
    pub drained: Option<Seq>,
    /// `shard.late`: the last fence whose turn charged late entries.
    pub late_mark: Fence,
    /// `fences`: how far the ledger has the entries of ended fences.
    pub watermarks: Vec<(Fence, Option<Seq>)>,
    /// Handed over by deposed owners.
    pub late: Vec<Entry>,
    pub ledger: Vec<Entry>,
    /// `quota_state`.
    pub records: [Option<Charged>; USERS],
}

impl Postgres {
    pub fn has_key(&self, key: u8) -> bool {
        self.ledger.iter().any(|entry| entry.key == key)
    }

    pub fn count(&self, user: usize) -> u8 {
        self.records[user].map_or(0, |record| record.count)
    }
}

/// What takes the commits of an open shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Store {
    Redis { over: Content, valid_from: Fence },
    Postgres,
}

/// A turn under way, after step 1.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Turn {
    pub finished: Finished,
    /// A turn since the last finished one has charged late entries.
    pub late_charged_before: bool,
    pub progress: Progress,
    /// The Redis this turn has fenced.
    pub over: Option<Content>,
    pub nonce: u8,
    /// What is still to be charged late; none: not drained yet.
    pub late: Option<Vec<Entry>>,
    pub late_charged: bool,
    /// Who could not be heard when the wait was over.
    pub unheard: [bool; PROCESSES],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Not the writer, or a turn of its own failed.
    Closed,
    Turning(Turn),
    Open(Store),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    Committed(Seq),
    Denied,
    Replayed(Charged),
    Fenced,
}

/// A call to the store, until its answer is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    pub entry: Entry,
    pub denied: bool,
    pub reply: Option<Reply>,
    /// The store took it although a later turn was finished.
    pub after_a_later_turn: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Process {
    pub life: Life,
    pub phase: Phase,
    /// Of its last turn.
    pub fence: Fence,
    /// Counts of the users in memory.
    pub memory: [Option<u8>; USERS],
    /// Committed and not known to be in Postgres.
    pub tail: Vec<Entry>,
    /// Up to where it knows Postgres to hold its fence's entries.
    pub drained: Option<Seq>,
    /// The attempt of the drain under way.
    pub drain: Option<u8>,
    pub calls: Vec<Call>,
    /// Calls to Redis that were not answered, under whatever fence.
    pub unanswered: Vec<Entry>,
    /// Another's turn has waited until this one's autonomy is over.
    pub waited_out: bool,
    pub turn_due: bool,
}

impl Process {
    pub fn new(process: usize, number: u8) -> Self {
        Self {
            life: Life { process: process as u8, number },
            phase: Phase::Closed,
            fence: Fence(0),
            memory: [None; USERS],
            tail: Vec::new(),
            drained: None,
            drain: None,
            calls: Vec::new(),
            unanswered: Vec::new(),
            waited_out: false,
            turn_due: false,
        }
    }

    pub fn store(&self) -> Option<Store> {
        match self.phase {
            Phase::Open(store) => Some(store),
            _ => None,
        }
    }

    pub fn is_open(&self) -> bool {
        self.store().is_some()
    }
}

/// What DESIGN §11 does not promise any more, after the faults there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Excused {
    /// A key may be decided anew.
    pub replays: bool,
    /// More than the limit may be admitted: the undrained bound.
    pub admissions: bool,
    /// No copy of an acknowledged charge survives.
    pub losses: bool,
}

/// What has happened, so that a search can show that it does happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seen {
    pub replay: bool,
    pub mode_postgres: bool,
    pub late_charge: bool,
}

/// What may never happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Claim {
    OneWriter,
    NoOverAdmission,
    NothingLost,
    CounterIsLedger,
    ChargedOnce,
    SameAnswer,
    NoOldState,
    NothingLateForgotten,
    NothingRefusedIsCharged,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub postgres: Postgres,
    pub redis: RedisServer,
    pub processes: [Process; PROCESSES],
    /// Sorted: the order of sending says nothing about the order of arrival.
    pub network: Vec<Message>,
    pub redis_link: [bool; PROCESSES],
    pub postgres_link: [bool; PROCESSES],
    /// How often each key will still be sent, and its first answer.
    pub tries: [u8; KEYS],
    pub answers: [Option<Charged>; KEYS],
    pub faults: Faults,
    pub excused: Excused,
    pub seen: Seen,
    /// Records of a lower fence belong to a life of Redis that is over.
    pub content_since: Fence,
    /// Redis lost or went back in content since the last opening on it.
    pub content_lost: bool,
    /// The first claim that was found false. Nothing follows it.
    pub broken: Option<Claim>,
}

impl State {
    pub fn initial(faults: Faults, tries: [u8; KEYS]) -> Self {
        let key = FenceKey { fence: Fence(1), nonce: 0 };
        let over = Content { server_life: 0, key };
        let mut writer = Process::new(0, 0);
        writer.fence = Fence(1);
        writer.phase = Phase::Open(Store::Redis { over, valid_from: Fence(1) });
        let finished = Finished {
            opened: Fence(1),
            owner: writer.life,
            mode: cellar_quota::protocol::Mode::Redis(over),
            valid_from: Fence(1),
        };
        Self {
            postgres: Postgres {
                fence: Fence(1),
                finished,
                drained: None,
                late_mark: Fence(0),
                watermarks: Vec::new(),
                late: Vec::new(),
                ledger: Vec::new(),
                records: [None; USERS],
            },
            redis: RedisServer {
                up: true,
                life: 0,
                disk: Disk { key: Some(key), ..Disk::default() },
                older_copy: None,
            },
            processes: [writer, Process::new(1, 0)],
            network: Vec::new(),
            redis_link: [true; PROCESSES],
            postgres_link: [true; PROCESSES],
            tries,
            answers: [None; KEYS],
            faults,
            excused: Excused::default(),
            seen: Seen::default(),
            content_since: Fence(1),
            content_lost: false,
            broken: None,
        }
    }

    pub fn send(&mut self, message: Message) {
        let place = self.network.binary_search(&message).unwrap_or_else(|place| place);
        self.network.insert(place, message);
    }

    pub fn reaches_redis(&self, process: usize) -> bool {
        self.redis.up && self.redis_link[process]
    }

    /// Whether `process` still is who Postgres calls the writer, or the taker.
    pub fn fence_is_mine(&self, process: usize) -> bool {
        self.postgres.fence == self.processes[process].fence
    }

    pub fn breaks(&mut self, claim: Claim) {
        self.broken.get_or_insert(claim);
    }

    /// Whether an acknowledged charge under `key` can still reach the ledger, or has.
    pub fn survives(&self, key: u8) -> bool {
        let of_key = |entry: &Entry| entry.key == key;
        self.postgres.has_key(key)
            || self.redis.disk.stream.iter().any(of_key)
            || self.postgres.late.iter().any(|entry| of_key(entry) && entry.seq.is_some())
            || self.processes.iter().any(|process| process.tail.iter().any(of_key))
            || self.processes.iter().any(|process| match &process.phase {
                Phase::Turning(turn) => turn.late.iter().flatten().any(|entry| of_key(entry) && entry.seq.is_some()),
                _ => false,
            })
    }

    /// After a fault: what it took the last copy of is not owed any more.
    pub fn excuse_what_is_lost(&mut self) {
        let lost = (0..KEYS).any(|key| self.answers[key].is_some() && !self.survives(key as u8));
        if lost {
            self.excused = Excused { replays: true, admissions: true, losses: true };
        }
    }

    /// Nothing is under way, and the ledger has all there is.
    pub fn is_quiet(&self) -> bool {
        self.network.is_empty()
            && self.redis.disk.stream.iter().all(|entry| self.postgres.has_key(entry.key))
            && self
                .processes
                .iter()
                .all(|process| process.tail.is_empty() && process.calls.is_empty() && process.unanswered.is_empty())
    }
}
