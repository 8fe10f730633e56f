//! Real servers and services on this machine, for local stacks and for tests.
//!
//! It starts built binaries and uses no other crate of the project, so that whatever it proves it
//! proves of the programs as they ship.

mod cassandra;
mod cell;
mod cellctl;
mod change;
mod config;
mod containers;
mod error;
mod folders;
mod laid_down;
mod observe;
mod plan;
mod ports;
mod postgres;
mod process;
mod quota;
mod ready;
mod recovery;
mod redis;
mod snapshots;
mod stack;
mod start;
mod state;
mod world;

pub use cassandra::Cassandra;
pub use cell::{Cell, CellBuilder, cell};
pub use cellctl::Cellctl;
pub use change::{Change, Difference};
pub use error::StackError;
pub use folders::{Folders, temporary_folder};
pub use observe::Observing;
pub use postgres::Postgres;
pub use process::{Gently, Identity, Launch, Tether};
pub use quota::QuotaRedis;
pub use ready::Ready;
pub use recovery::{APPEND_ONLY, CellCopies, Recovery, Until, base_backup, postgres_major, redis_version, run_cell};
pub use redis::Redis;
pub use snapshots::Snapshot;
pub use stack::{Bootstrap, Keys, Stack};
pub use state::{ProcessEntry, RegionEntry, Role, StackState};
pub use world::{CellShape, Clock, DirectoryShape, Door, Fsync, RedisShape, RegionShape, World};
