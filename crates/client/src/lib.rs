//! A client of Cellar's HTTP contract: for `cellctl`, traces, tests, and applications in Rust.

mod accounts;
mod admin;
mod batch;
mod error;
mod keys;
mod log_level;
mod probe;
mod quota;
mod sessions;
mod topology;
mod transport;
mod users;

pub use admin::{Admin, PolicyFloor, PolicyVersion, TierChange};
pub use batch::Item;
pub use error::{ClientError, ProblemBody};
pub use probe::{Instant, Probe};
pub use quota::{Consume, Decision};
pub use transport::{Client, Credential};
pub use users::UsersPage;
