//! JSON merge patches (RFC 7396) of preferences, and their bounds.

use super::AccountsError;
use cellar_model::{Problem, ProblemType};
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// Keys a user may have.
pub(super) const KEYS_MAX: usize = 256;
/// Bytes of all keys and values together.
pub(super) const BYTES_MAX: usize = 64 * 1024;
const KEY_BYTES_MAX: usize = 128;

/// A patch as it came: an object in which no key is given twice, however deep. Of two values for one key nobody
/// knows which was meant.
pub(super) struct PreferencesPatch(pub(super) Map<String, Value>);

impl<'de> Deserialize<'de> for PreferencesPatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Unambiguous::deserialize(deserializer)?.0 {
            Value::Object(members) => Ok(Self(members)),
            _ => Err(de::Error::custom("a merge patch of preferences is an object")),
        }
    }
}

/// Any JSON without a key given twice.
struct Unambiguous(Value);

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor).map(Self)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Unambiguous(item)) = items.next_element()? {
            all.push(item);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            let Unambiguous(value) = members.next_value()?;
            // Which key is not said: it is the user's.
            if all.insert(key, value).is_some() {
                return Err(de::Error::custom("a key is given twice"));
            }
        }
        Ok(Value::Object(all))
    }
}

/// What can be said of a patch before anything is read. Postgres stores no NUL in text.
pub(super) fn check(patch: &Map<String, Value>) -> Result<(), AccountsError> {
    let invalid = |message: &str| Err(AccountsError::invalid("", message));
    if patch.len() > KEYS_MAX {
        return invalid("at most 256 keys");
    }
    for (key, value) in patch {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return invalid("a key has 1 to 128 bytes");
        }
        if key.contains('\0') || has_nul(value) {
            return invalid("no text may hold the character U+0000");
        }
    }
    Ok(())
}

/// Recursion ends where the parser's own depth limit ended it, at 128.
fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(members) => members.iter().any(|(key, value)| key.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// What became of the keys that patches named: each is gone, or has the value it has in `all` now.
#[derive(Default)]
pub(super) struct Changed {
    pub(super) gone: Vec<String>,
    pub(super) put: Vec<String>,
}

/// Changes `all`, and says which of its keys are gone and which have new values.
pub(super) fn apply(all: &mut Map<String, Value>, patches: &[&Map<String, Value>]) -> Changed {
    let mut named: Vec<&String> = Vec::new();
    for patch in patches {
        for (key, change) in *patch {
            named.push(key);
            if change.is_null() {
                all.remove(key);
            } else {
                let value = merged(all.remove(key).unwrap_or_default(), change.clone());
                all.insert(key.clone(), value);
            }
        }
    }
    named.sort_unstable();
    named.dedup();
    let (put, gone): (Vec<String>, Vec<String>) = named.into_iter().cloned().partition(|key| all.contains_key(key));
    Changed { gone, put }
}

/// RFC 7396, section 2.
fn merged(target: Value, patch: Value) -> Value {
    let Value::Object(patch) = patch else {
        return patch;
    };
    let mut members = match target {
        Value::Object(members) => members,
        _ => Map::new(),
    };
    for (key, change) in patch {
        if change.is_null() {
            members.remove(&key);
        } else {
            let value = merged(members.remove(&key).unwrap_or_default(), change);
            members.insert(key, value);
        }
    }
    Value::Object(members)
}

/// Within what a user may have.
pub(super) fn bound(all: &Map<String, Value>) -> Result<(), AccountsError> {
    let bytes: usize = all.iter().map(|(key, value)| key.len() + value.to_string().len()).sum();
    if all.len() > KEYS_MAX || bytes > BYTES_MAX {
        let problem = Problem::new(ProblemType::Invalid).detail("preferences hold at most 256 keys and 64 KiB");
        return Err(problem.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn merging_follows_the_rfcs_own_examples() {
        let cases = [
            (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
            (json!({"a":"b"}), json!({"a":null}), json!({})),
            (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
            (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
            (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
            (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
            (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
        ];
        for (target, patch, result) in cases {
            assert_eq!(merged(target, patch), result);
        }
    }

    #[test]
    fn patches_say_which_rows_change() {
        let mut all = object(json!({"a":1,"b":{"x":1}}));
        let (one, two) = (object(json!({"a":null,"b":{"y":2},"never":null})), object(json!({"a":3,"b":{"x":null}})));
        let changed = apply(&mut all, &[&one]);
        assert_eq!((changed.gone, changed.put), (vec!["a".to_owned(), "never".to_owned()], vec!["b".to_owned()]));
        let changed = apply(&mut all, &[&one, &two]);
        assert_eq!((changed.gone, changed.put), (vec!["never".to_owned()], vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(Value::Object(all), json!({"a":3,"b":{"y":2}}));
    }

    #[test]
    fn a_key_given_twice_is_refused_however_deep() {
        let read = |text: &str| serde_json::from_str::<PreferencesPatch>(text).map(|patch| patch.0);
        assert_eq!(read(r#"{"a":1,"b":[{"a":2.5}],"c":-1,"d":null,"e":true,"f":"x"}"#).unwrap().len(), 6);
        for twice in [r#"{"a":1,"a":1}"#, r#"{"a":{"b":1,"b":2}}"#, r#"{"a":[{"b":1,"\u0062":2}]}"#] {
            assert!(read(twice).unwrap_err().to_string().starts_with("a key is given twice"), "{twice}");
        }
        for other in ["[]", "1", "null", "\"a\""] {
            assert!(read(other).is_err(), "{other}");
        }
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![Just(Value::Null), (0..3u8).prop_map(|n| json!(n)), Just(json!("x"))];
        leaf.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                proptest::collection::btree_map("[abc]", inner.clone(), 0..3)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
                proptest::collection::vec(inner, 0..2).prop_map(Value::Array),
            ]
        })
    }

    fn json_object() -> impl Strategy<Value = Map<String, Value>> {
        proptest::collection::btree_map("[abc]", json_value(), 0..4).prop_map(|members| members.into_iter().collect())
    }

    proptest! {
        /// Whoever does not know whether a patch was applied may apply it again, with nothing in between.
        #[test]
        fn a_patch_applied_twice_in_a_row_changes_nothing_more(mut all in json_object(), patch in json_object()) {
            apply(&mut all, &[&patch]);
            let once = all.clone();
            apply(&mut all, &[&patch]);
            prop_assert_eq!(all, once);
        }

        #[test]
        fn patches_applied_together_come_to_the_same_as_one_by_one(
            all in json_object(), patches in proptest::collection::vec(json_object(), 0..4),
        ) {
            let (mut together, mut singly) = (all.clone(), all.clone());
            let changed = apply(&mut together, &patches.iter().collect::<Vec<_>>());
            patches.iter().for_each(|patch| { apply(&mut singly, &[patch]); });
            prop_assert_eq!(&together, &singly);
            // By the rows that are said to change, the old ones become the new ones.
            let mut rows = all;
            changed.gone.iter().for_each(|key| { rows.remove(key); });
            changed.put.iter().for_each(|key| { rows.insert(key.clone(), together[key].clone()); });
            prop_assert_eq!(rows, together);
        }
    }
}
