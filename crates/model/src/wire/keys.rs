//! Service and operator keys, and those of session tokens, as operators ask about them.

use crate::{KeyDocument, KeyHash, KeyKind, KeyName, Scope, SettingProblem, TierName};
use serde::{Deserialize, Serialize};

/// `PUT /admin/v1/keys/{name}`. Whoever makes a key draws it where its holder is, and tells its hash alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    pub kind: KeyKind,
    pub hash: KeyHash,
    /// Of a service key; an operator key may do everything an operator does, and nothing else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<Scope>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_enrol: Option<TierName>,
}

/// `POST /admin/v1/keys/{name}/rotate`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotateKey {
    /// Of the new text.
    pub hash: KeyHash,
}

/// `POST /admin/v1/keys/{name}/revoke`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeKey {
    /// The text from before the rotation, and not the key.
    #[serde(default)]
    pub old_only: bool,
}

/// A key as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyEntry {
    pub name: KeyName,
    pub kind: KeyKind,
    pub scopes: Vec<Scope>,
    pub auto_enrol: Option<TierName>,
    pub revoked: bool,
    /// The start of its hash.
    pub fingerprint: String,
    /// While it is being rotated: that of the text from before, which counts as well.
    pub old: Option<String>,
    /// It is the one that asks.
    #[serde(default)]
    pub yours: bool,
}

/// `GET /admin/v1/mac-keys` of one process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MacKeysShown {
    /// The one that signs first.
    pub fingerprints: Vec<String>,
    /// Of a cell: how long what is signed may be alive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_lasts_h: Option<u32>,
}

impl NewKey {
    /// The catalog's document of it, or what is wrong.
    pub fn document(self, name: KeyName) -> Result<KeyDocument, SettingProblem> {
        let wrong = |pointer: &str, message: &str| Err(SettingProblem::new(pointer, message));
        let scopes = match self.kind {
            KeyKind::Operator if !self.scopes.is_empty() => return wrong("/scopes", "an operator key has none"),
            KeyKind::Operator if self.auto_enrol.is_some() => return wrong("/auto_enrol", "is for service keys"),
            KeyKind::Operator => vec![Scope::Admin],
            KeyKind::Service if self.scopes.is_empty() => return wrong("/scopes", "name quota, users, or both"),
            KeyKind::Service if self.scopes.contains(&Scope::Admin) => {
                return wrong("/scopes", "admin is what operator keys are for");
            }
            KeyKind::Service => self.scopes,
        };
        let (kind, hash, auto_enrol) = (self.kind, self.hash, self.auto_enrol);
        Ok(KeyDocument { name, kind, hash, scopes, auto_enrol, previous: None, revoked: false })
    }
}

impl KeyEntry {
    pub fn of(key: &KeyDocument) -> Self {
        Self {
            name: key.name.clone(),
            kind: key.kind,
            scopes: key.scopes.clone(),
            auto_enrol: key.auto_enrol.clone(),
            revoked: key.revoked,
            fingerprint: key.hash.fingerprint(),
            old: key.previous.map(|hash| hash.fingerprint()),
            yours: false,
        }
    }
}
