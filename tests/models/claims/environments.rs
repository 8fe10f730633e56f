//! Environments: who asks for what, and what may go wrong meanwhile.

/// What a caller wants; a repeat is one of its own, under the same intent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub kind: Kind,
    pub intent: u8,
    pub user: u8,
    pub cell: u8,
    pub email: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    SignUp,
    /// Begins once the user is there.
    Change,
}

const fn sign_up(intent: u8, user: u8, cell: u8, email: u8) -> Request {
    Request { kind: Kind::SignUp, intent, user, cell, email }
}

const fn change(intent: u8, user: u8, cell: u8, email: u8) -> Request {
    Request { kind: Kind::Change, intent, user, cell, email }
}

#[derive(Clone, Copy, Debug)]
pub struct Environment {
    pub name: &'static str,
    pub requests: &'static [Request],
    /// User 0 is there from the start: at cell 0, with e-mail 0, by intent 0.
    pub settled: bool,
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

const BASE: Environment =
    Environment { name: "", requests: &[], settled: false, crashes: 1, unanswered: 1, quick: true };

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
];
