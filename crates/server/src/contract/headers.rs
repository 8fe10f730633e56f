//! The headers of answers.

use serde_json::{Map, Value, json};

pub(super) const ETAG: &str = "ETag";
pub(super) const RETRY_AFTER: &str = "Retry-After";
pub(super) const WWW_AUTHENTICATE: &str = "WWW-Authenticate";
const SERVER_TIMING: &str = "Server-Timing";
const REQUEST_ID: &str = "Cellar-Request-Id";
pub(super) const SHOULD_RETRY: &str = "X-Should-Retry";

/// Of a decision, admitted or denied.
pub(super) const DECIDED: &[&str] =
    &["RateLimit", "RateLimit-Policy", "Idempotency-Replayed", "Cellar-Degraded", "Cellar-Policy-Fault"];
/// Of what is left, and of a closed charge.
pub(super) const SEEN: &[&str] = &["RateLimit", "RateLimit-Policy", "Cellar-Degraded", "Cellar-Policy-Fault"];
pub(super) const TAGGED: &[&str] = &[ETAG];
pub(super) const TAGGED_OR_STALE: &[&str] = &[ETAG, "Age", "Cellar-Degraded"];

/// `components/headers`
pub(super) fn components() -> Map<String, Value> {
    let text = |description: &str| json!({"description": description, "schema": {"type": "string"}});
    let one_of = |description: &str, values: &[&str]| json!({"description": description, "schema": {"type": "string", "enum": values}});
    let seconds = |description: &str| json!({"description": description, "schema": {"type": "integer", "minimum": 0}});
    let required = |mut header: Value| {
        header["required"] = true.into();
        header
    };
    let all = [
        (ETAG, required(text("A strong entity tag, for If-Match and If-None-Match"))),
        (RETRY_AFTER, required(seconds("Seconds after which a repeat makes sense"))),
        (WWW_AUTHENTICATE, text("`Bearer`, where a credential is what is missing")),
        (SERVER_TIMING, text("`route;dur=` and the milliseconds it took here")),
        (
            REQUEST_ID,
            text(
                "What the request is called in logs and traces: as the caller called it (`Cellar-Request-Id` or `X-Request-Id`, 1–64 of `[A-Za-z0-9._-]`), else the id of its trace",
            ),
        ),
        (SHOULD_RETRY, one_of("`false` when the wait exceeds 60 seconds", &["false"])),
        ("Age", seconds("How old a stale answer is")),
        (
            "RateLimit",
            text(
                "`\"per-minute\";r=412;t=23;a=412;w=23`: an item a slot; what is left, and the seconds until it is whole",
            ),
        ),
        ("RateLimit-Policy", text("`\"per-minute\";q=600`: an item a slot; its limit")),
        ("Idempotency-Replayed", one_of("`true` of an answer that was given before", &["true"])),
        (
            "Cellar-Degraded",
            text(
                "What this answer is worth less than others for: `postgres`, `unsafe-ack`, `unavailable`, `policy-fault`, `shed`, `stale`, `cache`, `journal`",
            ),
        ),
        ("Cellar-Policy-Fault", one_of("`true` of an answer that a policy's fault has shaped", &["true"])),
    ];
    all.into_iter().map(|(name, header)| (name.to_owned(), header)).collect()
}

/// References to some of them, and to what every answer has.
pub(super) fn references<'a>(names: impl IntoIterator<Item = &'a str>) -> Value {
    let names = names.into_iter().chain([SERVER_TIMING, REQUEST_ID]);
    let named = names.map(|name| (name.to_owned(), json!({"$ref": format!("#/components/headers/{name}")})));
    Value::Object(named.collect())
}
