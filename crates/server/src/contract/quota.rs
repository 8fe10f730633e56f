//! The rows of quota: decisions, what is left, what was charged.

use super::headers::{DECIDED, SEEN};
use super::operation::{By, Example, Link, Operation, Parameter, Success};
use cellar_model::{ProblemType, Scope};

const QUOTA: By = By::Key(Scope::Quota);
const READERS: By = By::KeyOrSession(&[Scope::Quota, Scope::Users]);
const OF_GRACE: &[(Parameter, &str)] = &[(Parameter::User, "grace")];

const REFUND: Link = Link {
    name: "refund",
    operation: "refund",
    parameters: &[],
    body: r#"{"user_id":"$request.body#/user_id","charge_id":"$response.body#/charge_id"}"#,
};
const SETTLE: Link = Link {
    name: "settle",
    operation: "settle",
    parameters: &[],
    body: r#"{"user_id":"$request.body#/user_id","charge_id":"$response.body#/charge_id"}"#,
};

const ADMITTED: &str = r#"{"allowed":true,"charge_id":"c1-1-1-0","version":1,"tier":"free","catalog_revision":7,"policies":[{"slot":"per-minute","unit":"requests","limit":6,"remaining":5,"resets_at":"2026-03-01T09:30:10Z"},{"slot":"monthly","unit":"tokens","limit":20000,"remaining":18720,"resets_at":"2026-04-01T00:00:00Z"}]}"#;
const LEFT: &str = r#"{"allowed":true,"version":1,"tier":"free","catalog_revision":7,"policies":[{"slot":"per-minute","unit":"requests","limit":6,"remaining":5,"resets_at":"2026-03-01T09:30:10Z"},{"slot":"monthly","unit":"tokens","limit":20000,"remaining":18720,"resets_at":"2026-04-01T00:00:00Z"}]}"#;
const CHANGED: &str = r#"{"allowed":true,"version":5,"tier":"free","catalog_revision":7,"policies":[{"slot":"per-minute","unit":"requests","limit":6,"remaining":5,"resets_at":"2026-03-01T09:30:10Z"},{"slot":"monthly","unit":"tokens","limit":20000,"remaining":18720,"resets_at":"2026-04-01T00:00:00Z","granted":5000}]}"#;

const fn decided(links: &'static [Link]) -> Success {
    Success { status: 200, description: "Admitted and charged", schema: Some("ConsumeAnswer"), headers: DECIDED, links }
}

