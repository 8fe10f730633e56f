//! Session tokens: opaque to their holder, checkable by any router without asking anybody.

use crate::{UserId, UserIdError};
use hmac::{Hmac, KeyInit, Mac};
use rand::Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use smol_str::SmolStr;
use std::fmt;
use subtle::ConstantTimeEq;

const ALPHABET: base32::Alphabet = base32::Alphabet::Rfc4648HexLower { padding: false };
const PREFIX: &str = "cst1";
/// Characters of a session id (128 bits), a secret (160 bits) and a MAC (128 bits) in base32.
const ID_CHARS: usize = 26;
const SECRET_CHARS: usize = 32;
const MAC_CHARS: usize = 26;
/// Hashed with a MAC key for its fingerprint: another hash than that of its id.
const FINGERPRINT: &[u8] = b"cellar session key";

/// Names a session in lists and for revocation; no secret.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "SmolStr", into = "SmolStr")]
pub struct SessionId(SmolStr);

impl SessionId {
    pub fn mint(unique: u128) -> Self {
        Self(SmolStr::from(base32::encode(ALPHABET, &unique.to_be_bytes())))
    }

    pub fn new(id: &str) -> Result<Self, TokenError> {
        if id.len() != ID_CHARS || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(TokenError);
        }
        Ok(Self(SmolStr::new(id)))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<SmolStr> for SessionId {
    type Error = TokenError;
    fn try_from(id: SmolStr) -> Result<Self, TokenError> {
        Self::new(&id)
    }
}

impl From<SessionId> for SmolStr {
    fn from(id: SessionId) -> SmolStr {
        id.0
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session:…{}", &self.0[self.0.len().saturating_sub(8)..])
    }
}

/// The 160 bits only the holder knows.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionSecret(SmolStr);

impl SessionSecret {
    pub fn generate(rng: &mut impl Rng) -> Self {
        let mut secret = [0; 20];
        rng.fill_bytes(&mut secret);
        Self(SmolStr::from(base32::encode(ALPHABET, &secret)))
    }

    /// What is kept of it.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }
}

impl fmt::Debug for SessionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionSecret(..)")
    }
}

/// What a session token whose MAC is right says. Whether it is in force is for its user's cell to say.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresentedSession {
    pub id: SessionId,
    /// SHA-256 of the token's secret.
    pub hash: [u8; 32],
}

impl fmt::Debug for PresentedSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.id.fmt(f)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a session token of this service")]
pub struct TokenError;

impl From<UserIdError> for TokenError {
    fn from(_: UserIdError) -> Self {
        TokenError
    }
}

/// `cst1.<user id>.<session id>.<secret>.<mac>`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionToken {
    pub user: UserId,
    pub session: SessionId,
    pub secret: SessionSecret,
}

impl SessionToken {
    /// The text for its holder.
    pub fn sign(&self, keys: &MacKeys) -> String {
        let body = format!("{PREFIX}.{}.{}.{}", self.user.as_str(), self.session.as_str(), self.secret.0);
        let mac = keys.current.mac(&body);
        format!("{body}.{}{mac}", keys.current.id)
    }

    /// What the user's cell has to know of it.
    pub fn presented(&self) -> PresentedSession {
        PresentedSession { id: self.session.clone(), hash: self.secret.hash() }
    }

    /// Parses, and checks the MAC in constant time: junk never reaches a cell.
    pub fn verify(text: &str, keys: &MacKeys) -> Result<Self, TokenError> {
        let (body, mac) = text.rsplit_once('.').ok_or(TokenError)?;
        let mut parts = body.split('.');
        let (Some(PREFIX), Some(user), Some(session), Some(secret), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(TokenError);
        };
        if mac.len() != MAC_CHARS + 1 || !mac.is_ascii() || secret.len() != SECRET_CHARS {
            return Err(TokenError);
        }
        let key = keys.by_id(mac.as_bytes()[0] as char).ok_or(TokenError)?;
        if !bool::from(key.mac(body).as_bytes().ct_eq(&mac.as_bytes()[1..])) {
            return Err(TokenError);
        }
        Ok(Self {
            user: UserId::new(user)?,
            session: SessionId::new(session)?,
            secret: SessionSecret(SmolStr::new(secret)),
        })
    }
}

