//! Patches of preferences that Postgres does not have yet, as memory has them: what the quota Redis has of the
//! shards that this process serves, and what that may have lost since.

use cellar_model::{Fence, UserId};
use cellar_quota::{PatchSeq, ShardId};
use serde_json::{Map, Value};
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Patches of one user: someone who changes settings by hand makes a few.
pub(super) const USER_PATCHES_MAX: usize = 64;
/// Bytes of them: twice what preferences may hold.
pub(super) const USER_BYTES_MAX: usize = 128 * 1024;
/// Users of a shard with patches: a cell of 16 shards takes 65,536 users' through an outage.
pub(super) const SHARD_USERS_MAX: usize = 4_096;
/// Bytes of a shard's patches, which are read whole when it opens, and take memory from its records.
pub(super) const SHARD_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Of a patch besides what it says: its seq, its user, and what a field costs.
const PATCH_BYTES: usize = 192;
/// Patches that Redis drops in one call: other calls wait behind it.
const DROPPED_MAX: usize = 500;
/// Users share locks, so the memory is fixed: what waits for Postgres behind another user waits little longer.
const TURNS: usize = 1_024;

pub(super) struct Patch {
    pub(super) seq: PatchSeq,
    pub(super) change: Map<String, Value>,
    /// As Redis keeps it.
    pub(super) bytes: usize,
    /// When this process learned of it.
    pub(super) since: Instant,
}

/// Held while a user's preferences are written: patches of one user are in one order everywhere.
pub(super) type Turn<'a> = tokio::sync::MutexGuard<'a, ()>;

pub(super) struct Waiting {
    shards: Mutex<HashMap<ShardId, Shard>>,
    /// Of all shards: nearly always 0, and then nobody looks further.
    count: AtomicUsize,
    numbered: AtomicU64,
    turns: Box<[tokio::sync::Mutex<()>]>,
}

#[derive(Default)]
struct Shard {
    /// The opening under which Redis was read.
    loaded: Option<Fence>,
    users: HashMap<UserId, Vec<Arc<Patch>>>,
    /// Of `users`, and of patches on their way to Redis.
    bytes: usize,
    new_users: usize,
    /// Postgres has them, and Redis may still.
    applied: BTreeSet<PatchSeq>,
}

impl Waiting {
    pub(super) fn new() -> Self {
        Self {
            shards: Mutex::default(),
            count: AtomicUsize::new(0),
            numbered: AtomicU64::new(0),
            turns: (0..TURNS).map(|_| tokio::sync::Mutex::new(())).collect(),
        }
    }

