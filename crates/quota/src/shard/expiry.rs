//! Records that Postgres holds get an expiry in Redis, and the stream loses what is drained. Both are
//! gathered for a second: every commit takes a record's expiry away again, and a busy user's is worth
//! setting once, not after each of his drains.

use super::Shard;
use super::serve::Serving;
use super::turn::OpenStore;
use crate::error::StoreError;
use crate::record::Head;
use crate::tail::TailBatch;
use cellar_model::{Seq, UserId};
use std::collections::HashMap;
use std::sync::Arc;

/// Records that Postgres holds live on in Redis for this long, a little more than the longest period
/// most tiers count by. One that expires is read from Postgres again.
const RECORD_TTL_S: u32 = 32 * 86_400;
/// Above this many records the second is not waited for.
const HEADS_MAX: usize = 8_192;
/// Records of one script call: Redis serves nobody else meanwhile.
const CALL_RECORDS: usize = 1_000;

/// What has been drained and not been tidied away yet.
///
/// **Invariant:** a record without an expiry has an entry in the stream, drained or not: the stream is
/// trimmed after the expiries are set. So the next turn learns from it what this one left undone.
#[derive(Default)]
pub(super) struct Expiring {
    heads: HashMap<UserId, Head>,
    /// The last seq of this fence that Postgres holds; none: all of earlier fences.
    drained: Option<Seq>,
}

impl Expiring {
    /// Postgres holds these heads, left by a turn.
    pub(super) fn left(heads: HashMap<UserId, Head>) -> Self {
        Self { heads, drained: None }
    }

    fn drained(&mut self, batches: &[Arc<TailBatch>]) {
        for (user, head, _) in batches.iter().flat_map(|batch| &batch.records) {
            match self.heads.get_mut(user) {
                Some(held) => *held = (*held).max(*head),
                None => _ = self.heads.insert(user.clone(), *head),
            }
        }
        self.drained = batches.last().map(|batch| batch.seq).max(self.drained);
    }

    fn take(&mut self) -> (Vec<(UserId, Head)>, Option<Seq>) {
        (self.heads.drain().collect(), self.drained)
    }
}

impl Shard {
    pub(super) fn mark_drained(&mut self, serving: &mut Serving, batches: &[Arc<TailBatch>]) {
        serving.expiring.drained(batches);
        if serving.expiring.heads.len() >= HEADS_MAX {
            self.start_expiry(serving);
        }
    }

    /// Sets the expiries that are due and trims the stream, unless that is under way.
    pub(super) fn start_expiry(&mut self, serving: &mut Serving) {
        if serving.expiring.heads.is_empty() || serving.expiry.is_some() {
            return;
        }
        let OpenStore::Redis { redis, key, .. } = &serving.open.store else { return };
        let (mut redis, key) = (redis.clone(), key.clone());
        let (heads, drained) = serving.expiring.take();
        serving.expiry = Some(Box::pin(async move {
            let mut calls = heads.chunks(CALL_RECORDS).peekable();
            while let Some(heads) = calls.next() {
                let trim = calls.peek().is_none();
                redis.drained(&key, trim.then_some(drained), RECORD_TTL_S, heads).await?;
            }
            Ok(())
        }));
    }

    /// `Some`: a turn is due. It finds what was left undone in the stream.
    pub(super) fn finish_expiry(&self, serving: &mut Serving, result: Result<(), StoreError>) -> Option<&'static str> {
        serving.expiry = None;
        let error = result.err()?;
        tracing::warn!(shard = %self.parts.id, error = &error as &dyn std::error::Error, "expiries are not set");
        match error {
            StoreError::Fenced => Some("fenced"),
            StoreError::Unknown { .. } => Some("unanswered"),
            _ => Some("redis"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellar_model::{Epoch, Fence, Version};

    #[test]
    fn of_each_user_the_newest_head_waits() {
        let user = UserId::new("u").unwrap();
        let head = |version| Head { fence: Fence(1), epoch: Epoch(1), version: Version(version) };
        let batch = |seq, version| {
            Arc::new(TailBatch {
                seq: Seq(seq),
                entries: Vec::new(),
                records: vec![(user.clone(), head(version), Vec::new())],
            })
        };
        let mut expiring = Expiring::default();
        expiring.drained(&[batch(0, 1), batch(1, 2)]);
        expiring.drained(&[batch(2, 3)]);
        assert_eq!(expiring.take(), (vec![(user.clone(), head(3))], Some(Seq(2))));
        assert!(expiring.take().0.is_empty());
    }
}
