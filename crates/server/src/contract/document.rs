//! The OpenAPI document, put together of the rows and the schemas of wire bodies.

use super::headers::{self, ETAG, RETRY_AFTER, SHOULD_RETRY, WWW_AUTHENTICATE};
use super::operation::{Also, By, Example, Link, Operation, Parameter};
use super::{accounts, quota, schemas, whole_accounts};
use cellar_model::{ProblemType, Scope};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use utoipa::openapi::{OpenApi, PathItem};

const PROBLEM: &str = "application/problem+json";
const DESCRIPTION: &str = "Accounts of an application's users, and exact quotas for every request they make.\n\n\
    Errors are RFC 9457 documents; each `type` is documented at its own path, listed under `/problems`. 503 means \
    unknown, never no: repeat with the same `Idempotency-Key`. A body may have 1 MiB. A method that a path does not \
    serve is 405, with `Allow`; a request whose head is above 16 KiB is 431.\n\n\
    `/docs` is this document for people.";

/// All rows, in the order in which the reference shows them.
pub(super) fn rows() -> impl Iterator<Item = &'static Operation> {
    accounts::OPERATIONS.iter().chain(whole_accounts::OPERATIONS).chain(quota::OPERATIONS)
}

/// The document of the routes that are served. One without a row stands there as its handler describes it.
pub(super) fn document(served: &OpenApi) -> Value {
    let mut paths = Map::new();
    for (path, item) in &served.paths.paths {
        let methods = methods(item).into_iter().map(|(method, own)| {
            let row = rows().find(|row| row.path == path && row.method == method);
            (method.to_owned(), row.map_or(own, operation))
        });
        paths.insert(path.clone(), Value::Object(methods.collect()));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Cellar",
            "version": env!("CARGO_PKG_VERSION"),
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": "accounts", "description": "Users, sessions, profiles, preferences"},
            {"name": "quota", "description": "Decisions, what is left, what was charged"},
        ],
        "paths": paths,
        "components": {
            "schemas": schemas::components(),
            "headers": headers::components(),
            "securitySchemes": {
                "serviceKey": {
                    "type": "http", "scheme": "bearer", "bearerFormat": "csk_…",
                    "description": "A service key, with the scope named beside it",
                },
                "sessionToken": {
                    "type": "http", "scheme": "bearer", "bearerFormat": "cst1.…",
                    "description": "A session's token: it speaks for its own user",
                },
            },
        },
    })
}

fn methods(item: &PathItem) -> Vec<(&'static str, Value)> {
    let own = |operation: &Option<utoipa::openapi::path::Operation>| {
        operation.as_ref().map(|operation| serde_json::to_value(operation).unwrap_or_default())
    };
    let all =
        [("get", own(&item.get)), ("put", own(&item.put)), ("post", own(&item.post)), ("delete", own(&item.delete))];
    all.into_iter().chain([("patch", own(&item.patch))]).filter_map(|(method, own)| Some((method, own?))).collect()
}

fn operation(row: &Operation) -> Value {
    let mut operation = json!({
        "operationId": row.id,
        "tags": [row.tag],
        "summary": row.summary,
        "description": row.description,
        "security": security(row.by),
        "parameters": row.all_parameters().into_iter().map(|one| parameter(row, one)).collect::<Vec<_>>(),
        "responses": responses(row),
    });
    if let Some(body) = row.body {
        let mut content = json!({"schema": schema_reference(body)});
        put_examples(&mut content, row, |example| example.body);
        operation["requestBody"] = json!({"required": true, "content": {"application/json": content}});
    }
    operation
}

fn security(by: By) -> Value {
    let key = |scope: &Scope| json!({"serviceKey": [scope]});
    match by {
        By::Key(scope) => json!([key(&scope)]),
        By::KeyOrPassword => json!([key(&Scope::Users), {}]),
        By::KeyOrSession(scopes) => scopes.iter().map(key).chain([json!({"sessionToken": []})]).collect(),
    }
}

fn parameter(row: &Operation, parameter: Parameter) -> Value {
    let given = |example: &Example| {
        let value = example.parameters.iter().find(|(named, _)| *named == parameter).map(|(_, value)| *value)?;
        Some((example.name, value))
    };
    parameter.document(row.examples.iter().filter_map(given).collect())
}

