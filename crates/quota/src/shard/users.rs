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
    /// Checks of all the busy.
    waiting: usize,
}

/// Checks of one user that may wait while a call of his is in flight.
const USER_WAITING_MAX: usize = 1_024;
/// Checks that may wait for calls and loads in a shard.
const WAITING_MAX: usize = 8_192;

impl Users {
    pub(super) fn new(max: usize) -> Self {
        let max = NonZeroUsize::new(max).unwrap_or(NonZeroUsize::MIN);
        Self { idle: LruCache::new(max), busy: HashMap::new(), waiting: 0 }
    }

    pub(super) fn is_busy(&self, user: &UserId) -> bool {
        self.busy.contains_key(user)
    }

    /// Puts `ask` behind what its user is busy with. Back comes one that is too many, or whose user is idle.
    pub(super) fn wait(&mut self, mut ask: Ask) -> Option<Ask> {
        // What it waits for may commit its key: the ledger is asked again.
        ask.looked_up = false;
        match self.busy.get_mut(&ask.check.user) {
            Some(waiting) if waiting.len() < USER_WAITING_MAX && self.waiting < WAITING_MAX => {
                waiting.push_back(ask);
                self.waiting += 1;
                None
            }
            _ => Some(ask),
        }
    }

    /// Those who wait for `user`, in their order.
    pub(super) fn waiting_for(&mut self, user: &UserId) -> impl Iterator<Item = &mut Ask> {
        self.busy.get_mut(user).into_iter().flatten()
    }

    /// What the last commit of an idle user left.
    pub(super) fn peek(&self, user: &UserId) -> Option<&Record> {
        self.idle.peek(user)
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
        let waited = self.busy.remove(user).unwrap_or_default();
        self.waiting -= waited.len();
        waited
    }

    /// All who wait, of whomever; nobody is busy any more.
    pub(super) fn take_waiting(&mut self) -> Vec<Ask> {
        self.waiting = 0;
        std::mem::take(&mut self.busy).into_values().flatten().collect()
    }

    pub(super) fn in_memory(&self) -> usize {
        self.idle.len()
    }
}