const fn done(description: &'static str) -> Success {
    Success { status: 200, description, schema: Some("ConsumeAnswer"), headers: DECIDED, links: &[] }
}

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        id: "consume",
        method: "post",
        path: "/v1/internal/quota/consume",
        tag: "quota",
        summary: "Decide one check, and charge it if it is admitted",
        description: "Without a cost it is one request. The user stands in the body, or in `Cellar-User`. A key with \
            `auto_enrol` signs up a user whom it sees for the first time.",
        by: QUOTA,
        parameters: &[Parameter::User, Parameter::IdempotencyKey],
        body: Some("ConsumeBody"),
        success: decided(&[REFUND]),
        not_modified: false,
        problems: &[
            ProblemType::UnknownUser, ProblemType::Blocked, ProblemType::QuotaExceeded, ProblemType::UnknownUnit,
            ProblemType::AboveLimit, ProblemType::KeyReused, ProblemType::ClockNotVirtual, ProblemType::UnknownTier,
            ProblemType::RecordFull,
        ],
        examples: &[
            Example {
                name: "tokens",
                summary: "A request of 1,280 tokens",
                parameters: &[(Parameter::IdempotencyKey, "\"request-1\"")],
                body: r#"{"user_id":"grace","cost":1280,"attributes":{"model":"large"}}"#,
                answer: ADMITTED,
            },
            Example {
                name: "ask",
                summary: "Only asked: charges nothing",
                parameters: &[],
                body: r#"{"user_id":"grace","cost":{"requests":0,"tokens":0}}"#,
                answer: LEFT,
            },
        ],
    },
    Operation {
        id: "batch",
        method: "post",
        path: "/v1/internal/quota/batch",
        tag: "quota",
        summary: "Decide up to 1,000 checks, each by itself, in order",
        description: "Over any users and cells. Each result has its own `status`: an answer, a denial, or a problem. An \
            item's key is its own, or the header's with its place.",
        by: QUOTA,
        parameters: &[Parameter::IdempotencyKey],
        body: Some("BatchBody"),
        success: Success {
            status: 200,
            description: "A result a check",
            schema: Some("BatchAnswer"),
            headers: &[],
            links: &[],
        },
        not_modified: false,
        problems: &[],
        examples: &[Example {
            name: "two",
            summary: "One who is known and one who is not",
            parameters: &[],
            body: r#"{"checks":[{"user_id":"grace","cost":{"requests":0,"tokens":10}},{"user_id":"nobody","cost":1}]}"#,
            answer: r#"{"results":[{"status":200,"allowed":true,"charge_id":"c1-1-2-0","version":2,"tier":"free","catalog_revision":7,"policies":[{"slot":"monthly","unit":"tokens","limit":20000,"remaining":18710,"resets_at":"2026-04-01T00:00:00Z"}]},{"status":404,"type":"/problems/unknown-user","title":"There is no such user"}]}"#,
        }],
    },
    Operation {
        id: "admit",
        method: "post",
        path: "/v1/internal/admit",
        tag: "quota",
        summary: "Who is this, and may they spend this now",
        description: "A session and a check in one call, for an application that knows its callers by their tokens. The \
            session comes first: one that is not in force is 401, `invalid-session`, and charges nothing.",
        by: QUOTA,
        parameters: &[Parameter::IdempotencyKey],
        body: Some("AdmitBody"),
        success: decided(&[Link {
            name: "refund",
            operation: "refund",
            parameters: &[],
            body: r#"{"user_id":"$response.body#/user_id","charge_id":"$response.body#/charge_id"}"#,
        }]),
        not_modified: false,
        problems: &[
            ProblemType::InvalidSession, ProblemType::UnknownUser, ProblemType::Blocked, ProblemType::QuotaExceeded,
            ProblemType::UnknownUnit, ProblemType::AboveLimit, ProblemType::KeyReused, ProblemType::ClockNotVirtual,
            ProblemType::RecordFull,
        ],
        examples: &[Example {
            name: "session",
            summary: "The token of a session in force",
            parameters: &[],
            body: r#"{"session_token":"cst1.grace.06h0qt4rc9rlh3bjimmfbvvft0.….…","cost":{"requests":0,"tokens":10}}"#,
            answer: r#"{"allowed":true,"user_id":"grace","session_id":"06h0qt4rc9rlh3bjimmfbvvft0","charge_id":"c1-1-3-0","version":3,"tier":"free","catalog_revision":7,"policies":[{"slot":"monthly","unit":"tokens","limit":20000,"remaining":18700,"resets_at":"2026-04-01T00:00:00Z"}]}"#,
        }],
    },
    Operation {
        id: "reserve",
        method: "post",
        path: "/v1/internal/quota/reserve",
        tag: "quota",
        summary: "Charge now what a request may use, and settle later what it did use",
        description: "A user may have 64 open reservations. One that is not settled in time is given back, or kept as it \
            is, as its tier says.",
        by: QUOTA,
        parameters: &[Parameter::IdempotencyKey],
        body: Some("ReserveBody"),
        success: decided(&[SETTLE, REFUND]),
        not_modified: false,
        problems: &[
            ProblemType::UnknownUser, ProblemType::Blocked, ProblemType::QuotaExceeded, ProblemType::UnknownUnit,
            ProblemType::AboveLimit, ProblemType::KeyReused, ProblemType::ClockNotVirtual, ProblemType::UnknownTier,
            ProblemType::TooManyReservations, ProblemType::RecordFull,
        ],
        examples: &[Example {
            name: "tokens",
            summary: "At most 500 tokens, settled within two minutes",
            parameters: &[(Parameter::IdempotencyKey, "\"reserve-1\"")],
            body: r#"{"user_id":"grace","cost":{"requests":0,"tokens":500},"expires_in_s":120}"#,
            answer: r#"{"allowed":true,"charge_id":"c1-1-4-0","version":4,"tier":"free","catalog_revision":7,"policies":[{"slot":"monthly","unit":"tokens","limit":20000,"remaining":18200,"resets_at":"2026-04-01T00:00:00Z"}],"expires_at":"2026-03-01T09:32:00Z"}"#,
        }],
    },
    Operation {
        id: "settle",
        method: "post",
        path: "/v1/internal/quota/settle",
        tag: "quota",
        summary: "Say what a reservation really used",
        description: "The difference is charged or given back, once. What was used above what was left is charged all the \
            same: `overshoot` says how much, by unit. Attributes are not kept: say those of the reservation again.",
        by: QUOTA,
        parameters: &[Parameter::IdempotencyKey],
        body: Some("SettleBody"),
        success: done("Settled"),
        not_modified: false,
        problems: &[
            ProblemType::UnknownUser, ProblemType::Blocked, ProblemType::UnknownCharge, ProblemType::NotReserved,
            ProblemType::ChargeClosed, ProblemType::KeyReused, ProblemType::UnknownUnit, ProblemType::AboveLimit,
            ProblemType::ClockNotVirtual, ProblemType::RecordFull,
        ],
        examples: &[Example {
            name: "less",
            summary: "420 tokens of the 500",
            parameters: &[],
            body: r#"{"user_id":"grace","charge_id":"c1-1-4-0","cost":{"requests":0,"tokens":420}}"#,
            answer: r#"{"allowed":true,"charge_id":"c1-1-4-0","version":5,"tier":"free","catalog_revision":7,"policies":[{"slot":"monthly","unit":"tokens","limit":20000,"remaining":18280,"resets_at":"2026-04-01T00:00:00Z"}]}"#,
        }],
    },
    Operation {
        id: "refund",
        method: "post",
        path: "/v1/internal/quota/refund",
        tag: "quota",
        summary: "Give a charge back, once",
        description: "A charge of the last 40 days.",
        by: QUOTA,
        parameters: &[Parameter::IdempotencyKey],
        body: Some("RefundBody"),
        success: done("Given back"),
        not_modified: false,
        problems: &[
            ProblemType::UnknownUser, ProblemType::Blocked, ProblemType::UnknownCharge, ProblemType::ChargeClosed,
            ProblemType::KeyReused, ProblemType::ClockNotVirtual, ProblemType::RecordFull,
        ],
        examples: &[Example {
            name: "charge",
            summary: "Of an earlier consume",
            parameters: &[],
            body: r#"{"user_id":"grace","charge_id":"c1-1-1-0"}"#,
            answer: r#"{"allowed":true,"charge_id":"c1-1-1-0","version":6,"tier":"free","catalog_revision":7,"policies":[{"slot":"monthly","unit":"tokens","limit":20000,"remaining":19560,"resets_at":"2026-04-01T00:00:00Z"}]}"#,
        }],
    },
    Operation {
        id: "grant",
        method: "post",
        path: "/v1/internal/quota/grant",
        tag: "quota",
        summary: "Give a user extra in one slot until a date",
        description: "Eight grants may be in force at once.",
        by: QUOTA,
        parameters: &[Parameter::IdempotencyKey],
        body: Some("GrantBody"),
        success: done("In force"),
        not_modified: false,
        problems: &[
            ProblemType::UnknownUser, ProblemType::Blocked, ProblemType::UnknownSlot, ProblemType::KeyReused,
            ProblemType::ClockNotVirtual, ProblemType::RecordFull,
        ],
        examples: &[Example {
            name: "tokens",
            summary: "5,000 tokens more",
            parameters: &[(Parameter::IdempotencyKey, "\"grant-1\"")],
            body: r#"{"user_id":"grace","slot":"monthly","amount":5000,"until":"2099-01-01T00:00:00Z"}"#,
            answer: CHANGED,
        }],
    },
    Operation {
        id: "overrideSlot",
        method: "put",
        path: "/v1/internal/users/{id}/override",
        tag: "quota",
        summary: "Give a user other settings of one slot until a date",
        description: "The settings are those of the slot's policy; each that it does not take is pointed at. At most 1,024 \
            bytes of JSON.",
        by: QUOTA,
        parameters: &[Parameter::UserInPath, Parameter::IdempotencyKey],
        body: Some("OverrideBody"),
        success: done("In force"),
        not_modified: false,
        problems: &[
            ProblemType::UnknownUser, ProblemType::Blocked, ProblemType::UnknownSlot, ProblemType::KeyReused,
            ProblemType::ClockNotVirtual, ProblemType::RecordFull,
        ],
        examples: &[Example {
            name: "limit",
            summary: "Another limit",
            parameters: &[(Parameter::UserInPath, "grace")],
            body: r#"{"slot":"monthly","settings":{"limit":50000},"until":"2099-01-01T00:00:00Z"}"#,
            answer: CHANGED,
        }],
    },
    Operation {
        id: "readQuota",
        method: "get",
        path: "/v1/user/quota",
        tag: "quota",
        summary: "What is left of the user's quota, without spending",
        description: "",
        by: READERS,
        parameters: &[],
        body: None,
        success: Success {
            status: 200,
            description: "Each policy of the user's tier, with what is left",
            schema: Some("QuotaBody"),
            headers: SEEN,
            links: &[],
        },
        not_modified: false,
        problems: &[ProblemType::UnknownTier],
        examples: &[Example {
            name: "quota",
            summary: "A user's",
            parameters: OF_GRACE,
            body: "",
            answer: r#"{"user_id":"grace","tier":"free","policies":[{"slot":"monthly","unit":"tokens","limit":20000,"remaining":19560,"resets_at":"2026-04-01T00:00:00Z","granted":5000}]}"#,
        }],
    },
    Operation {
        id: "readUsage",
        method: "get",
        path: "/v1/user/usage",
        tag: "quota",
        summary: "What the user was charged, by day",
        description: "By the ledger, which is at most moments behind the counters.",
        by: READERS,
        parameters: &[Parameter::From, Parameter::To],
        body: None,
        success: Success {
            status: 200,
            description: "By unit, in all and for each day with charges",
            schema: Some("UsageBody"),
            headers: &[],
            links: &[],
        },
        not_modified: false,
        problems: &[ProblemType::UnknownTier],
        examples: &[Example {
            name: "month",
            summary: "Of a month",
            parameters: &[
                (Parameter::User, "grace"),
                (Parameter::From, "2026-03-01"),
                (Parameter::To, "2026-04-01"),
            ],
            body: "",
            answer: r#"{"user_id":"grace","from":"2026-03-01","to":"2026-04-01","totals":{"requests":1,"tokens":440},"days":[{"day":"2026-03-01","charges":{"requests":1,"tokens":440}}]}"#,
        }],
    },
];
