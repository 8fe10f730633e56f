//! How much room the file system of the data folder has.

use crate::conditions::Seen;
use std::io;
use std::path::Path;

/// Below a hundredth of the disk it counts as full …
const FULL_SHARE: u64 = 100;
/// … but never with less than this left: a copy of the catalog with its artifacts, and the journal, need some of it.
const FREE_MIN_BYTES: u64 = 16 << 20;
/// … and always with more: a hundredth of a large disk is room for days.
const FREE_ENOUGH_BYTES: u64 = 1 << 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskRoom {
    pub free_bytes: u64,
    pub size_bytes: u64,
}

impl DiskRoom {
    /// Of the file system that `folder` is on.
    pub fn of(folder: &Path) -> io::Result<Self> {
        let stat = rustix::fs::statvfs(folder)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Self { free_bytes: bytes(stat.f_bavail), size_bytes: bytes(stat.f_blocks) })
    }

    /// Whether what has to be written down may soon find no room.
    pub fn seen(self) -> Option<Seen> {
        let enough = (self.size_bytes / FULL_SHARE).clamp(FREE_MIN_BYTES, FREE_ENOUGH_BYTES);
        let [free, of] = [self.free_bytes, self.size_bytes].map(|bytes| bytes >> 20);
        (self.free_bytes < enough).then(|| Seen {
            what: format!("the disk of the data folder has {free} MiB left of {of}: less than {} MiB", enough >> 20),
            failing: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_full_before_nothing_is_left_and_not_while_there_is_room_for_days() {
        let full = |free: u64, size: u64| DiskRoom { free_bytes: free << 20, size_bytes: size << 20 }.seen().is_some();
        assert!(full(0, 100) && full(15, 100) && !full(16, 100));
        assert!(full(99, 10_000) && !full(100, 10_000));
        assert!(!full(1024, 10_000_000), "a GiB is enough of any disk");
    }

    #[test]
    fn the_room_of_a_folder_is_that_of_its_disk() {
        let folder = tempfile::tempdir().unwrap();
        let room = DiskRoom::of(folder.path()).unwrap();
        assert!(room.size_bytes >= room.free_bytes && room.size_bytes > 0);
        assert!(DiskRoom::of(Path::new("/nowhere/at/all")).is_err());
    }
}
