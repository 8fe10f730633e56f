//! Settings drawn from a policy's own schema.

use proptest::prelude::*;
use proptest::strategy::Union;
use serde_json::{Map, Value};

/// Members that are read of a schema: settings have a handful.
const MEMBERS_MAX: usize = 32;
/// Entries that are drawn of a map, beyond what it must have.
const ENTRIES_MAX: usize = 3;
/// As deep as settings go; below that, nothing is drawn.
const DEPTH_MAX: u32 = 4;
/// What a number may be where the schema names no end.
const UNBOUNDED: u64 = 1 << 40;

/// Values of `schema`. What it cannot say (one member against another) the policy refuses, and another is drawn.
pub(crate) fn drawn(schema: &Value) -> BoxedStrategy<Value> {
    of(schema, schema, DEPTH_MAX)
}

fn of(schema: &Value, root: &Value, depth: u32) -> BoxedStrategy<Value> {
    if depth == 0 {
        return Just(Value::Null).boxed();
    }
    if let Some(place) = schema.get("$ref").and_then(Value::as_str).and_then(|place| place.strip_prefix('#')) {
        return root.pointer(place).map_or_else(|| Just(Value::Null).boxed(), |found| of(found, root, depth - 1));
    }
    if let Some(Value::Array(allowed)) = schema.get("enum")
        && !allowed.is_empty()
    {
        return proptest::sample::select(allowed.clone()).boxed();
    }
    if let Some(only) = schema.get("const") {
        return Just(only.clone()).boxed();
    }
    let forms = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array);
    if let Some(forms) = forms.filter(|forms| !forms.is_empty()) {
        return Union::new(forms.iter().map(|form| of(form, root, depth - 1))).boxed();
    }
    match schema.get("type") {
        Some(Value::Array(types)) => {
            let types = types.iter().filter_map(Value::as_str);
            let kinds: Vec<_> = types.map(|kind| of_type(kind, schema, root, depth)).collect();
            if kinds.is_empty() { Just(Value::Null).boxed() } else { Union::new(kinds).boxed() }
        }
        Some(Value::String(kind)) => of_type(kind, schema, root, depth),
        _ => Just(Value::Null).boxed(),
    }
}

fn of_type(kind: &str, schema: &Value, root: &Value, depth: u32) -> BoxedStrategy<Value> {
    match kind {
        "integer" | "number" => integers(schema),
        "boolean" => any::<bool>().prop_map(Value::from).boxed(),
        "string" => "[a-z]{1,8}".prop_map(Value::from).boxed(),
        "array" => {
            let item = schema.get("items").map_or_else(|| Just(Value::Null).boxed(), |item| of(item, root, depth - 1));
            proptest::collection::vec(item, 0..4).prop_map(Value::from).boxed()
        }
        "object" => object(schema, root, depth),
        _ => Just(Value::Null).boxed(),
    }
}

/// Small ones most of the time, both ends, and all magnitudes between them.
fn integers(schema: &Value) -> BoxedStrategy<Value> {
    let signed = |name: &str| schema.get(name).and_then(Value::as_i64);
    let least = signed("minimum").unwrap_or(0);
    let most = schema.get("maximum").and_then(Value::as_u64).unwrap_or(UNBOUNDED);
    let most = i64::try_from(most).unwrap_or(i64::MAX).max(least);
    let span = most.saturating_sub(least);
    let magnitude = (0..63_u32, any::<u64>()).prop_map(move |(bits, draw)| {
        // At most 2^63 - 1 by the mask.
        let offset = i64::try_from(draw & ((1_u64 << bits) - 1)).unwrap_or(0);
        least.saturating_add(offset.min(span))
    });
    let small = (0..=span.min(20)).prop_map(move |offset| least + offset);
    prop_oneof![5 => small, 4 => magnitude, 1 => Just(least), 1 => Just(most)].prop_map(Value::from).boxed()
}

fn object(schema: &Value, root: &Value, depth: u32) -> BoxedStrategy<Value> {
    let required: Vec<&str> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let members = schema.get("properties").and_then(Value::as_object).into_iter().flatten().take(MEMBERS_MAX);
    let members: Vec<BoxedStrategy<(String, Option<Value>)>> = members
        .map(|(name, form)| {
            let (name, value) = (name.clone(), of(form, root, depth - 1));
            let drawn = if required.contains(&name.as_str()) {
                value.prop_map(Some).boxed()
            } else {
                proptest::option::of(value).boxed()
            };
            drawn.prop_map(move |value| (name.clone(), value)).boxed()
        })
        .collect();
    // A map has no names of its own: some are drawn.
    let form = schema.get("additionalProperties").filter(|form| form.is_object());
    let free = form.map_or_else(|| Just(Vec::new()).boxed(), |form| entries(schema, of(form, root, depth - 1)));
    (members, free)
        .prop_map(|(members, free)| {
            let said = members.into_iter().filter_map(|(name, value)| Some((name, value?)));
            Value::Object(said.chain(free).collect::<Map<String, Value>>())
        })
        .boxed()
}

fn entries(schema: &Value, value: BoxedStrategy<Value>) -> BoxedStrategy<Vec<(String, Value)>> {
    let bound = |name: &str| schema.get(name).and_then(Value::as_u64).and_then(|bound| usize::try_from(bound).ok());
    let least = bound("minProperties").unwrap_or(0).min(MEMBERS_MAX);
    let most = bound("maxProperties").unwrap_or(ENTRIES_MAX).clamp(least, least.saturating_add(ENTRIES_MAX));
    let entry = ("[a-z]{1,8}".prop_map(String::from), value);
    proptest::collection::vec(entry, least..=most).boxed()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    use serde_json::json;

    #[test]
    fn what_is_drawn_keeps_to_the_schema() {
        let schema = json!({
            "type": "object", "required": ["limit", "mode", "weights"],
            "properties": {
                "limit": { "type": "integer", "minimum": 1, "maximum": 100 },
                "burst": { "type": ["integer", "null"], "minimum": 1, "maximum": 7 },
                "mode": { "$ref": "#/$defs/Mode" },
                "weights": {
                    "type": "object", "maxProperties": 2,
                    "additionalProperties": { "type": "integer", "minimum": 1, "maximum": 9 },
                },
            },
            "$defs": { "Mode": { "type": "string", "enum": ["day", "night"] } },
        });
        let mut runner = TestRunner::deterministic();
        let strategy = drawn(&schema);
        for _ in 0..200 {
            let value = strategy.new_tree(&mut runner).unwrap().current();
            assert!((1..=100).contains(&value["limit"].as_u64().unwrap()), "{value}");
            assert!(value["mode"] == "day" || value["mode"] == "night", "{value}");
            let weights = value["weights"].as_object().unwrap();
            assert!(weights.len() <= 2 && weights.values().all(|w| (1..=9).contains(&w.as_u64().unwrap())), "{value}");
            assert!(value["burst"].is_null() || (1..=7).contains(&value["burst"].as_u64().unwrap()), "{value}");
        }
    }
}