fn responses(row: &Operation) -> Value {
    let success = &row.success;
    let mut answer = json!({
        "description": success.description,
        "headers": headers::references(success.headers.iter().copied()),
    });
    if let Some(schema) = success.schema {
        let mut content = json!({"schema": schema_reference(schema)});
        put_examples(&mut content, row, |example| example.answer);
        answer["content"] = json!({"application/json": content});
    }
    if !success.links.is_empty() {
        answer["links"] =
            success.links.iter().map(|one| (one.name.to_owned(), link(one))).collect::<Map<_, _>>().into();
    }
    let mut responses = Map::new();
    if row.also == Also::Accepted {
        let mut waiting = answer.clone();
        waiting["description"] = "The same, and it waits: `Cellar-Degraded: journal`".into();
        responses.insert("202".into(), waiting);
    }
    responses.insert(success.status.to_string(), answer);
    if row.also == Also::NotModified {
        let unchanged = json!({
            "description": "It is one of those named in If-None-Match",
            "headers": headers::references([ETAG]),
        });
        responses.insert("304".into(), unchanged);
    }
    let mut by_status: BTreeMap<u16, Vec<ProblemType>> = BTreeMap::new();
    for kind in row.all_problems() {
        by_status.entry(kind.status()).or_default().push(kind);
    }
    for (status, kinds) in by_status {
        responses.insert(status.to_string(), problems(status, &kinds));
    }
    responses.into()
}

/// One status, with the types of problem that may come with it here.
fn problems(status: u16, kinds: &[ProblemType]) -> Value {
    let titles: Vec<String> =
        kinds.iter().map(|kind| format!("[{}](/problems/{}): {}", kind.slug(), kind.slug(), kind.title())).collect();
    let (schema, headers): (_, &[&str]) = match status {
        401 => ("Problem", &[WWW_AUTHENTICATE]),
        429 if !kinds.contains(&ProblemType::QuotaExceeded) => ("Problem", &[RETRY_AFTER]),
        429 => ("DeniedBody", &[RETRY_AFTER, SHOULD_RETRY, "RateLimit", "RateLimit-Policy", "Cellar-Degraded"]),
        503 => ("Problem", &[RETRY_AFTER]),
        _ => ("Problem", &[]),
    };
    let uris: Vec<String> = kinds.iter().map(|kind| kind.uri()).collect();
    let schema = json!({"allOf": [schema_reference(schema), {"properties": {"type": {"enum": uris}}}]});
    json!({
        "description": titles.join("; "),
        "headers": headers::references(headers.iter().copied()),
        "content": {PROBLEM: {"schema": schema}},
    })
}

fn link(link: &Link) -> Value {
    let mut document = json!({"operationId": link.operation});
    if !link.parameters.is_empty() {
        let named = link.parameters.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value)));
        document["parameters"] = Value::Object(named.collect());
    }
    if !link.body.is_empty() {
        document["requestBody"] = text(link.body);
    }
    document
}

fn put_examples(content: &mut Value, row: &Operation, of: impl Fn(&Example) -> &'static str) {
    let given = row.examples.iter().filter(|example| !of(example).is_empty());
    let named: Map<String, Value> = given
        .map(|example| (example.name.to_owned(), json!({"summary": example.summary, "value": text(of(example))})))
        .collect();
    if !named.is_empty() {
        content["examples"] = named.into();
    }
}

fn schema_reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// JSON of a row; a test reads them all.
fn text(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_json_of_every_row_is_json() {
        for row in rows() {
            let examples = row.examples.iter().flat_map(|example| [example.body, example.answer]);
            let links = row.success.links.iter().map(|link| link.body);
            for json in examples.chain(links).filter(|json| !json.is_empty()) {
                assert!(serde_json::from_str::<Value>(json).is_ok(), "{}: {json}", row.id);
            }
        }
    }

    #[test]
    fn every_row_has_an_id_and_a_place_of_its_own_and_links_to_others() {
        let ids: BTreeSet<&str> = rows().map(|row| row.id).collect();
        let places: BTreeSet<_> = rows().map(|row| (row.path, row.method)).collect();
        assert_eq!((ids.len(), places.len()), (rows().count(), rows().count()));
        for link in rows().flat_map(|row| row.success.links) {
            assert!(ids.contains(link.operation), "{}", link.name);
        }
        assert!(rows().all(|row| !row.examples.is_empty()), "each has an example");
    }

    #[test]
    fn every_schema_that_is_named_is_there() {
        let all = Value::Object(schemas::components());
        let mut named = BTreeSet::new();
        references(&all, &mut named);
        rows().map(operation).for_each(|operation| references(&operation, &mut named));
        let parts = json!({"schemas": all, "headers": headers::components()});
        for reference in named {
            let pointer = reference.trim_start_matches("#/components");
            assert!(parts.pointer(pointer).is_some(), "{reference}");
        }
    }

    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|member| references(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
}
