//! What every process of ours says of itself.

use cellar_metrics::LabelOverflow;
use prometheus_client::registry::Registry;
use std::path::Path;

/// Adds what was built, the process's own figures, and the room on the disk that has `data_dir`. Families whose labels
/// others choose need what is returned.
pub fn register_process(registry: &mut Registry, data_dir: &Path) -> LabelOverflow {
    cellar_metrics::register_process(registry, env!("CARGO_PKG_VERSION"));
    cellar_metrics::register_storage(registry, data_dir.to_owned());
    LabelOverflow::register(registry)
}
