//! The parameters that operations share.

use super::operation::Parameter;
use serde_json::{Value, json};

/// A structured-field string, or its bare characters.
const KEY_PATTERN: &str = r#"^(?:[!#-~](?:[ -~]{0,198}[!-~])?|"(?:[ !#-\[\]-~]|\\["\\]){1,200}")$"#;
/// `*`, or up to 64 quoted tags. Ours have no comma.
const QUOTED_TAGS_PATTERN: &str = r#"^(?:\*|(?:W/)?"[!#-+\--~]*"(?:[ \t]*,[ \t]*(?:W/)?"[!#-+\--~]*"){0,63})$"#;
/// Plain characters; what is no entity tag is none that matches.
const TAGS_PATTERN: &str = r"^[\t -~]*$";

impl Parameter {
    pub(super) fn name(self) -> &'static str {
        match self {
            Parameter::User => "Cellar-User",
            Parameter::Deadline => "Cellar-Deadline-Ms",
            Parameter::IdempotencyKey => "Idempotency-Key",
            Parameter::IfMatch => "If-Match",
            Parameter::IfNoneMatch => "If-None-Match",
            Parameter::Keep => "keep",
            Parameter::From => "from",
            Parameter::To => "to",
            Parameter::UserInPath | Parameter::AccountInPath | Parameter::SessionInPath => "id",
        }
    }

    fn place(self) -> &'static str {
        match self {
            Parameter::Keep | Parameter::From | Parameter::To => "query",
            Parameter::UserInPath | Parameter::AccountInPath | Parameter::SessionInPath => "path",
            _ => "header",
        }
    }

    fn description(self) -> &'static str {
        match self {
            Parameter::User => {
                "The user a service key acts for. With a session token it is not needed, and nothing else than the \
                 session's own user is asked about"
            }
            Parameter::Deadline => {
                "How long the caller waits, in milliseconds, at most 19 digits; brought into the range of 1 to 60,000. Without it 500 for \
                 what is charged, and 2,000 for the rest"
            }
            Parameter::IdempotencyKey => {
                "Names one intended effect: a repeat under it gets the first answer again and has no second effect. \
                 Quoted, as a structured-field string, or bare; 1 to 200 bytes"
            }
            Parameter::IfMatch => "Entity tags of which the present one must be one, else 412",
            Parameter::IfNoneMatch => "Entity tags the caller has: one that is the present one is 304",
            Parameter::Keep => "`current` keeps the session that asks",
            Parameter::From => "The first day, in UTC; 31 days before `to`, if nothing is said",
            Parameter::To => "The day after the last, at most 366 after `from`; tomorrow, if nothing is said",
            Parameter::UserInPath => "The user",
            Parameter::AccountInPath => "The user, or the user's present e-mail",
            Parameter::SessionInPath => "The session",
        }
    }

    fn schema(self) -> Value {
        match self {
            Parameter::User | Parameter::UserInPath => json!({"$ref": "#/components/schemas/UserId"}),
            Parameter::AccountInPath => json!({"anyOf": [
                {"$ref": "#/components/schemas/UserId"},
                {"type": "string", "format": "email", "minLength": 3, "maxLength": 254},
            ]}),
            Parameter::SessionInPath => json!({"$ref": "#/components/schemas/SessionId"}),
            Parameter::Deadline => json!({"type": "string", "pattern": "^[0-9]{1,19}$"}),
            Parameter::IdempotencyKey => {
                json!({"type": "string", "pattern": KEY_PATTERN})
            }
            Parameter::IfMatch => json!({"type": "string", "pattern": QUOTED_TAGS_PATTERN}),
            Parameter::IfNoneMatch => {
                json!({"type": "string", "pattern": TAGS_PATTERN})
            }
            Parameter::Keep => json!({"type": "string", "enum": ["current"]}),
            Parameter::From | Parameter::To => json!({"type": "string", "format": "date"}),
        }
    }

    /// As the document has it, with its value in each of the operation's examples.
    pub(super) fn document(self, examples: Vec<(&'static str, &'static str)>) -> Value {
        let mut parameter = json!({
            "name": self.name(),
            "in": self.place(),
            "required": self.place() == "path",
            "description": self.description(),
            "schema": self.schema(),
        });
        if !examples.is_empty() {
            let named = examples.into_iter().map(|(name, value)| (name.to_owned(), json!({ "value": value })));
            parameter["examples"] = Value::Object(named.collect());
        }
        parameter
    }
}
