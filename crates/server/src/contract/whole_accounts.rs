//! The rows of whole accounts: password, export and end, by their user or by a service key; tier and block.

use super::headers::TAGGED;
use super::operation::{Also, By, Example, Operation, Parameter, Success};
use cellar_model::{ProblemType, Scope};

const OWN: By = By::KeyOrSession(&[Scope::Users]);
const ANYBODYS: By = By::Key(Scope::Users);
const OF_GRACE: &[(Parameter, &str)] = &[(Parameter::User, "grace")];
/// Of somebody whom no other example asks about: they leave.
const OF_HENRY: &[(Parameter, &str)] = &[(Parameter::User, "henry")];
const HENRY: &[(Parameter, &str)] = &[(Parameter::AccountInPath, "henry")];
const GRACE: &[(Parameter, &str)] = &[(Parameter::AccountInPath, "grace")];
const BY_EMAIL: &[(Parameter, &str)] = &[(Parameter::AccountInPath, "grace@example.org")];
const ADA: &[(Parameter, &str)] = &[(Parameter::AccountInPath, "ada@example.org")];

/// Of routes below `/v1/internal/users/{id}`: nobody of that name, or two names in one request.
const NAMED: &[ProblemType] = &[ProblemType::UnknownUser, ProblemType::Invalid];

const DETAILS: &str = r#"{"user_id":"grace","email":"grace@example.org","name":"Grace","tier":"free","state":"active","has_password":true,"created_at":"2026-03-01T09:30:00.25Z","last_login_at":null}"#;
const EXPORT: &str = r#"{"exported_at":"2026-03-02T08:00:00Z","account":{"user_id":"grace","email":"grace@example.org","name":"Grace","tier":"free","state":"active","has_password":true,"created_at":"2026-03-01T09:30:00.25Z","last_login_at":null},"preferences":{"theme":"dark"},"sessions":[],"quota":null,"ledger":[]}"#;

const fn nothing(description: &'static str) -> Success {
    Success { status: 204, description, schema: None, headers: &[], links: &[] }
}

const fn account(description: &'static str) -> Success {
    Success { status: 200, description, schema: Some("UserDetails"), headers: TAGGED, links: &[] }
}

