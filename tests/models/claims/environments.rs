//! Environments: who asks for what, and what may go wrong meanwhile.

/// What a caller wants; a repeat is one of its own, under the same intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub kind: Kind,
    pub intent: u8,
    pub user: u8,
    pub cell: u8,
    pub email: u8,
    /// Of the process that it comes to.
    pub peppers: &'static [u8],
}

/// What a process has: the present pepper, that and the next, or the next.
const OLD: &[u8] = &[0];
const BOTH: &[u8] = &[0, 1];
const NEW: &[u8] = &[1];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    SignUp,
    /// Begins once the user is there.
    Change,
}

const fn sign_up(intent: u8, user: u8, cell: u8, email: u8) -> Request {
    Request { kind: Kind::SignUp, intent, user, cell, email, peppers: OLD }
}

const fn change(intent: u8, user: u8, cell: u8, email: u8) -> Request {
    Request { kind: Kind::Change, intent, user, cell, email, peppers: OLD }
}

impl Request {
    const fn under(self, peppers: &'static [u8]) -> Self {
        Self { peppers, ..self }
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Environment {
    pub name: &'static str,
    pub requests: &'static [Request],
    /// User 0 is there from the start: at cell 0, with e-mail 0, by intent 0.
    pub settled: bool,
    /// Under which peppers that e-mail is claimed.
    pub settled_under: &'static [u8],
    /// The one that all processes have: under it every living user's e-mail is claimed. None: none.
    pub common: Option<u8>,
    /// Reapers write claims that are missing under the next pepper, and processes without the first begin
    /// afterwards, when those without the next are gone.
    pub backfill: bool,
    /// Requests or reapers that stop between two steps; their last write may still arrive.
    pub crashes: u8,
    /// Writes that are not answered, and may still arrive.
    pub unanswered: u8,
    pub quick: bool,
}

impl Environment {
    pub fn named(name: &str) -> Self {
        *ALL.iter().find(|environment| environment.name == name).unwrap_or_else(|| panic!("no environment {name}"))
    }
}

const BASE: Environment = Environment {
    name: "",
    requests: &[],
    settled: false,
    settled_under: OLD,
    common: Some(0),
    backfill: false,
    crashes: 1,
    unanswered: 1,
    quick: true,
};

const LATE: &[Request] = &[sign_up(0, 0, 0, 0).under(BOTH), sign_up(0, 2, 1, 0), sign_up(0, 2, 1, 0).under(BOTH)];
const REPEAT_UNDER_BOTH: &[Request] = &[sign_up(0, 0, 0, 0), sign_up(0, 2, 1, 0).under(BOTH)];

const TWO_AND_A_REPEAT: &[Request] = &[sign_up(0, 0, 0, 0), sign_up(1, 1, 1, 0), sign_up(0, 2, 1, 0)];
const RACED_CHANGE: &[Request] = &[change(1, 0, 0, 1), sign_up(2, 2, 1, 1), sign_up(3, 3, 1, 0)];

pub const ALL: &[Environment] = &[
    Environment { name: "one-email-two-cells", requests: &[sign_up(0, 0, 0, 0), sign_up(1, 1, 1, 0)], ..BASE },
    Environment { name: "one-email-and-a-repeat-elsewhere", requests: TWO_AND_A_REPEAT, quick: false, ..BASE },
    Environment {
        name: "a-repeat-elsewhere",
        requests: &[sign_up(0, 0, 0, 0), sign_up(0, 2, 1, 0)],
        crashes: 2,
        ..BASE
    },
    Environment { name: "one-id-one-cell", requests: &[sign_up(0, 0, 0, 0), sign_up(1, 0, 0, 1)], ..BASE },
    Environment { name: "one-id-two-cells", requests: &[sign_up(0, 0, 0, 0), sign_up(1, 0, 1, 1)], ..BASE },
    Environment {
        name: "one-id-and-a-repeat",
        requests: &[sign_up(0, 0, 0, 0), sign_up(1, 0, 0, 1), sign_up(0, 0, 0, 0)],
        quick: false,
        ..BASE
    },
    Environment {
        name: "a-key-with-another-email",
        requests: &[sign_up(0, 0, 0, 0), sign_up(0, 0, 0, 1), sign_up(1, 1, 1, 1)],
        unanswered: 0,
        ..BASE
    },
    Environment {
        name: "a-change-races-a-sign-up",
        requests: &[change(1, 0, 0, 1), sign_up(2, 2, 1, 1)],
        settled: true,
        ..BASE
    },
    Environment { name: "a-change-races-both-sign-ups", requests: RACED_CHANGE, settled: true, quick: false, ..BASE },
    Environment {
        name: "the-left-email-is-taken",
        requests: &[change(1, 0, 0, 1), sign_up(3, 3, 1, 0)],
        settled: true,
        ..BASE
    },
    Environment {
        name: "a-change-and-back",
        requests: &[change(1, 0, 0, 1), change(2, 0, 0, 0), sign_up(3, 3, 1, 1)],
        settled: true,
        quick: false,
        unanswered: 0,
        ..BASE
    },
    Environment {
        name: "a-change-repeated",
        requests: &[change(1, 0, 0, 1), change(1, 0, 0, 1), change(2, 0, 0, 0)],
        settled: true,
        quick: false,
        ..BASE
    },
    Environment {
        name: "a-change-after-a-sign-up",
        requests: &[sign_up(0, 0, 0, 0), change(1, 0, 0, 1)],
        crashes: 2,
        ..BASE
    },
    Environment {
        name: "a-change-beside-a-repeated-sign-up",
        requests: &[sign_up(0, 0, 0, 0), sign_up(0, 0, 0, 0), change(1, 0, 0, 1)],
        unanswered: 0,
        ..BASE
    },
    Environment {
        name: "two-crashes",
        requests: &[sign_up(0, 0, 0, 0), sign_up(1, 1, 1, 0)],
        crashes: 2,
        unanswered: 2,
        quick: false,
        ..BASE
    },
    Environment { name: "old-beside-both", requests: &[sign_up(0, 0, 0, 0), sign_up(1, 1, 1, 0).under(BOTH)], ..BASE },
    Environment {
        name: "both-beside-new",
        requests: &[sign_up(0, 0, 0, 0).under(BOTH), sign_up(1, 1, 1, 0).under(NEW)],
        common: Some(1),
        ..BASE
    },
    Environment {
        name: "both-beside-both",
        requests: &[sign_up(0, 0, 0, 0).under(BOTH), sign_up(1, 1, 1, 0).under(BOTH)],
        unanswered: 0,
        ..BASE
    },
    Environment { name: "a-repeat-from-old-to-both", requests: REPEAT_UNDER_BOTH, unanswered: 0, ..BASE },
    Environment { name: "a-repeat-from-old-to-both-unanswered", requests: REPEAT_UNDER_BOTH, quick: false, ..BASE },
    Environment {
        name: "a-repeat-from-new-to-both",
        requests: &[sign_up(0, 0, 0, 0).under(NEW), sign_up(0, 2, 1, 0).under(BOTH)],
        common: Some(1),
        unanswered: 0,
        ..BASE
    },
    Environment {
        name: "a-repeat-from-new-to-both-at-one-cell",
        requests: &[sign_up(0, 0, 0, 0).under(NEW), sign_up(0, 2, 0, 0).under(BOTH)],
        common: Some(1),
        ..BASE
    },
    Environment {
        name: "a-repeat-beside-another-under-both",
        requests: &[sign_up(0, 0, 0, 0).under(NEW), sign_up(1, 1, 1, 0).under(BOTH), sign_up(0, 2, 0, 0).under(BOTH)],
        common: Some(1),
        crashes: 0,
        unanswered: 0,
        ..BASE
    },
    Environment { name: "a-late-claim-of-both-beside-old", requests: LATE, quick: false, unanswered: 0, ..BASE },
    Environment {
        name: "a-change-at-old",
        requests: &[change(1, 0, 0, 1), sign_up(2, 2, 1, 0).under(BOTH)],
        settled: true,
        settled_under: BOTH,
        unanswered: 0,
        ..BASE
    },
    Environment {
        name: "a-change-at-both-beside-new",
        requests: &[change(1, 0, 0, 1).under(BOTH), sign_up(2, 2, 1, 0).under(NEW)],
        settled: true,
        settled_under: BOTH,
        common: Some(1),
        unanswered: 0,
        ..BASE
    },
    Environment {
        name: "a-change-beside-the-backfill",
        requests: &[change(1, 0, 0, 1).under(BOTH), sign_up(2, 2, 1, 0).under(BOTH)],
        settled: true,
        backfill: true,
        crashes: 0,
        unanswered: 0,
        ..BASE
    },
    Environment {
        name: "old-to-new",
        requests: &[sign_up(0, 0, 0, 0), sign_up(1, 1, 1, 0).under(NEW)],
        common: None,
        backfill: true,
        ..BASE
    },
    Environment {
        name: "old-to-both-to-new",
        requests: &[sign_up(0, 0, 0, 0), sign_up(2, 2, 1, 0).under(BOTH), sign_up(1, 1, 1, 0).under(NEW)],
        common: None,
        backfill: true,
        unanswered: 0,
        quick: false,
        ..BASE
    },
];
