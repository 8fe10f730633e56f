//! The version of a policy: three numbers.

use serde::{Deserialize, Serialize};
use std::fmt;

/// `1.4.2`. One version has one spelling, which is what is signed: no zeros before a number, no sign.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VersionNumber([u32; 3]);

/// Why a version was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a version is three numbers, 1.4.2")]
pub struct VersionNumberError;

impl VersionNumber {
    pub const fn new(major: u32, minor: u32, patch: u32) -> Self {
        Self([major, minor, patch])
    }

    pub fn major(self) -> u32 {
        self.0[0]
    }
}

impl std::str::FromStr for VersionNumber {
    type Err = VersionNumberError;
    fn from_str(text: &str) -> Result<Self, VersionNumberError> {
        let mut parts = text.split('.').map(|part| part.parse().ok());
        let mut next = || parts.next().flatten().ok_or(VersionNumberError);
        let number = Self([next()?, next()?, next()?]);
        if number.to_string() == text { Ok(number) } else { Err(VersionNumberError) }
    }
}

impl TryFrom<String> for VersionNumber {
    type Error = VersionNumberError;
    fn try_from(text: String) -> Result<Self, VersionNumberError> {
        text.parse()
    }
}

impl From<VersionNumber> for String {
    fn from(number: VersionNumber) -> String {
        number.to_string()
    }
}

impl fmt::Display for VersionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(f, "{major}.{minor}.{patch}")
    }
}

impl fmt::Debug for VersionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_version_has_one_spelling() {
        for odd in ["", "1", "1.4", "1.4.2.0", "1.4.x", "1.4.-2", "+1.4.2", "01.4.2", "1.4.2 ", "1.4.99999999999"] {
            assert_eq!(odd.parse::<VersionNumber>(), Err(VersionNumberError), "{odd}");
        }
        let parse = |text: &str| text.parse::<VersionNumber>().unwrap();
        assert!(parse("1.9.0") < parse("1.10.0") && parse("1.10.0") < parse("2.0.0"));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(major: u32, minor: u32, patch: u32) {
            let number = VersionNumber::new(major, minor, patch);
            prop_assert_eq!(number.to_string().parse(), Ok(number));
        }
    }
}
