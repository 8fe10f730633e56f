//! E-mail addresses: one spelling for uniqueness.

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

    /// Whether both are one address, however they are spelled.
    pub fn is_same_as(&self, other: &Self) -> bool {
        self.normal == other.normal
    }

    pub(crate) fn normal(&self) -> &str {
        &self.normal
    }
}

impl fmt::Debug for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Email(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(one: &str, other: &str) -> bool {
        Email::parse(one).unwrap().is_same_as(&Email::parse(other).unwrap())
    }

    #[test]
    fn spellings_of_one_address_are_the_same() {
        assert!(same(" Ada@Example.ORG\n", "ada@example.org"));
        assert!(same("ÉLAN@exämple.org", "élan@EXÄMPLE.org"));
        assert!(!same("a.da@example.org", "ada@example.org"));
        assert!(!same("ada+x@example.org", "ada@example.org"));
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
    fn debug_shows_no_address() {
        let email = Email::parse("ada@example.org").unwrap();
        assert_eq!(format!("{email:?}"), "Email(..)");
    }
}
