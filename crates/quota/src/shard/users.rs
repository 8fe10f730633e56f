//! Which records a shard has in memory, and who is waiting for whose.

use crate::record::Record;
use crate::shard::Ask;
use cellar_model::UserId;
use lru::LruCache;
use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;

/// **Invariant:** a user is idle (his record is here, no call is under way), busy (a call or a load
/// has his record or fetches it; his further checks wait here), or unknown. Never two of these, so a
/// user is in one call at most.
pub(super) struct Users {
    idle: LruCache<UserId, Record>,
    busy: HashMap<UserId, VecDeque<Ask>>,
}

impl Users {
    pub(super) fn new(max: usize) -> Self {
        let max = NonZeroUsize::new(max).unwrap_or(NonZeroUsize::MIN);
        Self { idle: LruCache::new(max), busy: HashMap::new() }
    }

    pub(super) fn waiting(&mut self, user: &UserId) -> Option<&mut VecDeque<Ask>> {
        self.busy.get_mut(user)
    }

    /// Marks `user` busy and hands out his record, if it is in memory.
    pub(super) fn take(&mut self, user: &UserId) -> Option<Record> {
        self.busy.entry(user.clone()).or_default();
        self.idle.pop(user)
    }

    /// The call or load is over. Keeps the record it left, and returns those who waited.
    pub(super) fn release(&mut self, user: &UserId, record: Option<Record>) -> VecDeque<Ask> {
        if let Some(record) = record {
            self.idle.push(user.clone(), record);
        }
        self.busy.remove(user).unwrap_or_default()
    }

    pub(super) fn in_memory(&self) -> usize {
        self.idle.len()
    }
}
