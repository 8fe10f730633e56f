//! Reads settings against their schema and reports everything that is wrong, not the first thing.

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// What is wrong with one place of the settings.
///
/// ```
/// use cellar_policy_sdk::{Problem, configure, example::Rule};
///
/// let problems = configure::<Rule>(r#"{"limit": 0, "burst": 3}"#).unwrap_err();
/// assert!(problems.contains(&Problem::new("/limit", "must be at least 1")));
/// assert!(problems.contains(&Problem::new("/burst", "is not a setting; there are limit")));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// A JSON pointer (RFC 6901); empty for the whole.
    pub pointer: String,
    /// What is wrong there, as the end of a sentence that begins with the place.
    pub message: String,
}

/// More would not be read by anybody.
const PROBLEMS_MAX: usize = 100;

impl Problem {
    /// A problem at `pointer`: `"/limit"`.
    pub fn new(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), message: message.into() }
    }
}

pub(crate) fn schema<S: JsonSchema>() -> Value {
    schemars::schema_for!(S).to_value()
}

pub(crate) fn read<S: DeserializeOwned + JsonSchema>(json: &str) -> Result<S, Vec<Problem>> {
    let value: Value = serde_json::from_str(json).map_err(|e| vec![Problem::new("", format!("is not JSON: {e}"))])?;
    let root = schema::<S>();
    let mut problems = Vec::new();
    check(&value, &root, &root, "", &mut problems);
    if !problems.is_empty() {
        problems.truncate(PROBLEMS_MAX);
        return Err(problems);
    }
    // What the schema does not say (a string's inner form, say) serde still may refuse.
    serde_json::from_value(value).map_err(|e| vec![Problem::new("", e.to_string())])
}

/// The keywords that `schemars` writes for plain settings. The depth is that of the JSON, which its
/// parser bounds.
fn check(value: &Value, schema: &Value, root: &Value, at: &str, problems: &mut Vec<Problem>) {
    let Some(schema) = resolved(schema, root) else {
        return;
    };
    let mut wrong = |message: String| problems.push(Problem::new(at, message));
    if let Some(expected) = schema.get("type")
        && !of_type(value, expected)
    {
        return wrong(format!("must be {}", named_type(expected)));
    }
    if let Some(Value::Array(allowed)) = schema.get("enum")
        && !allowed.contains(value)
    {
        let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
        return wrong(format!("must be one of {}", allowed.join(", ")));
    }
    if let Some(only) = schema.get("const")
        && value != only
    {
        return wrong(format!("must be {only}"));
    }
    if let Some(least) = schema.get("minimum")
        && below(value, least)
    {
        wrong(format!("must be at least {least}"));
    }
    if let Some(most) = schema.get("maximum")
        && below(most, value)
    {
        wrong(format!("must be at most {most}"));
    }
    if let Some(Value::Array(forms)) = schema.get("anyOf").or_else(|| schema.get("oneOf")) {
        check_forms(value, forms, root, at, problems);
    }
    match value {
        Value::Object(members) => check_members(members, schema, root, at, problems),
        Value::Array(items) => {
            let Some(form) = schema.get("items") else {
                return;
            };
            for (n, item) in items.iter().enumerate() {
                check(item, form, root, &format!("{at}/{n}"), problems);
            }
        }
        _ => {}
    }
}

fn check_members(
    members: &Map<String, Value>,
    schema: &Map<String, Value>,
    root: &Value,
    at: &str,
    problems: &mut Vec<Problem>,
) {
    let none = Map::new();
    let known = schema.get("properties").and_then(Value::as_object).unwrap_or(&none);
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    for name in required.filter_map(Value::as_str).filter(|name| !members.contains_key(*name)) {
        problems.push(Problem::new(format!("{at}/{}", escaped(name)), "is missing"));
    }
    for (name, member) in members {
        let pointer = format!("{at}/{}", escaped(name));
        match (known.get(name), schema.get("additionalProperties")) {
            (Some(form), _) => check(member, form, root, &pointer, problems),
            (None, Some(Value::Bool(false))) => {
                let known: Vec<&str> = known.keys().map(String::as_str).collect();
                let message = format!("is not a setting; there are {}", known.join(", "));
                problems.push(Problem::new(pointer, message));
            }
            (None, Some(form)) => check(member, form, root, &pointer, problems),
            (None, None) => {}
        }
    }
}

/// One of several forms: what is wrong with the first that is not "nothing" is what helps.
fn check_forms(value: &Value, forms: &[Value], root: &Value, at: &str, problems: &mut Vec<Problem>) {
    let mut first = None;
    for form in forms {
        let mut own = Vec::new();
        check(value, form, root, at, &mut own);
        if own.is_empty() {
            return;
        }
        if form.get("type").and_then(Value::as_str) != Some("null") {
            first.get_or_insert(own);
        }
    }
    match forms.iter().map(named_values).collect::<Option<Vec<_>>>() {
        Some(values) => {
            let allowed: Vec<String> = values.into_iter().flatten().map(Value::to_string).collect();
            problems.push(Problem::new(at, format!("must be one of {}", allowed.join(", "))));
        }
        None => problems.extend(first.into_iter().flatten()),
    }
}

