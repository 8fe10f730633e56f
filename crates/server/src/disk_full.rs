//! When a disk counts as full.

use crate::conditions::Seen;
use cellar_metrics::DiskRoom;
use std::path::Path;

/// Below a hundredth of the disk it counts as full …
const FULL_SHARE: u64 = 100;
/// … but never with less than this left: a copy of the catalog with its artifacts, and the journal, need some of it.
const FREE_MIN_BYTES: u64 = 16 << 20;
/// … and always with more: a hundredth of a large disk is room for days.
const FREE_ENOUGH_BYTES: u64 = 1 << 30;

/// Whether what has to be written down in `folder` may soon find no room.
pub fn disk_full(folder: &Path) -> Option<Seen> {
    DiskRoom::of(folder).ok().and_then(full)
}

fn full(room: DiskRoom) -> Option<Seen> {
    let enough = (room.size_bytes / FULL_SHARE).clamp(FREE_MIN_BYTES, FREE_ENOUGH_BYTES);
    let [free, of] = [room.free_bytes, room.size_bytes].map(|bytes| bytes >> 20);
    (room.free_bytes < enough).then(|| Seen {
        what: format!("the disk of the data folder has {free} MiB left of {of}: less than {} MiB", enough >> 20),
        failing: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_full_before_nothing_is_left_and_not_while_there_is_room_for_days() {
        let full = |free: u64, size: u64| full(DiskRoom { free_bytes: free << 20, size_bytes: size << 20 }).is_some();
        assert!(full(0, 100) && full(15, 100) && !full(16, 100));
        assert!(full(99, 10_000) && !full(100, 10_000));
        assert!(!full(1024, 10_000_000), "a GiB is enough of any disk");
    }
}
