//! What everything that counts has in common: label sets that cannot grow without end, ages, latencies with
//! exemplars, the figures of the process itself, and the page that is scraped.

mod age;
mod bounded;
mod exposition;
mod latency;
mod pools;
mod process;
mod storage;

pub use age::Age;
pub use bounded::{BoundedFamily, LABEL_BYTES_MAX, LabelOverflow, OTHER};
pub use exposition::{CONTENT_TYPE, Exposition};
pub use latency::{LATENCY_BOUNDS_S, Latency, TraceLabel, latency};
pub use pools::{Pools, Use};
pub use process::register as register_process;
pub use storage::{DiskRoom, register as register_storage};
