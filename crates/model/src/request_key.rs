//! Which request a check belongs to, in a form that every check can carry.

use xxhash_rust::xxh3::xxh3_128;

/// 128 bits of the request's id (`Cellar-Request-Id`): as long as an id may be, a check stays as small. All zero: the
/// request had none.
///
/// It finds a decision again and decides nothing: two ids that meet are two requests explained together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RequestKey([u8; 16]);

impl RequestKey {
    pub const NONE: RequestKey = RequestKey([0; 16]);
    pub const BYTES: usize = 16;

    pub fn of(id: &[u8]) -> Self {
        if id.is_empty() { Self::NONE } else { Self(xxh3_128(id).to_be_bytes()) }
    }

    pub fn is_some(self) -> bool {
        self != Self::NONE
    }

    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// Those that stand behind a call's list of checks, one a check: none at all unless there are exactly so many. A
    /// router of an earlier build sends none, and a cell of one does not read them.
    pub fn read_all(bytes: &[u8], checks: usize) -> Option<impl Iterator<Item = RequestKey>> {
        (bytes.len() == checks * Self::BYTES).then(|| bytes.as_chunks::<16>().0.iter().map(|bytes| RequestKey(*bytes)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_were_written_and_only_if_each_check_has_one() {
        let keys = [RequestKey::of(b"r-1"), RequestKey::NONE, RequestKey::of(b"r-2")];
        let bytes: Vec<u8> = keys.iter().flat_map(|key| key.to_bytes()).collect();
        let read: Vec<_> = RequestKey::read_all(&bytes, 3).unwrap().collect();
        assert_eq!(read, keys);
        assert!(RequestKey::read_all(&bytes, 2).is_none() && RequestKey::read_all(&[], 1).is_none());
        assert!(keys[0].is_some() && !RequestKey::of(b"").is_some());
    }
}
