//! The schemas of bodies: those of the wire types, and of what is put together without one.

use cellar_model::schema::Preferences;
use cellar_model::wire::{
    AdmitBody, BatchBody, ConsumeAnswer, ConsumeBody, DeniedBody, GrantBody, LogInBody, LoggedIn, OverrideBody,
    Profile, ProfilePatch, QuotaBody, RefundBody, ReserveBody, SessionList, SettleBody, SignUpBody, SignedUp,
    UsageBody,
};
use cellar_model::{SessionId, UserId};
use serde_json::{Map, Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

type Named = (String, RefOr<Schema>);

/// `components/schemas`
pub(super) fn components() -> Map<String, Value> {
    let mut named = Vec::new();
    for add in [
        of::<AdmitBody>,
        of::<BatchBody>,
        of::<ConsumeAnswer>,
        of::<ConsumeBody>,
        of::<DeniedBody>,
        of::<GrantBody>,
        of::<LogInBody>,
        of::<LoggedIn>,
        of::<OverrideBody>,
        of::<Preferences>,
        of::<Profile>,
        of::<ProfilePatch>,
        of::<QuotaBody>,
        of::<RefundBody>,
        of::<ReserveBody>,
        of::<SessionId>,
        of::<SessionList>,
        of::<SettleBody>,
        of::<SignUpBody>,
        of::<SignedUp>,
        of::<UsageBody>,
        of::<UserId>,
    ] {
        add(&mut named);
    }
    // Schemas are plain data: nothing in them can fail to serialize.
    let named = named.into_iter().map(|(name, schema)| (name, serde_json::to_value(schema).unwrap_or_default()));
    named.chain([("Problem".to_owned(), problem()), ("BatchAnswer".to_owned(), batch_answer())]).collect()
}

fn of<T: ToSchema + PartialSchema>(named: &mut Vec<Named>) {
    named.push((T::name().into_owned(), T::schema()));
    T::schemas(named);
}

/// RFC 9457.
fn problem() -> Value {
    json!({
        "type": "object",
        "description": "What went wrong: `type` for machines, the rest for people",
        "required": ["type", "title", "status"],
        "properties": {
            "type": {"type": "string", "format": "uri-reference", "description": "Documented at this very path"},
            "title": {"type": "string"},
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": {"type": "string"},
            "errors": {
                "type": "array",
                "description": "Each member that is wrong",
                "items": {
                    "type": "object",
                    "required": ["pointer", "message"],
                    "properties": {
                        "pointer": {"type": "string", "description": "Where it stands: a JSON pointer into the body"},
                        "message": {"type": "string"},
                    },
                },
            },
        },
    })
}

fn batch_answer() -> Value {
    let with_status = |name: &str, status: Value| {
        json!({"allOf": [
            {"$ref": format!("#/components/schemas/{name}")},
            {"required": ["status"], "properties": {"status": status}},
        ]})
    };
    let other = json!({"type": "integer", "minimum": 400, "maximum": 599, "not": {"const": 429}});
    json!({
        "type": "object",
        "required": ["results"],
        "properties": {"results": {
            "type": "array",
            "maxItems": 1_000,
            "description": "In the order of the checks",
            "items": {"oneOf": [
                with_status("ConsumeAnswer", json!({"const": 200})),
                with_status("DeniedBody", json!({"const": 429})),
                with_status("Problem", other),
            ]},
        }},
    })
}
