//! Preferences: a JSON object, changed by merge patch (RFC 7396).

use super::etag::{IfMatch, Tag};
use super::{Accounts, AccountsError, statements};
use cellar_model::{Problem, ProblemType, UserId};
use serde_json::{Map, Value};
use sqlx::PgConnection;

/// Keys a user may have.
pub(super) const KEYS_MAX: usize = 256;
/// Bytes of all keys and values together.
pub(super) const BYTES_MAX: usize = 64 * 1024;
const KEY_BYTES_MAX: usize = 128;

impl Accounts {
    /// Applies a merge patch. Postgres first, then the cache entry goes.
    pub(super) async fn patch_preferences(
        &self,
        user: &UserId,
        patch: Map<String, Value>,
        wanted: &IfMatch,
    ) -> Result<(), AccountsError> {
        // Owned here, and not blocked.
        self.person(user).await?;
        check(&patch)?;
        let (accounts, id, wanted) = (self.clone(), user.clone(), wanted.clone());
        self.change(user, async move { accounts.merge(&id, patch, &wanted).await }).await
    }

    pub(super) async fn merge(
        &self,
        user: &UserId,
        patch: Map<String, Value>,
        wanted: &IfMatch,
    ) -> Result<(), AccountsError> {
        let mut transaction = self.0.given.pool.begin().await?;
        let held: Option<(i64,)> =
            sqlx::query_as(statements::HOLD_OWNED).bind(user.as_str()).fetch_optional(&mut *transaction).await?;
        held.ok_or_else(|| self.left(user))?;
        // Of two writers of one user, the second waits here.
        let (version,): (i64,) =
            sqlx::query_as(statements::LOCK_PREFERENCES).bind(user.as_str()).fetch_one(&mut *transaction).await?;
        Tag::of(&[version]).require(wanted)?;
        let rows: Vec<(String, String)> =
            sqlx::query_as(statements::READ_PREFERENCES).bind(user.as_str()).fetch_all(&mut *transaction).await?;
        let mut all = Map::new();
        for (key, value) in rows {
            let value = serde_json::from_str(&value);
            all.insert(key, value.map_err(|_| AccountsError::Corrupt("preference"))?);
        }
        let (gone, put) = apply(&mut all, patch);
        bound(&all)?;
        let (keys, values): (Vec<String>, Vec<String>) = put.into_iter().unzip();
        let _: (i64,) = sqlx::query_as(statements::WRITE_PREFERENCES)
            .bind(user.as_str())
            .bind(gone)
            .bind(keys)
            .bind(values)
            .fetch_one(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }
}

/// The rows of preferences that come with their user.
pub(super) fn rows(preferences: Map<String, Value>) -> Result<Vec<(String, String)>, AccountsError> {
    check(&preferences)?;
    let mut all = Map::new();
    let (_, put) = apply(&mut all, preferences);
    bound(&all)?;
    Ok(put)
}

/// Writes them, in the transaction that makes the user.
pub(super) async fn write_first(
    transaction: &mut PgConnection,
    user: &UserId,
    rows: &[(String, String)],
) -> Result<(), AccountsError> {
    if rows.is_empty() {
        return Ok(());
    }
    let _: (i64,) =
        sqlx::query_as(statements::LOCK_PREFERENCES).bind(user.as_str()).fetch_one(&mut *transaction).await?;
    let (keys, values): (Vec<&str>, Vec<&str>) = rows.iter().map(|(key, value)| (&**key, &**value)).unzip();
    let _: (i64,) = sqlx::query_as(statements::WRITE_PREFERENCES)
        .bind(user.as_str())
        .bind(&[""; 0][..])
        .bind(keys)
        .bind(values)
        .fetch_one(transaction)
        .await?;
    Ok(())
}

/// What can be said of a patch before anything is read. Postgres stores no NUL in text.
fn check(patch: &Map<String, Value>) -> Result<(), AccountsError> {
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

/// Changes `all`, and says which of its keys are gone and which have new values.
fn apply(all: &mut Map<String, Value>, patch: Map<String, Value>) -> (Vec<String>, Vec<(String, String)>) {
    let (mut gone, mut put) = (Vec::new(), Vec::new());
    for (key, change) in patch {
        if change.is_null() {
            all.remove(&key);
            gone.push(key);
            continue;
        }
        let value = merged(all.remove(&key).unwrap_or_default(), change);
        put.push((key.clone(), value.to_string()));
        all.insert(key, value);
    }
    (gone, put)
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

fn bound(all: &Map<String, Value>) -> Result<(), AccountsError> {
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
    use serde_json::json;

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
    fn a_patch_says_which_rows_change() {
        let mut all = json!({"a":1,"b":{"x":1}}).as_object().cloned().unwrap();
        let patch = json!({"a":null,"b":{"y":2},"never":null}).as_object().cloned().unwrap();
        let (gone, put) = apply(&mut all, patch);
        assert_eq!(gone, ["a", "never"]);
        assert_eq!(put, [("b".to_owned(), r#"{"x":1,"y":2}"#.to_owned())]);
    }
}