/// The keys tokens are checked with: the current one signs, the other one verifies as well. It is the one that
/// signed before, or, in the first step of a rotation, the one that is going to.
#[derive(Clone, Debug)]
pub struct MacKeys {
    current: MacKey,
    previous: Option<MacKey>,
}

/// A 256-bit key and the one character that names it in tokens.
#[derive(Clone)]
pub struct MacKey {
    id: char,
    secret: [u8; 32],
}

impl MacKey {
    /// `id` is a lower-case letter.
    pub fn new(id: char, secret: [u8; 32]) -> Result<Self, TokenError> {
        if !id.is_ascii_lowercase() {
            return Err(TokenError);
        }
        Ok(Self { id, secret })
    }

    fn mac(&self, body: &str) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("HMAC takes a key of any length");
        mac.update(body.as_bytes());
        base32::encode(ALPHABET, &mac.finalize().into_bytes()[..16])
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MacKey({}, ..)", self.id)
    }
}

impl MacKeys {
    pub fn new(current: MacKey, previous: Option<MacKey>) -> Self {
        Self { current, previous }
    }

    /// Reads a key file: up to two lines of 64 hex digits, the current key first. A key's id is
    /// derived from the key, so that a rotated file needs no numbering.
    pub fn from_text(text: &str) -> Result<Self, TokenError> {
        let mut keys = text.split_whitespace().map(|line| {
            let mut secret = [0; 32];
            hex::decode_to_slice(line, &mut secret).map_err(|_| TokenError)?;
            let id = (b'a' + Sha256::digest(secret)[0] % 26) as char;
            MacKey::new(id, secret)
        });
        let current = keys.next().ok_or(TokenError)??;
        let previous = keys.next().transpose()?;
        if keys.next().is_some() || previous.as_ref().is_some_and(|key| key.id == current.id) {
            return Err(TokenError);
        }
        Ok(Self { current, previous })
    }

    /// What tells each key from others, the current one first; none of them opens anything.
    pub fn fingerprints(&self) -> Vec<String> {
        let keys = [Some(&self.current), self.previous.as_ref()].into_iter().flatten();
        keys.map(|key| hex::encode(&Sha256::new().chain_update(FINGERPRINT).chain_update(key.secret).finalize()[..6]))
            .collect()
    }

    fn by_id(&self, id: char) -> Option<&MacKey> {
        [Some(&self.current), self.previous.as_ref()].into_iter().flatten().find(|key| key.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(a: u8) -> MacKeys {
        MacKeys::new(MacKey::new('a', [a; 32]).unwrap(), None)
    }

    fn token() -> SessionToken {
        SessionToken {
            user: UserId::new("eu_abc").unwrap(),
            session: SessionId::mint(7),
            secret: SessionSecret::generate(&mut rand::rng()),
        }
    }

    #[test]
    fn a_signed_token_verifies_and_any_changed_character_does_not() {
        let text = token().sign(&keys(1));
        assert!(SessionToken::verify(&text, &keys(1)).is_ok());
        assert!(SessionToken::verify(&text, &keys(2)).is_err());
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'x' { b'y' } else { b'x' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(SessionToken::verify(&changed, &keys(1)).is_err(), "character {at}");
        }
    }

    #[test]
    fn the_previous_key_still_verifies() {
        let text = token().sign(&keys(1));
        let rotated = MacKeys::new(MacKey::new('b', [9; 32]).unwrap(), MacKey::new('a', [1; 32]).ok());
        assert!(SessionToken::verify(&text, &rotated).is_ok());
    }

    #[test]
    fn debug_shows_no_secret() {
        let token = token();
        assert!(!format!("{token:?}").contains(token.secret.0.as_str()));
    }
}
