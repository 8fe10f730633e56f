//! The schemas of bodies: those of the wire types, and of what is put together without one.

use cellar_model::schema::Preferences;
use cellar_model::wire::{
    AdmitBody, BatchBody, ConsumeAnswer, ConsumeBody, DeniedBody, ExportHead, GrantBody, LogInBody, LoggedIn,
    OverrideBody, PasswordBody, Profile, ProfilePatch, QuotaBody, RefundBody, ReserveBody, SessionList, SettleBody,
    SignUpBody, SignedUp, TierBody, UsageBody, UserDetails,
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
        of::<ExportHead>,
        of::<GrantBody>,
        of::<LogInBody>,
        of::<LoggedIn>,
        of::<OverrideBody>,
        of::<PasswordBody>,
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
        of::<TierBody>,
        of::<UsageBody>,
        of::<UserDetails>,
        of::<UserId>,
    ] {
        add(&mut named);
    }
    // Schemas are plain data: nothing in them can fail to serialize.
    let named = named.into_iter().map(|(name, schema)| (name, serde_json::to_value(schema).unwrap_or_default()));
    let put_together = [("Problem", problem()), ("BatchAnswer", batch_answer()), ("Export", export())];
    named.chain(put_together.map(|(name, schema)| (name.to_owned(), schema))).collect()
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

/// What leads it, and the rows that follow.
fn export() -> Value {
    json!({"allOf": [
        {"$ref": "#/components/schemas/ExportHead"},
        {
            "type": "object",
            "required": ["ledger"],
            "properties": {"ledger": {
                "type": "array",
                "description": "Every row, oldest first, with its checks",
                "items": {"type": "object"},
            }},
        },
    ]})
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
