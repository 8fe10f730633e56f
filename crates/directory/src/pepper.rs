//! Peppers: the keys under which the directory knows e-mails.

use crate::Email;
use cellar_model::Secret;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::fmt;

/// Before the pepper where its id is made: no hash of an e-mail begins so, and no other use of the key.
const ID_PREFIX: &[u8] = b"cellar pepper id\0";
const ID_BYTES: usize = 4;
/// Lines of a pepper file: the present one, and the next one while it is brought in.
const PEPPERS_MAX: usize = 2;

/// The key of the hash. Whoever has the directory's rows but not this cannot test an address.
#[derive(Clone, PartialEq, Eq)]
pub struct Pepper([u8; 32]);

/// Says which pepper a hash is under, and nothing about the pepper.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PepperId(pub [u8; ID_BYTES]);

/// The peppers of a process, in the order of its file: the present one, and the next one while one takes the
/// place of the other.
///
/// **Invariant:** one or two, and not twice the same. Every process asks in this order, so that of two who want
/// one e-mail one wins at the first.
#[derive(Clone)]
pub struct Peppers(Vec<Pepper>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PepperError {
    #[error("line {line} is not 64 hex digits, as a pepper is")]
    NotHex { line: usize },
    #[error("line {line} is empty: the next pepper stands right below the present one")]
    Blank { line: usize },
    #[error("there are {lines} lines, and peppers are at most two: the present one and the next")]
    TooMany { lines: usize },
    #[error("both lines are the same pepper")]
    Twice,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the id of a pepper is 8 lower-case hex digits")]
pub struct PepperIdError;

impl Pepper {
    fn from_line(line: &str) -> Option<Self> {
        let mut key = [0; 32];
        hex::decode_to_slice(line, &mut key).ok()?;
        Some(Self(key))
    }

    pub fn id(&self) -> PepperId {
        let digest = Sha256::new().chain_update(ID_PREFIX).chain_update(self.0).finalize();
        let mut id = [0; ID_BYTES];
        id.copy_from_slice(&digest[..ID_BYTES]);
        PepperId(id)
    }

    pub fn hash(&self, email: &Email) -> EmailHash {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(email.normal().as_bytes());
        EmailHash { pepper: self.id(), hash: mac.finalize().into_bytes().into() }
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pepper({})", self.id())
    }
}

impl Peppers {
    /// Reads the text of a pepper file: one pepper a line, each 64 hex digits.
    pub fn from_text(text: &Secret) -> Result<Self, PepperError> {
        let lines: Vec<&str> = text.reveal().trim().lines().map(str::trim).collect();
        if let Some(at) = lines.iter().position(|line| line.is_empty()) {
            return Err(PepperError::Blank { line: at + 1 });
        }
        if lines.len() > PEPPERS_MAX {
            return Err(PepperError::TooMany { lines: lines.len() });
        }
        if lines.is_empty() {
            return Err(PepperError::NotHex { line: 1 });
        }
        let read = |(at, line): (usize, &&str)| Pepper::from_line(line).ok_or(PepperError::NotHex { line: at + 1 });
        let peppers: Vec<Pepper> = lines.iter().enumerate().map(read).collect::<Result<_, _>>()?;
        match &peppers[..] {
            [present, next] if present == next => Err(PepperError::Twice),
            _ => Ok(Self(peppers)),
        }
    }

    /// In the order of the file.
    pub fn hashes(&self, email: &Email) -> Vec<EmailHash> {
        self.0.iter().map(|pepper| pepper.hash(email)).collect()
    }

    pub fn ids(&self) -> impl Iterator<Item = PepperId> {
        self.0.iter().map(Pepper::id)
    }

    /// The one of this id, if this process has it.
    pub fn of(&self, id: PepperId) -> Option<&Pepper> {
        self.0.iter().find(|pepper| pepper.id() == id)
    }

    /// The one that is being brought in.
    pub fn next(&self) -> Option<&Pepper> {
        self.0.get(1)
    }
}

impl fmt::Debug for Peppers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

impl PepperId {
    pub fn from_text(text: &str) -> Result<Self, PepperIdError> {
        let mut id = [0; ID_BYTES];
        hex::decode_to_slice(text, &mut id).map_err(|_| PepperIdError)?;
        let id = Self(id);
        if id.to_string() == text { Ok(id) } else { Err(PepperIdError) }
    }
}

impl std::str::FromStr for PepperId {
    type Err = PepperIdError;

    fn from_str(text: &str) -> Result<Self, PepperIdError> {
        Self::from_text(text)
    }
}

impl fmt::Display for PepperId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PepperId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// HMAC-SHA-256 (pepper, normal form), and which pepper.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EmailHash {
    pub pepper: PepperId,
    pub hash: [u8; 32],
}

/// What the scope of a claim begins with; the pepper's id follows.
const SCOPE: &str = "email:";

impl EmailHash {
    /// The scope of its claim: it says under which pepper the claim was made.
    pub(crate) fn scope(&self) -> String {
        format!("{SCOPE}{}", self.pepper)
    }

    /// None if the scope is not that of an e-mail.
    pub(crate) fn of_scope(scope: &str, hash: [u8; 32]) -> Option<Self> {
        let pepper = PepperId::from_text(scope.strip_prefix(SCOPE)?).ok()?;
        Some(Self { pepper, hash })
    }

    /// As operators read it: the pepper's id, a colon, the hash.
    pub fn to_text(&self) -> String {
        format!("{}:{}", self.pepper, hex::encode(self.hash))
    }

    pub fn from_text(text: &str) -> Option<Self> {
        let (pepper, hash) = text.split_once(':')?;
        let mut read = Self { pepper: PepperId::from_text(pepper).ok()?, hash: [0; 32] };
        hex::decode_to_slice(hash, &mut read.hash).ok()?;
        Some(read)
    }
}

/// The first bytes: enough to join log lines.
impl fmt::Debug for EmailHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "email:{}…", hex::encode(&self.hash[..4]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peppers(text: &str) -> Result<Peppers, PepperError> {
        Peppers::from_text(&Secret::new(text.to_owned()))
    }

    fn line(byte: &str) -> String {
        byte.repeat(32)
    }

    #[test]
    fn a_file_has_one_pepper_or_two_in_order() {
        let (old, new) = (line("ab"), line("CD"));
        let one = peppers(&format!("{old}\n")).unwrap();
        assert!(one.next().is_none() && one.ids().count() == 1);
        let both = peppers(&format!("{old}\r\n{new}\n")).unwrap();
        assert_eq!(both.ids().next(), one.ids().next());
        assert_eq!(both.next().map(Pepper::id), peppers(&new).unwrap().ids().next());
        assert!(both.of(both.next().unwrap().id()).is_some() && one.of(both.next().unwrap().id()).is_none());
    }

    #[test]
    fn a_file_of_anything_else_is_refused_by_its_line() {
        let (old, new) = (line("ab"), line("cd"));
        let cases = [
            (String::new(), PepperError::NotHex { line: 1 }),
            ("ab".into(), PepperError::NotHex { line: 1 }),
            (format!("{old}\nxy"), PepperError::NotHex { line: 2 }),
            (format!("{old}\n\n{new}"), PepperError::Blank { line: 2 }),
            (format!("{old}\n{new}\n{}", line("ef")), PepperError::TooMany { lines: 3 }),
            (format!("{old}\n{}", old.to_uppercase()), PepperError::Twice),
        ];
        for (text, error) in cases {
            assert_eq!(peppers(&text).unwrap_err(), error, "{text:?}");
        }
    }

    #[test]
    fn another_pepper_gives_another_hash_under_another_id() {
        let email = Email::parse("ada@example.org").unwrap();
        let both = peppers(&format!("{}\n{}", line("ab"), line("ac"))).unwrap().hashes(&email);
        assert_ne!(both[0].hash, both[1].hash);
        assert_ne!(both[0].pepper, both[1].pepper);
        for hash in both {
            assert_eq!(EmailHash::of_scope(&hash.scope(), hash.hash), Some(hash));
            assert_eq!(EmailHash::from_text(&hash.to_text()), Some(hash));
        }
        assert_eq!(EmailHash::of_scope("email", [0; 32]), None);
        assert!(PepperId::from_text("ABCDEF01").is_err() && PepperId::from_text("abc").is_err());
    }

    #[test]
    fn debug_shows_ids_and_no_pepper() {
        let text = format!("{:?}", peppers(&line("ab")).unwrap());
        assert!(!text.contains("abab"), "{text}");
    }
}
