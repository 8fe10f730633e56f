//! One at a time for each user.

use cellar_model::UserId;
use tokio::sync::{Mutex, MutexGuard};

/// Users share lanes, so the memory is fixed; two of one lane wait for each other for no reason.
const LANES: usize = 256;

/// What reads a row and then tells another store of it: in one lane, what is told last is what was read last.
pub(super) struct Lanes(Box<[Mutex<()>]>);

impl Lanes {
    pub(super) fn new() -> Self {
        Self((0..LANES).map(|_| Mutex::new(())).collect())
    }

    pub(super) async fn enter(&self, user: &UserId) -> MutexGuard<'_, ()> {
        // The remainder is below LANES, the length.
        self.0[(user.placement_key().point().0 % LANES as u64) as usize].lock().await
    }
}
