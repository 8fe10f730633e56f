//! Who is asked about, and where on the ring that is.

use crate::RegionName;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use std::fmt::{self, Write};
use xxhash_rust::xxh3::xxh3_64;

/// A user, named once and never renamed.
///
/// **Invariant:** 1–64 characters of `[A-Za-z0-9_-]`. `PlacementKey::point` depends on exactly these
/// bytes: routers on different machines and builds must agree on it, so `std::hash::Hash` is not an
/// option.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "SmolStr", into = "SmolStr")]
pub struct UserId(SmolStr);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a user id must be 1 to 64 characters of [A-Za-z0-9_-]")]
pub struct UserIdError;

impl UserId {
    pub fn new(id: &str) -> Result<Self, UserIdError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if id.is_empty() || id.len() > 64 || !id.bytes().all(plain) {
            return Err(UserIdError);
        }
        Ok(Self(SmolStr::new(id)))
    }

    /// What may be shown of it.
    pub fn tail(&self) -> UserTail {
        let mut tail = [0; UserTail::LEN];
        for (room, byte) in tail.iter_mut().rev().zip(self.0.bytes().rev()) {
            *room = byte;
        }
        UserTail(tail)
    }

    /// Mints `<region>_<128 bits, base32>`. Given a UUID v7, ids sort by the time of sign-up, which
    /// keeps the newest users together in the primary keys of Postgres.
    pub fn mint(region: &RegionName, unique: u128) -> Self {
        let encoded = base32::encode(base32::Alphabet::Rfc4648HexLower { padding: false }, &unique.to_be_bytes());
        Self(SmolStr::from(format!("{region}_{encoded}")))
    }

    /// The region that minted this id, if it has the form of a minted one.
    pub fn minted_by(&self) -> Option<RegionName> {
        let (region, rest) = self.0.split_once('_')?;
        (rest.len() == 26).then(|| RegionName::new(region).ok()).flatten()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What ring and shard hash. The id itself, until members of an organisation share a cell.
    pub fn placement_key(&self) -> PlacementKey<'_> {
        PlacementKey(&self.0)
    }
}

impl TryFrom<SmolStr> for UserId {
    type Error = UserIdError;
    fn try_from(id: SmolStr) -> Result<Self, UserIdError> {
        Self::new(&id)
    }
}

impl std::str::FromStr for UserId {
    type Err = UserIdError;
    fn from_str(id: &str) -> Result<Self, UserIdError> {
        Self::new(id)
    }
}

impl From<UserId> for SmolStr {
    fn from(id: UserId) -> SmolStr {
        id.0
    }
}

/// Prints the last eight characters: enough to join log lines, too little to be the user's key.
/// (The first ones of a minted id are region and clock, the same for all who sign up that minute.)
impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.tail(), f)
    }
}

/// As much of a user's id as operators are shown and logs have: its last characters.
///
/// **Invariant:** plain characters, as a [`UserId`] has no others; of a shorter id zeros in front.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct UserTail([u8; UserTail::LEN]);

impl UserTail {
    const LEN: usize = 8;
}

impl fmt::Display for UserTail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("user:…")?;
        self.0.iter().filter(|byte| **byte != 0).try_for_each(|byte| f.write_char(char::from(*byte)))
    }
}

/// The bytes that decide a user's place on the ring and shard in the cell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PlacementKey<'a>(&'a str);

impl<'a> PlacementKey<'a> {
    pub fn new(key: &'a str) -> Self {
        Self(key)
    }

    pub fn as_str(self) -> &'a str {
        self.0
    }

    pub fn point(self) -> Point {
        Point(xxh3_64(self.0.as_bytes()))
    }
}

/// A place on the ring: xxh3-64 of the placement key's bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Point(pub u64);

impl Point {
    /// The shard of a cell with `shards` shards. `shards` is fixed when the cell is made.
    pub fn shard(self, shards: u16) -> u16 {
        // The remainder is below `shards`, which is a u16.
        (self.0 % u64::from(shards.max(1))) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_the_last_eight_characters_only() {
        let id = UserId::new("eu_0123456789abcdefghijklmnop").unwrap();
        assert_eq!(format!("{id:?}"), "user:…ijklmnop");
    }

    #[test]
    fn a_minted_id_names_its_region_and_a_foreign_one_none() {
        let eu = RegionName::new("eu").unwrap();
        assert_eq!(UserId::mint(&eu, u128::MAX).minted_by(), Some(eu));
        assert_eq!(UserId::new("alice_b").unwrap().minted_by(), None);
    }

    #[test]
    fn minted_ids_sort_by_their_number() {
        let eu = RegionName::new("eu").unwrap();
        assert!(UserId::mint(&eu, 5) < UserId::mint(&eu, 6));
        assert!(UserId::mint(&eu, 31) < UserId::mint(&eu, 1 << 100));
    }
}