const fn exported() -> Success {
    let description = "Everything, as long as the ledger makes it";
    Success { status: 200, description, schema: Some("Export"), headers: &[], links: &[] }
}

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        id: "changeOwnPassword",
        method: "put",
        path: "/v1/user/password",
        tag: "accounts",
        summary: "Change the password",
        description: "In force for every request that starts after the answer, and so is the end of every session; with \
            `keep=current`, which only a session may say, of every other session. A session says the present password \
            as well.",
        by: OWN,
        parameters: &[Parameter::Keep],
        body: Some("PasswordBody"),
        success: nothing("It is in force, and the sessions are over"),
        also: Also::Nothing,
        problems: &[ProblemType::Conflict, ProblemType::TooManyAttempts],
        examples: &[Example {
            name: "given",
            summary: "By a service key",
            parameters: OF_GRACE,
            body: r#"{"password":"correct horse battery staple"}"#,
            answer: "",
        }],
    },
    Operation {
        id: "exportOwn",
        method: "get",
        path: "/v1/user/export",
        tag: "accounts",
        summary: "Everything about the person",
        description: "Account, preferences, sessions, quota, and every row of the ledger. It is sent as it is read: one \
            that breaks off is no JSON.",
        by: OWN,
        parameters: &[],
        body: None,
        success: exported(),
        also: Also::Nothing,
        problems: &[],
        examples: &[Example { name: "person", summary: "A user's", parameters: OF_GRACE, body: "", answer: EXPORT }],
    },
    Operation {
        id: "eraseOwn",
        method: "delete",
        path: "/v1/user",
        tag: "accounts",
        summary: "Erase the account",
        description: "The person leaves every store; the ledger keeps amounts under a name that is nobody's. From the \
            answer on the user is unknown, and the e-mail anybody's. After a 503, repeat.",
        by: OWN,
        parameters: &[],
        body: None,
        success: nothing("The user is unknown"),
        also: Also::Nothing,
        problems: &[],
        examples: &[Example { name: "end", summary: "Of a user", parameters: OF_HENRY, body: "", answer: "" }],
    },
    Operation {
        id: "readUser",
        method: "get",
        path: "/v1/internal/users/{id}",
        tag: "accounts",
        summary: "The account, also one that is blocked",
        description: "",
        by: ANYBODYS,
        parameters: &[Parameter::AccountInPath, Parameter::User, Parameter::IfNoneMatch],
        body: None,
        success: account("The account"),
        also: Also::NotModified,
        problems: NAMED,
        examples: &[Example { name: "account", summary: "By id", parameters: GRACE, body: "", answer: DETAILS }],
    },
    Operation {
        id: "eraseUser",
        method: "delete",
        path: "/v1/internal/users/{id}",
        tag: "accounts",
        summary: "Erase an account",
        description: "As its user would. A repeat by id is 204 again; by e-mail it is 404, for nobody has it any more.",
        by: ANYBODYS,
        parameters: &[Parameter::AccountInPath, Parameter::User],
        body: None,
        success: nothing("The user is unknown"),
        also: Also::Nothing,
        problems: NAMED,
        examples: &[Example { name: "end", summary: "By e-mail", parameters: ADA, body: "", answer: "" }],
    },
    Operation {
        id: "changeTier",
        method: "put",
        path: "/v1/internal/users/{id}/tier",
        tag: "accounts",
        summary: "Put a user in another tier",
        description: "Checks are decided by it from the answer on. What was spent stays spent wherever the new tier has \
            the same policy in the same slot.",
        by: ANYBODYS,
        parameters: &[Parameter::AccountInPath, Parameter::User, Parameter::IfMatch],
        body: Some("TierBody"),
        success: account("The account as it is now"),
        also: Also::Nothing,
        problems: &[ProblemType::UnknownUser, ProblemType::UnknownTier, ProblemType::PreconditionFailed],
        examples: &[Example {
            name: "tier",
            summary: "By id",
            parameters: GRACE,
            body: r#"{"tier":"free"}"#,
            answer: DETAILS,
        }],
    },
    Operation {
        id: "block",
        method: "put",
        path: "/v1/internal/users/{id}/block",
        tag: "accounts",
        summary: "Block an account",
        description: "No session, no log-in, no spending from the answer on. What was spent before is still settled and \
            refunded.",
        by: ANYBODYS,
        parameters: &[Parameter::AccountInPath, Parameter::User],
        body: None,
        success: nothing("It is blocked"),
        also: Also::Nothing,
        problems: NAMED,
        examples: &[Example { name: "block", summary: "By id", parameters: HENRY, body: "", answer: "" }],
    },
    Operation {
        id: "unblock",
        method: "delete",
        path: "/v1/internal/users/{id}/block",
        tag: "accounts",
        summary: "End a block",
        description: "Sessions that were in force before it are again.",
        by: ANYBODYS,
        parameters: &[Parameter::AccountInPath, Parameter::User],
        body: None,
        success: nothing("It is as it was"),
        also: Also::Nothing,
        problems: NAMED,
        examples: &[Example { name: "unblock", summary: "By id", parameters: HENRY, body: "", answer: "" }],
    },
    Operation {
        id: "changePassword",
        method: "put",
        path: "/v1/internal/users/{id}/password",
        tag: "accounts",
        summary: "Give an account another password",
        description: "It is in force, and every session over, for every request that starts after the answer.",
        by: ANYBODYS,
        parameters: &[Parameter::AccountInPath, Parameter::User],
        body: Some("PasswordBody"),
        success: nothing("It is in force, and all sessions are over"),
        also: Also::Nothing,
        problems: &[ProblemType::UnknownUser, ProblemType::Conflict, ProblemType::TooManyAttempts],
        examples: &[Example {
            name: "given",
            summary: "By e-mail",
            parameters: BY_EMAIL,
            body: r#"{"password":"battery staple correct horse"}"#,
            answer: "",
        }],
    },
    Operation {
        id: "exportUser",
        method: "get",
        path: "/v1/internal/users/{id}/export",
        tag: "accounts",
        summary: "Everything about a person",
        description: "As its user gets it.",
        by: ANYBODYS,
        parameters: &[Parameter::AccountInPath, Parameter::User],
        body: None,
        success: exported(),
        also: Also::Nothing,
        problems: NAMED,
        examples: &[Example { name: "person", summary: "By id", parameters: GRACE, body: "", answer: EXPORT }],
    },
];