    pub(super) async fn turn(&self, user: &UserId) -> Turn<'_> {
        // The remainder is below TURNS, the length.
        self.turns[(user.placement_key().point().0 % TURNS as u64) as usize].lock().await
    }

    /// The user's patches, in order.
    pub(super) fn of(&self, shard: ShardId, user: &UserId) -> Vec<Arc<Patch>> {
        if self.count() == 0 {
            return Vec::new();
        }
        self.lock().get(&shard).and_then(|shard| shard.users.get(user)).cloned().unwrap_or_default()
    }

    /// Everyone who has patches.
    pub(super) fn users(&self) -> Vec<UserId> {
        self.lock().values().flat_map(|shard| shard.users.keys().cloned()).collect()
    }

    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// For how long the oldest has waited here.
    pub(super) fn age(&self) -> Duration {
        let shards = self.lock();
        let firsts = shards.values().flat_map(|shard| shard.users.values()).filter_map(|patches| patches.first());
        firsts.map(|patch| patch.since.elapsed()).max().unwrap_or_default()
    }

    pub(super) fn is_loaded(&self, shard: ShardId, fence: Fence) -> bool {
        self.lock().get(&shard).is_some_and(|shard| shard.loaded == Some(fence))
    }

    /// Redis was read under `fence`, and had these.
    pub(super) fn loaded(&self, id: ShardId, fence: Fence, found: Vec<(UserId, Patch)>) {
        let mut shards = self.lock();
        let shard = shards.entry(id).or_default();
        for (user, patch) in found {
            if shard.applied.contains(&patch.seq) {
                continue;
            }
            let patches = shard.users.entry(user).or_default();
            if let Err(place) = patches.binary_search_by_key(&patch.seq, |held| held.seq) {
                shard.bytes += patch.bytes;
                patches.insert(place, Arc::new(patch));
                self.count.fetch_add(1, Ordering::SeqCst);
            }
        }
        shard.loaded = Some(fence);
    }

    /// A place for one more patch, and its number. None: there are as many as there may be. The user's turn is the
    /// caller's.
    pub(super) fn place(&self, shard: ShardId, user: &UserId, json: usize, _: &Turn<'_>) -> Option<Place<'_>> {
        let (bytes, mut shards) = (json + PATCH_BYTES, self.lock());
        let held = shards.entry(shard).or_default();
        let (patches, users) = (held.users.get(user), held.users.len() + held.new_users);
        let own: usize = patches.map_or(0, |patches| patches.iter().map(|patch| patch.bytes).sum());
        let full = patches.map_or(users >= SHARD_USERS_MAX, |patches| patches.len() >= USER_PATCHES_MAX)
            || own + bytes > USER_BYTES_MAX
            || held.bytes + bytes > SHARD_BYTES_MAX;
        if full {
            return None;
        }
        let is_new = patches.is_none();
        held.new_users += usize::from(is_new);
        held.bytes += bytes;
        let n = self.numbered.fetch_add(1, Ordering::SeqCst) + 1;
        Some(Place { waiting: self, shard, user: user.clone(), n, bytes, is_new, taken: false })
    }

    /// Postgres has the user's patches up to `last`, or will never have them.
    pub(super) fn applied(&self, id: ShardId, user: &UserId, last: PatchSeq) {
        let mut shards = self.lock();
        let Some(shard) = shards.get_mut(&id) else { return };
        let Some(patches) = shard.users.get_mut(user) else { return };
        let gone: Vec<Arc<Patch>> = patches.extract_if(.., |patch| patch.seq <= last).collect();
        if patches.is_empty() {
            shard.users.remove(user);
        }
        shard.bytes -= gone.iter().map(|patch| patch.bytes).sum::<usize>();
        self.count.fetch_sub(gone.len(), Ordering::SeqCst);
        shard.applied.extend(gone.iter().map(|patch| patch.seq));
    }

    /// What Redis need not have any more, or as much of it as goes into one call.
    pub(super) fn droppable(&self, shard: ShardId) -> Vec<PatchSeq> {
        let shards = self.lock();
        let applied = shards.get(&shard).into_iter().flat_map(|shard| &shard.applied);
        applied.take(DROPPED_MAX).copied().collect()
    }

    pub(super) fn shards_to_drop_from(&self) -> Vec<ShardId> {
        self.lock().iter().filter(|(_, shard)| !shard.applied.is_empty()).map(|(id, _)| *id).collect()
    }

    /// Redis has them no more, or is another owner's to look after.
    pub(super) fn dropped(&self, shard: ShardId, seqs: &[PatchSeq]) {
        if let Some(shard) = self.lock().get_mut(&shard) {
            for seq in seqs {
                shard.applied.remove(seq);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ShardId, Shard>> {
        // Nothing that holds it can panic half way.
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Kept for a patch on its way to Redis; free again when this is dropped without having been taken.
pub(super) struct Place<'a> {
    waiting: &'a Waiting,
    shard: ShardId,
    user: UserId,
    pub(super) n: u64,
    bytes: usize,
    is_new: bool,
    taken: bool,
}

impl Place<'_> {
    /// Redis has the patch: from here on reads show it.
    pub(super) fn take(mut self, fence: Fence, change: Map<String, Value>) -> Arc<Patch> {
        let seq = PatchSeq { fence, n: self.n };
        let patch = Arc::new(Patch { seq, change, bytes: self.bytes, since: Instant::now() });
        let mut shards = self.waiting.lock();
        let shard = shards.entry(self.shard).or_default();
        shard.new_users -= usize::from(self.is_new);
        shard.users.entry(self.user.clone()).or_default().push(patch.clone());
        self.waiting.count.fetch_add(1, Ordering::SeqCst);
        self.taken = true;
        patch
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.taken {
            return;
        }
        if let Some(shard) = self.waiting.lock().get_mut(&self.shard) {
            shard.new_users -= usize::from(self.is_new);
            shard.bytes -= self.bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SHARD: ShardId = ShardId(3);
    const FENCE: Fence = Fence(7);

    fn user(n: usize) -> UserId {
        UserId::new(&format!("user-{n}")).unwrap()
    }

    fn change(n: u64) -> Map<String, Value> {
        json!({"n": n}).as_object().cloned().unwrap()
    }

    fn found(fence: u64, n: u64) -> Patch {
        let seq = PatchSeq { fence: Fence(fence), n };
        Patch { seq, change: change(n), bytes: 200, since: Instant::now() }
    }

    async fn add(waiting: &Waiting, of: &UserId, bytes: usize) -> Option<PatchSeq> {
        let turn = waiting.turn(of).await;
        let place = waiting.place(SHARD, of, bytes, &turn)?;
        let n = place.n;
        Some(place.take(FENCE, change(n)).seq)
    }

    #[tokio::test]
    async fn patches_stay_in_order_until_postgres_has_them() {
        let (waiting, ada) = (Waiting::new(), user(1));
        let seqs = [add(&waiting, &ada, 9).await.unwrap(), add(&waiting, &ada, 9).await.unwrap()];
        add(&waiting, &user(2), 9).await.unwrap();
        let of = || waiting.of(SHARD, &ada).iter().map(|patch| patch.seq).collect::<Vec<_>>();
        assert_eq!(of(), seqs);
        waiting.applied(SHARD, &ada, seqs[0]);
        assert_eq!((of(), waiting.count()), (seqs[1..].to_vec(), 2));
        assert_eq!(waiting.droppable(SHARD), seqs[..1]);
        waiting.applied(SHARD, &ada, seqs[1]);
        waiting.dropped(SHARD, &seqs);
        assert_eq!((of(), waiting.count(), waiting.droppable(SHARD)), (vec![], 1, vec![]));
        assert_eq!(waiting.users(), [user(2)]);
    }

    #[tokio::test]
    async fn what_redis_has_comes_before_what_is_taken_later_and_nothing_twice() {
        let (waiting, ada) = (Waiting::new(), user(1));
        assert!(!waiting.is_loaded(SHARD, FENCE));
        let own = add(&waiting, &ada, 9).await.unwrap();
        // Of an earlier life; and its own, which Redis has as well.
        let earlier = [found(6, 9), found(6, 2), found(FENCE.0, own.n)].map(|patch| (ada.clone(), patch));
        waiting.loaded(SHARD, FENCE, earlier.into());
        let order: Vec<_> = waiting.of(SHARD, &ada).iter().map(|patch| (patch.seq.fence.0, patch.seq.n)).collect();
        assert_eq!(order, [(6, 2), (6, 9), (FENCE.0, own.n)]);
        assert!(waiting.is_loaded(SHARD, FENCE) && !waiting.is_loaded(SHARD, Fence(8)));
        // Applied, and not dropped yet: Redis being read again brings none back.
        waiting.applied(SHARD, &ada, own);
        waiting.loaded(SHARD, Fence(8), vec![(ada.clone(), found(6, 9))]);
        assert_eq!(waiting.count(), 0);
    }

    #[tokio::test]
    async fn a_user_and_a_shard_have_so_many_places_and_no_more() {
        let (waiting, ada) = (Waiting::new(), user(1));
        for _ in 0..USER_PATCHES_MAX {
            add(&waiting, &ada, 9).await.unwrap();
        }
        assert!(add(&waiting, &ada, 9).await.is_none(), "patches of a user");
        assert!(add(&waiting, &user(2), USER_BYTES_MAX).await.is_none(), "bytes of a user");
        for n in 2..=SHARD_USERS_MAX {
            add(&waiting, &user(n), 9).await.unwrap();
        }
        assert!(add(&waiting, &user(0), 9).await.is_none(), "users of a shard");
        assert!(add(&waiting, &user(2), 9).await.is_some(), "who is in has places left");
        waiting.applied(SHARD, &ada, PatchSeq { fence: FENCE, n: u64::MAX });
        assert!(add(&waiting, &user(0), 9).await.is_some(), "a place is free again");
    }

    #[tokio::test]
    async fn the_bytes_of_a_shard_are_bounded_and_a_place_not_taken_is_free_again() {
        let (waiting, each) = (Waiting::new(), USER_BYTES_MAX - PATCH_BYTES);
        let room = SHARD_BYTES_MAX / USER_BYTES_MAX;
        for n in 1..room {
            add(&waiting, &user(n), each).await.unwrap();
        }
        let (last, other) = (user(room), user(room + 1));
        let turn = waiting.turn(&last).await;
        let place = waiting.place(SHARD, &last, each, &turn).unwrap();
        drop(turn);
        assert!(add(&waiting, &other, each).await.is_none());
        drop(place);
        assert!(add(&waiting, &other, each).await.is_some());
    }
}
