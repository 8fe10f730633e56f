//! The ids that tell one attempt from another.

use serde::{Deserialize, Serialize};
use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id must be 1 to 64 lower-case hex digits")]
pub struct IdError;

const HEX_DIGITS_MAX: usize = 64;

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// **Invariant:** 1 to 64 lower-case hex digits.
        #[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn new(id: &str) -> Result<Self, IdError> {
                let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
                if id.is_empty() || id.len() > HEX_DIGITS_MAX || !id.bytes().all(hex) {
                    return Err(IdError);
                }
                Ok(Self(id.to_owned()))
            }

            /// Another one each time.
            pub fn random() -> Self {
                Self(hex::encode(rand::random::<[u8; 16]>()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(id: String) -> Result<Self, IdError> {
                Self::new(&id)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

hex_id!(/// A sign-up, or a change of e-mail: the same for a repeat under one idempotency key.
    Intent);
hex_id!(/// A move of a user from one cell to another.
    MoveId);
hex_id!(/// One write to a claim. Fresh with every write; every change names the one it read.
    Op);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_hex_and_bounded() {
        for bad in ["", "xyz", "AB", &"a".repeat(65)] {
            assert_eq!(Intent::new(bad), Err(IdError), "{bad:?}");
        }
        assert!(Intent::new(&"a".repeat(64)).is_ok());
        assert_ne!(Op::random(), Op::random());
    }
}
