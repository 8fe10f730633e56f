//! One whole cell in a container, for tests in Rust:
//!
//! ```no_run
//! # async fn test() -> Result<(), testcontainers::TestcontainersError> {
//! let cell = cellar_testcontainers::Cell::default().user("ada@example.org", "pro").start().await?;
//! println!("{} {}", cell.url(), cell.service_key());
//! # Ok(())
//! # }
//! ```
//!
//! It needs a Docker engine and the image `cellar-cell-dev`, which `make images` of the project makes. The container
//! is gone, with all it held, when the value is dropped. It speaks without TLS.

mod cell;
mod running;

pub use cell::Cell;
pub use running::RunningCell;
