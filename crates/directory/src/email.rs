//! E-mail addresses: one spelling for uniqueness, and a keyed hash in place of the address.

use cellar_model::Secret;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt;

/// The longest address, in bytes: what SMTP can carry in a path.
pub const EMAIL_BYTES_MAX: usize = 254;

/// An address as it was given, and its one normal form.
///
/// The normal form is the trimmed address in lower case, Unicode's, both sides of the `@`. Dots and
/// `+tags` stay: what they mean is known only to the server that receives the mail. Two addresses
/// with one normal form are one account.
///
/// **Invariant:** exactly one `@` with something on both sides, no white space or control character
/// inside, at most 254 bytes in either form.
#[derive(Clone, PartialEq, Eq)]
pub struct Email {
    given: String,
    normal: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EmailError {
    #[error("an e-mail address has at most 254 bytes")]
    TooLong,
    #[error("an e-mail address has exactly one @, with something on both sides")]
    NotOneAt,
    #[error("an e-mail address has no spaces or control characters inside")]
    Blank,
}

impl Email {
    pub fn parse(text: &str) -> Result<Self, EmailError> {
        let given = text.trim();
        // Before the work that grows with the length.
        if given.len() > EMAIL_BYTES_MAX {
            return Err(EmailError::TooLong);
        }
        if given.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(EmailError::Blank);
        }
        let mut sides = given.split('@');
        let (Some(local), Some(domain), None) = (sides.next(), sides.next(), sides.next()) else {
            return Err(EmailError::NotOneAt);
        };
        if local.is_empty() || domain.is_empty() {
            return Err(EmailError::NotOneAt);
        }
        // Some capitals are shorter than their small letters.
        let normal = given.to_lowercase();
        if normal.len() > EMAIL_BYTES_MAX {
            return Err(EmailError::TooLong);
        }
        Ok(Self { given: given.to_owned(), normal })
    }

    /// The address itself, to be stored at its user's home and shown to its user.
    pub fn reveal(&self) -> &str {
        &self.given
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Email(..)")
    }
}

/// The key of the hash. Whoever has the directory's rows but not this cannot test an address.
#[derive(Clone)]
pub struct Pepper([u8; 32]);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a pepper is 64 hex digits")]
pub struct PepperError;

impl Pepper {
    /// Reads the text of a pepper file: 64 hex digits.
    pub fn from_text(text: &Secret) -> Result<Self, PepperError> {
        let mut key = [0; 32];
        hex::decode_to_slice(text.reveal().trim(), &mut key).map_err(|_| PepperError)?;
        Ok(Self(key))
    }

    pub fn hash(&self, email: &Email) -> EmailHash {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(email.normal.as_bytes());
        EmailHash(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(..)")
    }
}

/// HMAC-SHA-256 (pepper, normal form).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EmailHash(pub [u8; 32]);

/// The first bytes: enough to join log lines.
impl fmt::Debug for EmailHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "email:{}…", hex::encode(&self.0[..4]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pepper(byte: &str) -> Pepper {
        Pepper::from_text(&Secret::new(byte.repeat(32))).unwrap()
    }

    fn hash(text: &str) -> EmailHash {
        pepper("ab").hash(&Email::parse(text).unwrap())
    }

    #[test]
    fn spellings_of_one_address_have_one_hash() {
        assert_eq!(hash(" Ada@Example.ORG\n"), hash("ada@example.org"));
        assert_eq!(hash("ÉLAN@exämple.org"), hash("élan@EXÄMPLE.org"));
        assert_ne!(hash("a.da@example.org"), hash("ada@example.org"));
        assert_ne!(hash("ada+x@example.org"), hash("ada@example.org"));
    }

    #[test]
    fn the_address_is_kept_as_it_was_given() {
        let email = Email::parse(" Ada@Example.org ").unwrap();
        assert_eq!(email.reveal(), "Ada@Example.org");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        use EmailError::{Blank, NotOneAt, TooLong};
        let cases = [
            ("", NotOneAt),
            ("ada", NotOneAt),
            ("@example.org", NotOneAt),
            ("ada@", NotOneAt),
            ("a@b@c", NotOneAt),
            ("a da@example.org", Blank),
            ("ada@exam\u{0}ple.org", Blank),
        ];
        for (text, error) in cases {
            assert_eq!(Email::parse(text), Err(error), "{text:?}");
        }
        let at_most = format!("{}@b", "a".repeat(252));
        assert!(Email::parse(&at_most).is_ok());
        assert_eq!(Email::parse(&format!("a{at_most}")), Err(TooLong));
        // One byte more in lower case than in upper.
        let grows = format!("{}@b", "Ⱥ".repeat(126));
        assert!(grows.len() <= 254 && grows.to_lowercase().len() > 254);
        assert_eq!(Email::parse(&grows), Err(TooLong));
    }

    #[test]
    fn another_pepper_gives_another_hash() {
        let email = Email::parse("ada@example.org").unwrap();
        assert_ne!(pepper("ab").hash(&email), pepper("ac").hash(&email));
        assert_eq!(Pepper::from_text(&Secret::new("ab".into())).unwrap_err(), PepperError);
    }

    #[test]
    fn debug_shows_neither_address_nor_pepper() {
        let email = Email::parse("ada@example.org").unwrap();
        assert_eq!(format!("{email:?} {:?}", pepper("ab")), "Email(..) Pepper(..)");
    }
}
