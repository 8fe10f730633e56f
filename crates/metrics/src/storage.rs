//! The disk that a process writes to.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use std::path::{Path, PathBuf};
use std::{fmt, io};

/// How much room the file system of a folder has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskRoom {
    pub free_bytes: u64,
    pub size_bytes: u64,
}

impl DiskRoom {
    pub fn of(folder: &Path) -> io::Result<Self> {
        let stat = rustix::fs::statvfs(folder)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        Ok(Self { free_bytes: bytes(stat.f_bavail), size_bytes: bytes(stat.f_blocks) })
    }
}

/// Adds `cellar_disk_free_bytes` of the file system that has `folder`.
pub fn register(registry: &mut Registry, folder: PathBuf) {
    registry.register_collector(Box::new(Disk(folder)));
}

#[derive(Debug)]
struct Disk(PathBuf);

impl Collector for Disk {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // A folder that is gone has no room: that is what whoever looks has to see.
        let free = DiskRoom::of(&self.0).map_or(0, |room| room.free_bytes);
        let help = "What may still be written to the file system of data_dir; 0 too if it cannot be asked.";
        let mut gauge = encoder.encode_descriptor("cellar_disk_free", help, Some(&Unit::Bytes), MetricType::Gauge)?;
        gauge.encode_gauge(&free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_of_a_folder_is_that_of_its_disk() {
        let room = DiskRoom::of(Path::new("/")).unwrap();
        assert!(room.size_bytes >= room.free_bytes && room.size_bytes > 0);
        assert!(DiskRoom::of(Path::new("/nowhere/at/all")).is_err());
    }
}
