//! Patches of preferences that wait for Postgres, in the quota Redis of their user's shard.
//!
//! They are written and dropped under the shard's fence, as commits are: an owner that was deposed writes
//! nothing. What they say is not looked at here.

use crate::error::StoreError;
use crate::store::redis::{FenceKey, RedisStore};
use cellar_model::{Fence, UserId};
use std::fmt;
use std::str::FromStr;

/// The place of a patch among all of a shard's, for good: the fence it was taken under, and its number there.
/// A fence is one life's of one process, so whoever counts up within that life never gives a number twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PatchSeq {
    pub fence: Fence,
    pub n: u64,
}

impl fmt::Display for PatchSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.fence.0, self.n)
    }
}

impl FromStr for PatchSeq {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (fence, n) = text.split_once('-').unwrap_or((text, ""));
        Ok(Self { fence: Fence(fence.parse()?), n: n.parse()? })
    }
}

/// One patch as Redis keeps it.
#[derive(Clone, PartialEq, Eq)]
pub struct KeptPatch {
    pub seq: PatchSeq,
    pub user: UserId,
    pub json: Vec<u8>,
}

/// Without what it says: that is the user's own.
impl fmt::Debug for KeptPatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeptPatch({} of {:?}, {} bytes)", self.seq, self.user, self.json.len())
    }
}

impl KeptPatch {
    /// The user, a line feed (no id has one), the patch.
    fn value(&self) -> Vec<u8> {
        [self.user.as_str().as_bytes(), b"\n", &self.json].concat()
    }

    fn read(field: &str, value: &[u8]) -> Option<Self> {
        let end = value.iter().position(|byte| *byte == b'\n')?;
        let user = UserId::new(std::str::from_utf8(&value[..end]).ok()?).ok()?;
        Some(Self { seq: field.parse().ok()?, user, json: value[end + 1..].to_vec() })
    }
}

/// A shard's Redis, as long as this process is the shard's writer there. Of one opening of the shard: its
/// successor has another.
pub struct ShardWriter {
    redis: RedisStore,
    key: FenceKey,
}

impl ShardWriter {
    pub(crate) fn new(redis: RedisStore, key: FenceKey) -> Self {
        Self { redis, key }
    }

    pub fn fence(&self) -> Fence {
        self.key.fence
    }

    /// Once this has returned, the patch is in the append-only file.
    ///
    /// # Errors
    /// `Fenced`, `Refused` and `OutOfMemory` have written nothing; `Unknown` may have.
    pub async fn keep_patch(&self, patch: &KeptPatch) -> Result<(), StoreError> {
        self.redis.clone().patches_script(&self.key, Some((patch.seq.to_string(), patch.value())), &[]).await
    }

    /// Drops patches that Postgres has.
    pub async fn drop_patches(&self, seqs: &[PatchSeq]) -> Result<(), StoreError> {
        let fields: Vec<String> = seqs.iter().map(PatchSeq::to_string).collect();
        self.redis.clone().patches_script(&self.key, None, &fields).await
    }

    /// All that wait, in order, whoever took them.
    pub async fn patches(&self) -> Result<Vec<KeptPatch>, StoreError> {
        let kept = self.redis.clone().patches().await?;
        let mut patches = Vec::with_capacity(kept.len());
        for (field, value) in kept {
            match KeptPatch::read(&field, &value) {
                Some(patch) => patches.push(patch),
                None => tracing::error!(field, "a patch of preferences that cannot be read is left where it is"),
            }
        }
        patches.sort_by_key(|patch| patch.seq);
        Ok(patches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_later_fence_comes_after_every_number_of_an_earlier_one() {
        let seq = |fence, n| PatchSeq { fence: Fence(fence), n };
        assert!(seq(2, u64::MAX) < seq(3, 0));
        assert!(seq(2, 9) < seq(2, 10));
        for text in ["", "1", "1-", "-1", "1-x", "1-2-3"] {
            assert!(text.parse::<PatchSeq>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_a_patch_says_is_not_printed() {
        let user = UserId::new("ada-lovelace").unwrap();
        let patch =
            KeptPatch { seq: PatchSeq { fence: Fence(1), n: 2 }, user, json: b"{\"secret\":\"diagnosis\"}".to_vec() };
        assert!(!format!("{patch:?}").contains("diagnosis"));
    }

    proptest! {
        #[test]
        fn a_patch_is_read_as_it_was_kept(
            fence in any::<u64>(), n in any::<u64>(), id in "[A-Za-z0-9_-]{1,64}", json in any::<Vec<u8>>(),
        ) {
            let patch = KeptPatch { seq: PatchSeq { fence: Fence(fence), n }, user: UserId::new(&id).unwrap(), json };
            prop_assert_eq!(KeptPatch::read(&patch.seq.to_string(), &patch.value()), Some(patch));
        }
    }
}