/// All that a form takes, if it names it: a variant of an enum that has a comment is a form of its own.
fn named_values(form: &Value) -> Option<Vec<&Value>> {
    match (form.get("const"), form.get("enum")) {
        (Some(only), _) => Some(vec![only]),
        (None, Some(Value::Array(allowed))) => Some(allowed.iter().collect()),
        (None, _) => None,
    }
}

fn resolved<'a>(schema: &'a Value, root: &'a Value) -> Option<&'a Map<String, Value>> {
    let target = match schema.get("$ref").and_then(Value::as_str) {
        Some(reference) => root.pointer(reference.strip_prefix('#')?)?,
        None => schema,
    };
    target.as_object()
}

fn of_type(value: &Value, expected: &Value) -> bool {
    match expected {
        Value::Array(any) => any.iter().any(|expected| of_type(value, expected)),
        Value::String(expected) => match expected.as_str() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            "integer" => value.is_u64() || value.is_i64(),
            "number" => value.is_number(),
            _ => true,
        },
        _ => true,
    }
}

fn named_type(expected: &Value) -> String {
    let one = |name: &Value| match name.as_str() {
        Some("object") => "an object".to_owned(),
        Some("array") => "a list".to_owned(),
        Some("string") => "a string".to_owned(),
        Some("boolean") => "true or false".to_owned(),
        Some("integer") => "a whole number".to_owned(),
        Some("number") => "a number".to_owned(),
        _ => "null".to_owned(),
    };
    match expected {
        Value::Array(any) => any.iter().map(one).collect::<Vec<_>>().join(" or "),
        expected => one(expected),
    }
}

/// Whole numbers are compared as such: 2^53 and 2^53 + 1 differ.
fn below(left: &Value, right: &Value) -> bool {
    let whole = |v: &Value| v.as_u64().map(i128::from).or(v.as_i64().map(i128::from));
    match (whole(left), whole(right)) {
        (Some(left), Some(right)) => left < right,
        _ => matches!((left.as_f64(), right.as_f64()), (Some(left), Some(right)) if left < right),
    }
}

fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Settings {
        #[schemars(range(min = 1, max = 100))]
        limit: u64,
        #[schemars(range(min = 1))]
        burst: Option<u64>,
        #[serde(default)]
        inner: Option<Inner>,
        mode: Mode,
    }

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        weights: Vec<u32>,
    }

    #[derive(Debug, Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    enum Mode {
        Day,
        Night,
        /// With a comment.
        Twilight,
    }

    fn pointers(json: &str) -> Vec<String> {
        let problems = read::<Settings>(json).unwrap_err();
        problems.into_iter().map(|p| format!("{} {}", p.pointer, p.message)).collect()
    }

    #[test]
    fn good_settings_read() {
        let settings = read::<Settings>(r#"{"limit":100,"mode":"night","inner":{"weights":[1,2]}}"#).unwrap();
        assert_eq!((settings.limit, settings.burst), (100, None));
        assert!(matches!(settings.mode, Mode::Night));
        assert_eq!(settings.inner.unwrap().weights, [1, 2]);
        assert!(matches!(read::<Settings>(r#"{"limit":1,"burst":null,"mode":"day"}"#).unwrap().mode, Mode::Day));
    }

    #[test]
    fn all_problems_come_at_once_by_pointer() {
        let got = pointers(r#"{"limit":101,"burst":0,"a/b":1,"inner":{"weights":[1,"x"],"k":2}}"#);
        let expected = [
            "/limit must be at most 100",
            "/burst must be at least 1",
            "/mode is missing",
            "/inner/weights/1 must be a whole number",
        ];
        for expected in expected {
            assert!(got.iter().any(|g| g == expected), "{expected} in {got:?}");
        }
        assert!(got.iter().any(|g| g.starts_with("/a~1b is not a setting; there are ")), "{got:?}");
        assert!(got.iter().any(|g| g.starts_with("/inner/k is not a setting")), "{got:?}");
        assert_eq!(got.len(), 6, "{got:?}");
    }

    #[test]
    fn the_wrong_type_is_named() {
        assert_eq!(pointers("[]"), [" must be an object"]);
        assert_eq!(pointers("null"), [" must be an object"]);
        assert!(pointers("{")[0].starts_with(" is not JSON"));
        assert_eq!(pointers(r#"{"limit":1.5,"mode":"day"}"#), ["/limit must be a whole number"]);
        assert_eq!(pointers(r#"{"limit":-1,"mode":"day"}"#), ["/limit must be at least 1"]);
        let variants = r#"/mode must be one of "day", "night", "twilight""#;
        assert_eq!(pointers(r#"{"limit":1,"mode":"dusk"}"#), [variants]);
    }
}
