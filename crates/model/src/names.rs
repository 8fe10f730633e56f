//! Names that operators and policy authors choose: short, from a closed alphabet, cheap to clone.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use std::fmt;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} must be 1 to {max} characters of [a-z0-9_-], not {got:?}")]
pub struct NameError {
    what: &'static str,
    max: usize,
    got: String,
}

fn check(what: &'static str, max: usize, name: &str) -> Result<SmolStr, NameError> {
    let fits = !name.is_empty() && name.len() <= max;
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    if fits && name.bytes().all(plain) {
        return Ok(SmolStr::new(name));
    }
    Err(NameError { what, max, got: name.chars().take(max + 8).collect() })
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "SmolStr", into = "SmolStr")]
        pub struct $name(SmolStr);

        impl $name {
            /// Checks and keeps `name`.
            pub fn new(name: &str) -> Result<Self, NameError> {
                check($what, $max, name).map(Self)
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<SmolStr> for $name {
            type Error = NameError;
            fn try_from(name: SmolStr) -> Result<Self, NameError> {
                Self::new(&name)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;
            fn from_str(name: &str) -> Result<Self, NameError> {
                Self::new(name)
            }
        }

        impl From<$name> for SmolStr {
            fn from(name: $name) -> SmolStr {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(/// A cell, `eu-1`. A label of metrics, so short.
    CellName, "a cell's name", 16);
name!(/// A region, `eu`. The first part of every user id minted there.
    RegionName, "a region's name", 16);
name!(/// A tier, `pro`.
    TierName, "a tier's name", 32);
name!(/// The place of a policy in a tier, `per-minute`: its name in answers and headers.
    SlotName, "a slot's name", 32);
name!(/// A policy, `gcra`.
    PolicyName, "a policy's name", 32);
name!(/// What a policy meters: `requests`, `tokens`, any other name.
    Unit, "a unit", 32);
name!(/// A service or operator key's public name, `gateway-eu`. The caller in idempotency scopes.
    KeyName, "a key's name", 32);

impl Unit {
    /// The unit that every check spends one of unless it says otherwise.
    pub fn requests() -> Self {
        Self(SmolStr::new_static("requests"))
    }

    /// The unit of a cost given as a bare number.
    pub fn tokens() -> Self {
        Self(SmolStr::new_static("tokens"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_outside_the_alphabet_is_refused_with_its_rule() {
        for bad in ["", "EU", "eu 1", "a-name-of-more-than-sixteen", "é"] {
            let error = CellName::new(bad).unwrap_err().to_string();
            assert!(error.contains("1 to 16"), "{error}");
        }
        assert_eq!(CellName::new("eu-1").unwrap().as_str(), "eu-1");
    }
}
