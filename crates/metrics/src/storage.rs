//! The disk that a process writes to.

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;
use std::path::PathBuf;

/// Adds `cellar_disk_free_bytes` of the file system that has `folder`.
pub fn register(registry: &mut Registry, folder: PathBuf) {
    registry.register_collector(Box::new(Disk(folder)));
}

#[derive(Debug)]
struct Disk(PathBuf);

impl Collector for Disk {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // A folder that is gone has no room: that is what whoever looks has to see.
        let free = rustix::fs::statvfs(&self.0).map_or(0, |of| of.f_bavail.saturating_mul(of.f_frsize));
        let help = "What may still be written to the file system of data_dir; 0 too if it cannot be asked.";
        let mut gauge = encoder.encode_descriptor("cellar_disk_free", help, Some(&Unit::Bytes), MetricType::Gauge)?;
        gauge.encode_gauge(&free)
    }
}
