//! Environments: what may go wrong, how often, and what is asked for meanwhile.

/// How often each fault may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Faults {
    /// Redis dies; it comes back with its disk.
    pub redis_dies: u8,
    /// … with nothing.
    pub comes_back_empty: u8,
    /// … with an older copy.
    pub comes_back_older: u8,
    /// Redis is flushed while it runs.
    pub flushed: u8,
    /// One process does not reach Redis for a while.
    pub redis_link: u8,
    /// One process does not reach Postgres for a while.
    pub postgres_link: u8,
    pub process_dies: u8,
    /// A commit is given up, and may still be carried out.
    pub unanswered_commit: u8,
    /// The drain is given up, and may still be carried out.
    pub unanswered_drain: u8,
    /// `fence.lua` is given up, and may still be carried out.
    pub unanswered_fence: u8,
    /// A turn fails between two of its steps.
    pub broken_turn: u8,
}

#[derive(Clone, Copy, Debug)]
pub struct Environment {
    pub name: &'static str,
    pub faults: Faults,
    /// Turns end here: the first opening has fence 1.
    pub fence_max: u8,
    /// How often each key is sent; 0: never.
    pub tries: [u8; super::state::KEYS],
    /// Whose key it is.
    pub user_of: [u8; super::state::KEYS],
    /// How many checks of a user may be admitted.
    pub limit: u8,
    /// The stream is trimmed; elsewhere it keeps everything, which is what a turn finds at worst.
    pub trims: bool,
    /// Searched by every run of the tests; the others only by the whole one.
    pub quick: bool,
}

const BASE: Environment = Environment {
    name: "",
    faults: NONE,
    fence_max: 3,
    tries: [2, 1, 0],
    user_of: [0, 0, 1],
    limit: 1,
    trims: false,
    quick: true,
};

/// A user who may be admitted twice, and asks three times.
const THREE_OF_ONE_USER: Environment = Environment { tries: [1, 1, 1], user_of: [0, 0, 0], limit: 2, ..BASE };

const NONE: Faults = Faults {
    redis_dies: 0,
    comes_back_empty: 0,
    comes_back_older: 0,
    flushed: 0,
    redis_link: 0,
    postgres_link: 0,
    process_dies: 0,
    unanswered_commit: 0,
    unanswered_drain: 0,
    unanswered_fence: 0,
    broken_turn: 0,
};

pub const ALL: &[Environment] = &[
    Environment { name: "no-fault", ..BASE },
    Environment { name: "redis-dies", faults: Faults { redis_dies: 1, ..NONE }, ..BASE },
    Environment {
        name: "redis-and-process-die",
        faults: Faults { redis_dies: 1, process_dies: 1, ..NONE },
        fence_max: 4,
        quick: false,
        ..BASE
    },
    Environment {
        name: "redis-dies-both-keys-repeated",
        faults: Faults { redis_dies: 1, ..NONE },
        fence_max: 4,
        tries: [2, 2, 0],
        quick: false,
        ..BASE
    },
    Environment { name: "redis-unseen", faults: Faults { redis_link: 1, unanswered_commit: 1, ..NONE }, ..BASE },
    Environment {
        name: "redis-unseen-one-key",
        faults: Faults { redis_link: 1, unanswered_commit: 1, ..NONE },
        fence_max: 4,
        tries: [3, 0, 0],
        quick: false,
        ..BASE
    },
    Environment {
        name: "redis-unseen-broken-turn",
        faults: Faults { redis_link: 1, broken_turn: 1, ..NONE },
        quick: false,
        ..THREE_OF_ONE_USER
    },
    Environment {
        name: "redis-unseen-deciding-process-dies",
        faults: Faults { redis_link: 1, process_dies: 1, ..NONE },
        tries: [3, 0, 0],
        ..BASE
    },
    Environment {
        name: "redis-unseen-taker-dies",
        faults: Faults { redis_link: 1, process_dies: 1, ..NONE },
        fence_max: 4,
        tries: [1, 1, 0],
        quick: false,
        ..BASE
    },
    Environment { name: "flushed", faults: Faults { flushed: 1, ..NONE }, ..BASE },
    Environment {
        name: "flushed-process-dies",
        faults: Faults { flushed: 1, process_dies: 1, ..NONE },
        fence_max: 4,
        tries: [2, 0, 0],
        quick: false,
        ..BASE
    },
    Environment {
        name: "flushed-broken-turn",
        faults: Faults { flushed: 1, broken_turn: 1, ..NONE },
        fence_max: 4,
        tries: [2, 0, 0],
        quick: false,
        ..BASE
    },
    Environment {
        name: "flushed-postgres-unseen",
        faults: Faults { flushed: 1, postgres_link: 1, ..NONE },
        quick: false,
        ..THREE_OF_ONE_USER
    },
    Environment {
        name: "flushed-postgres-unseen-broken-turn",
        faults: Faults { flushed: 1, postgres_link: 1, broken_turn: 1, ..NONE },
        tries: [1, 0, 0],
        ..BASE
    },
    Environment { name: "comes-back-empty", faults: Faults { redis_dies: 1, comes_back_empty: 1, ..NONE }, ..BASE },
    Environment {
        name: "comes-back-older",
        faults: Faults { redis_dies: 1, comes_back_older: 1, ..NONE },
        quick: false,
        ..BASE
    },
    Environment {
        name: "unanswered",
        faults: Faults { unanswered_commit: 1, ..NONE },
        fence_max: 2,
        tries: [2, 2, 0],
        ..BASE
    },
    Environment {
        name: "two-users-unanswered",
        faults: Faults { unanswered_commit: 1, ..NONE },
        fence_max: 2,
        tries: [2, 1, 0],
        user_of: [0, 1, 1],
        limit: 2,
        ..BASE
    },
    Environment {
        name: "drain-unanswered",
        faults: Faults { unanswered_drain: 1, process_dies: 1, ..NONE },
        trims: true,
        ..BASE
    },
    Environment {
        name: "postgres-and-redis-unseen",
        faults: Faults { postgres_link: 1, redis_link: 1, ..NONE },
        ..BASE
    },
    Environment {
        name: "fence-unanswered",
        faults: Faults { unanswered_fence: 1, flushed: 1, ..NONE },
        tries: [1, 1, 0],
        quick: false,
        ..BASE
    },
    Environment {
        name: "redis-dies-unanswered",
        faults: Faults { redis_dies: 1, unanswered_commit: 1, ..NONE },
        ..BASE
    },
    Environment { name: "three-keys", ..THREE_OF_ONE_USER },
    Environment {
        name: "much-dies",
        faults: Faults { redis_dies: 1, comes_back_empty: 1, unanswered_commit: 1, process_dies: 1, ..NONE },
        quick: false,
        ..BASE
    },
    Environment {
        name: "much-unseen",
        faults: Faults { redis_link: 1, postgres_link: 1, unanswered_commit: 1, unanswered_drain: 1, ..NONE },
        quick: false,
        ..BASE
    },
];

impl Environment {
    pub fn named(name: &str) -> Self {
        *ALL.iter().find(|environment| environment.name == name).unwrap_or_else(|| panic!("no environment {name}"))
    }
}
