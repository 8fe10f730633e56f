//! Whose signatures count, and for which policies.

use crate::message::message;
use crate::refusal::Refusal;
use cellar_model::{Digest, KeyName, PolicyKey, PolicyName, PolicySignature, VersionNumber};
use ed25519_dalek::{Signature, VerifyingKey};
use std::fmt;

/// Of one file. An operator knows these keys by name.
const KEYS_MAX: usize = 256;
/// Of one key.
const PATTERNS_MAX: usize = 64;
/// Every key with every pattern that it may have, and as many comments.
const TEXT_BYTES_MAX: usize = 1024 * 1024;

/// Trusted keys. One without any trusts nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    keys: Vec<TrustedKey>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedKey {
    pub name: KeyName,
    pub key: PolicyKey,
    /// At least one.
    pub policies: Vec<Pattern>,
}

/// `gcra`, `acme-*`, or `*`: one policy, those that begin so, or all.
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern {
    start: String,
    open: bool,
}

/// Why a file of trusted keys is not taken: at its first mistake, by line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    #[error("line {line} is not `NAME ed25519:… PATTERN[,PATTERN]`: {what}")]
    Line { line: usize, what: String },
    #[error("line {line} names {what} a second time")]
    Twice { line: usize, what: String },
    #[error("more than {KEYS_MAX} keys are trusted")]
    TooMany,
    #[error("it has {bytes} bytes; at most {TEXT_BYTES_MAX} are read")]
    TooLarge { bytes: usize },
    #[error("no key named {what}, or with that id, is trusted")]
    NotThere { what: String },
}

impl Trust {
    /// Reads a file of trusted keys: `name key policies` a line, `#` before a comment.
    pub fn parse(text: &str) -> Result<Self, TrustError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(TrustError::TooLarge { bytes: text.len() });
        }
        let mut keys: Vec<TrustedKey> = Vec::new();
        for (n, written) in text.lines().enumerate() {
            let line = n + 1;
            let Some(key) = TrustedKey::parse(written).map_err(|what| TrustError::Line { line, what })? else {
                continue;
            };
            let twice = |what: String| Err(TrustError::Twice { line, what });
            if keys.iter().any(|held| held.name == key.name) {
                return twice(key.name.to_string());
            }
            if keys.iter().any(|held| held.key == key.key) {
                return twice(key.key.to_string());
            }
            if keys.len() == KEYS_MAX {
                return Err(TrustError::TooMany);
            }
            keys.push(key);
        }
        Ok(Self { keys })
    }

    pub fn keys(&self) -> &[TrustedKey] {
        &self.keys
    }

    /// Who is trusted under this public key.
    pub fn of(&self, key: &PolicyKey) -> Option<&TrustedKey> {
        self.keys.iter().find(|held| held.key == *key)
    }

    /// Whether somebody who is trusted for this policy says that the component with `digest` is this version of it.
    /// What the signature says itself is compared first, so that the answer names what is other.
    pub fn verify(
        &self,
        name: &PolicyName,
        version: VersionNumber,
        digest: &Digest,
        signature: Option<&PolicySignature>,
    ) -> Result<&TrustedKey, Refusal> {
        let said = signature.ok_or(Refusal::Unsigned)?;
        if said.name != *name {
            return Err(Refusal::OtherName { signed: said.name.clone(), found: name.clone() });
        }
        if said.version != version {
            return Err(Refusal::OtherVersion { signed: said.version, found: version });
        }
        if said.digest != *digest {
            return Err(Refusal::OtherBytes { signed: said.digest, found: *digest });
        }
        let held = self.of(&said.key).ok_or(Refusal::UnknownKey { key: said.key })?;
        if !is_true(said) {
            return Err(Refusal::Forged { name: held.name.clone(), id: held.key.id() });
        }
        if !held.may_sign(name) {
            return Err(Refusal::NotForName {
                name: held.name.clone(),
                id: held.key.id(),
                patterns: held.patterns(),
                policy: name.clone(),
            });
        }
        Ok(held)
    }
}

/// Whether the key that a signature names has made it over what it says. Strict: of each claim and key one signature
/// is taken, and no key of a small order.
fn is_true(said: &PolicySignature) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(&said.key.0) else { return false };
    let message = message(&said.name, said.version, &said.digest, said.certificate.as_ref());
    key.verify_strict(&message, &Signature::from_bytes(&said.signature.0)).is_ok()
}

impl TrustedKey {
    pub fn new(name: KeyName, key: PolicyKey, policies: Vec<Pattern>) -> Result<Self, String> {
        let fit = VerifyingKey::from_bytes(&key.0).is_ok_and(|key| !key.is_weak());
        if !fit {
            return Err(format!("{key} is no key of Ed25519"));
        }
        if policies.is_empty() || policies.len() > PATTERNS_MAX {
            return Err(format!("a key is trusted for 1 to {PATTERNS_MAX} patterns of names"));
        }
        Ok(Self { name, key, policies })
    }

    /// None of a line that says nothing.
    pub(crate) fn parse(line: &str) -> Result<Option<Self>, String> {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(None);
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, key, policies] = words[..] else { return Err(format!("it has {} words", words.len())) };
        let name = KeyName::new(name).map_err(|error| error.to_string())?;
        let key: PolicyKey = key.parse().map_err(|_| format!("{key:?} is not ed25519: and 64 hex digits"))?;
        let policies = policies.split(',').map(str::parse).collect::<Result<_, String>>()?;
        Self::new(name, key, policies).map(Some)
    }

    pub fn may_sign(&self, policy: &PolicyName) -> bool {
        self.policies.iter().any(|pattern| pattern.fits(policy))
    }

    /// `acme-*,gcra`
    pub fn patterns(&self) -> String {
        self.policies.iter().map(Pattern::to_string).collect::<Vec<_>>().join(",")
    }
}

impl fmt::Display for TrustedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.name, self.key, self.patterns())
    }
}

impl Pattern {
    pub fn fits(&self, policy: &PolicyName) -> bool {
        let name = policy.as_str();
        if self.open { name.starts_with(&self.start) } else { name == self.start }
    }
}

impl std::str::FromStr for Pattern {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (start, open) = text.strip_suffix('*').map_or((text, false), |start| (start, true));
        if !(open && start.is_empty()) {
            let odd = |_| format!("{text:?} is not a policy's name, the beginning of one and *, or *");
            PolicyName::new(start).map_err(odd)?;
        }
        Ok(Self { start: start.to_owned(), open })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.start, if self.open { "*" } else { "" })
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
