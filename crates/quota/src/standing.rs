//! What the rest of the cell may know of a shard: whether this process serves it, and whether it may answer
//! for its users without a commit.
//!
//! A commit is checked by the store that takes it. A profile or a session is not: it leaves only within a
//! second after a store was asked, and said that this process still is the shard's writer. So a new owner
//! knows when nobody reads for the old one any more.

use crate::clock::boot_clock;
use crate::patches::ShardWriter;
use cellar_model::Fence;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// For so long after a store was asked, and confirmed the fence, may answers leave without a commit.
pub(crate) const READING_LEASE: Duration = Duration::from_secs(1);
/// A new owner waits that much longer: the clocks of two machines run at different speeds.
pub(crate) const LEASE_MARGIN: Duration = Duration::from_millis(50);

/// Where a user's shard is instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotHere {
    OtherInstance(Arc<str>),
    /// It is here, and no store says so just now.
    Unconfirmed,
}

#[derive(Clone, Copy, Default)]
struct State {
    fence: Fence,
    open: bool,
    /// Boot time at which the question was sent that last confirmed the fence.
    confirmed: Duration,
    /// Boot time from which no earlier owner answers without a commit any more.
    from: Duration,
}

/// One shard's, shared between its loop and who asks.
#[derive(Default)]
pub(crate) struct Standing {
    state: Mutex<State>,
    /// While the shard is open on Redis.
    writer: Mutex<Option<Arc<ShardWriter>>>,
    visitors: AtomicU32,
}

impl Standing {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that holds it can panic half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn open(&self, fence: Fence, confirmed: Duration, from: Duration) {
        *self.state() = State { fence, open: true, confirmed, from };
    }

    /// No more visitors. Those who are in may end within their lease.
    pub(crate) fn close(&self) {
        self.set_writer(None);
        self.state().open = false;
    }

    /// Before the shard opens: who is let in finds what it needs.
    pub(crate) fn set_writer(&self, writer: Option<ShardWriter>) {
        *self.writer.lock().unwrap_or_else(PoisonError::into_inner) = writer.map(Arc::new);
    }

    pub(crate) fn writer(&self) -> Option<Arc<ShardWriter>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the shard has been open in this life of the process.
    pub(crate) fn has_opened(&self) -> bool {
        self.state().fence > Fence::default()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state().open
    }

    /// A store has answered with `fence` to what was asked at `asked`.
    pub(crate) fn confirm(&self, fence: Fence, asked: Duration) {
        let mut state = self.state();
        if state.fence == fence {
            state.confirmed = state.confirmed.max(asked);
        }
    }

    /// The owner before `fence` has said that it answers nobody any more.
    pub(crate) fn predecessor_stopped(&self, fence: Fence) {
        let mut state = self.state();
        if state.fence == fence {
            state.from = Duration::ZERO;
        }
    }

    pub(crate) fn has_visitors(&self) -> bool {
        self.visitors.load(Ordering::SeqCst) > 0
    }

    /// A visit, if this process serves the shard and may say so now.
    pub(crate) fn visit(self: &Arc<Self>) -> Option<Visit> {
        // Counted before it is looked: who closes the shard either sees the visitor or is seen.
        self.visitors.fetch_add(1, Ordering::SeqCst);
        let visit = Visit { standing: self.clone(), fence: self.state().fence };
        let (state, now) = (*self.state(), boot_clock());
        (state.open && now >= state.from && visit.holds()).then_some(visit)
    }
}

/// A request that is answered without a commit. While it lasts, the shard's next owner waits, within
/// bounds.
pub struct Visit {
    standing: Arc<Standing>,
    fence: Fence,
}

impl Visit {
    pub fn fence(&self) -> Fence {
        self.fence
    }

    /// Whether the answer may leave now.
    pub fn holds(&self) -> bool {
        let state = *self.standing.state();
        state.fence == self.fence && boot_clock().saturating_sub(state.confirmed) <= READING_LEASE
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.standing.visitors.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_leaves_only_within_a_second_after_the_fence_was_confirmed() {
        let standing = Arc::new(Standing::default());
        assert!(standing.visit().is_none(), "never opened");
        standing.open(Fence(2), boot_clock(), Duration::ZERO);
        let visit = standing.visit().unwrap();
        assert!(visit.holds() && standing.has_visitors());
        standing.close();
        assert!(standing.visit().is_none(), "closed");
        assert!(visit.holds(), "who is in may end");
        standing.open(Fence(4), boot_clock(), Duration::ZERO);
        assert!(!visit.holds(), "another was the writer in between");
        drop(visit);
        standing.open(Fence(4), boot_clock().saturating_sub(READING_LEASE * 2), Duration::ZERO);
        assert!(standing.visit().is_none(), "confirmed too long ago");
        standing.confirm(Fence(3), boot_clock());
        assert!(standing.visit().is_none(), "another fence's confirmation");
        standing.confirm(Fence(4), boot_clock());
        assert!(standing.visit().is_some());
    }

    #[test]
    fn a_new_owner_waits_for_the_old_ones_lease_or_its_word() {
        let standing = Arc::new(Standing::default());
        standing.open(Fence(2), boot_clock(), boot_clock() + READING_LEASE);
        assert!(standing.visit().is_none());
        standing.predecessor_stopped(Fence(2));
        assert!(standing.visit().is_some());
        assert!(!standing.has_visitors());
    }
}
