//! What one tier document has that another has not, by JSON pointer.

use cellar_model::TierDocument;
use serde_json::Value;
use std::fmt;

/// One place that differs. Absent on one side: it is new, or gone.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub(super) struct Change {
    pub(super) pointer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) before: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<Value>,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pointer = if self.pointer.is_empty() { "the whole tier" } else { &self.pointer };
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => write!(f, "~ {pointer}: {before} -> {after}"),
            (Some(before), None) => write!(f, "- {pointer}: {before}"),
            (None, Some(after)) => write!(f, "+ {pointer}: {after}"),
            (None, None) => write!(f, "  {pointer}"),
        }
    }
}

/// All places that differ, in the order of the documents.
pub(super) fn between(before: Option<&TierDocument>, after: &TierDocument) -> anyhow::Result<Vec<Change>> {
    let before = before.map(serde_json::to_value).transpose()?;
    let mut changes = Vec::new();
    compare("", before.as_ref(), Some(&serde_json::to_value(after)?), &mut changes);
    Ok(changes)
}

fn compare(at: &str, before: Option<&Value>, after: Option<&Value>, changes: &mut Vec<Change>) {
    match (before, after) {
        (Some(before), Some(after)) if before == after => {}
        (Some(Value::Object(before)), Some(Value::Object(after))) => {
            let added = after.keys().filter(|key| !before.contains_key(*key));
            for key in before.keys().chain(added) {
                compare(&format!("{at}/{}", escaped(key)), before.get(key), after.get(key), changes);
            }
        }
        (Some(Value::Array(before)), Some(Value::Array(after))) => {
            for n in 0..before.len().max(after.len()) {
                compare(&format!("{at}/{n}"), before.get(n), after.get(n), changes);
            }
        }
        (before, after) => {
            changes.push(Change { pointer: at.to_owned(), before: before.cloned(), after: after.cloned() })
        }
    }
}

/// A member's name as a pointer writes it.
fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tier(lines: &str, limits: [u64; 2]) -> TierDocument {
        let slot = |slot: &str, limit| {
            format!(
                "[[policy]]\nslot = \"{slot}\"\nuse = \"gcra@1\"\nunit = \"tokens\"\nsettings = {{ limit = {limit} }}\n"
            )
        };
        TierDocument::from_toml(&format!("name = \"pro\"\n{lines}\n{}{}", slot("a", limits[0]), slot("b", limits[1])))
            .unwrap()
    }

    #[test]
    fn each_place_is_named_with_what_stood_there_and_what_would() {
        let (before, after) = (tier("", [1, 2]), tier("ack = \"postgres\"", [2, 2]));
        let said: Vec<String> = between(Some(&before), &after).unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(said, [r#"~ /ack: "redis" -> "postgres""#, "~ /policy/0/settings/limit: 1 -> 2"]);
        assert_eq!(between(Some(&after), &after).unwrap(), []);
    }

    #[test]
    fn a_new_tier_is_new_as_a_whole_and_a_slot_that_goes_is_gone() {
        let whole = tier("", [1, 2]);
        let new = between(None, &whole).unwrap();
        assert!(new.len() == 1 && new[0].before.is_none() && new[0].pointer.is_empty());
        let mut one = whole.clone();
        one.policies.pop();
        let gone = between(Some(&whole), &one).unwrap();
        assert!(gone.len() == 1 && gone[0].after.is_none() && gone[0].pointer == "/policy/1");
    }
}
