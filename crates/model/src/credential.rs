//! Service and operator keys.

use crate::{KeyName, TierName};
use rand::Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use xxhash_rust::xxh3::xxh3_64;

const ALPHABET: base32::Alphabet = base32::Alphabet::Rfc4648HexLower { padding: false };
/// 160 bits in base32.
const SECRET_CHARS: usize = 32;
/// 20 bits: a mistyped key is told from a wrong one without asking anybody.
const CHECKSUM_CHARS: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyKind {
    Service,
    Operator,
}

impl KeyKind {
    fn prefix(self) -> &'static str {
        match self {
            KeyKind::Service => "csk_",
            KeyKind::Operator => "cok_",
        }
    }
}

/// A key as its holder sends it: prefix, 160 bits, checksum. `Debug` shows its kind only.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    kind: KeyKind,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a well-formed key")]
pub struct KeyError;

impl ApiKey {
    pub fn generate(kind: KeyKind, rng: &mut impl Rng) -> Self {
        let mut secret = [0; 20];
        rng.fill_bytes(&mut secret);
        let body = base32::encode(ALPHABET, &secret);
        let text = format!("{}{body}{}", kind.prefix(), checksum(&body));
        Self { kind, text }
    }

    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let kind = [KeyKind::Service, KeyKind::Operator]
            .into_iter()
            .find(|kind| text.starts_with(kind.prefix()))
            .ok_or(KeyError)?;
        let rest = &text[kind.prefix().len()..];
        if rest.len() != SECRET_CHARS + CHECKSUM_CHARS || !rest.is_ascii() {
            return Err(KeyError);
        }
        let (body, sum) = rest.split_at(SECRET_CHARS);
        if checksum(body) != sum {
            return Err(KeyError);
        }
        Ok(Self { kind, text: text.to_owned() })
    }

    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// What is kept of it. 160 random bits need no slow hash.
    pub fn hash(&self) -> KeyHash {
        KeyHash(Sha256::digest(self.text.as_bytes()).into())
    }

    /// The key itself, for the one who is to hold it.
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

fn checksum(body: &str) -> String {
    let hash = xxh3_64(body.as_bytes()).to_be_bytes();
    base32::encode(ALPHABET, &hash)[..CHECKSUM_CHARS].to_owned()
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}…", self.kind.prefix())
    }
}

/// SHA-256 of a key's text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash(pub [u8; 32]);

impl KeyHash {
    /// Enough to tell one key from another in a list, and no key.
    pub fn fingerprint(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(..)")
    }
}

impl Serialize for KeyHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        hex::encode(self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for KeyHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).map_err(serde::de::Error::custom)?;
        Ok(Self(hash))
    }
}

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Consume, reserve, settle, refund, batch, admit, peek.
    Quota,
    /// Sign-up, sessions, profiles, preferences of any user.
    Users,
    /// The admin API: operator keys only.
    Admin,
}

/// A key as the catalog holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyDocument {
    pub name: KeyName,
    pub kind: KeyKind,
    pub hash: KeyHash,
    pub scopes: Vec<Scope>,
    /// A user id never seen before is signed up in this tier by its first check.
    #[serde(default)]
    pub auto_enrol: Option<TierName>,
    /// While the key is being rotated: the text it had before, which counts as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<KeyHash>,
    #[serde(default)]
    pub revoked: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_parses_and_a_mistyped_one_does_not() {
        let key = ApiKey::generate(KeyKind::Service, &mut rand::rng());
        assert_eq!(ApiKey::parse(key.reveal()), Ok(key.clone()));
        let mut typo = key.reveal().to_owned().into_bytes();
        typo[10] = if typo[10] == b'a' { b'b' } else { b'a' };
        assert_eq!(ApiKey::parse(std::str::from_utf8(&typo).unwrap()), Err(KeyError));
        for bad in ["", "csk_", "cok_ééééééééééééééééééé", "xyz"] {
            assert_eq!(ApiKey::parse(bad), Err(KeyError));
        }
    }

    #[test]
    fn debug_shows_nothing_of_a_key() {
        let key = ApiKey::generate(KeyKind::Operator, &mut rand::rng());
        assert_eq!(format!("{key:?}"), "cok_…");
    }
}
