//! Where quota state lives: Redis takes the commits, Postgres keeps the books.

pub(crate) mod audit;
mod charges;
mod cluster;
mod ledger;
pub(crate) mod person;
pub(crate) mod postgres;
pub(crate) mod redis;
pub(crate) mod replicated;
pub mod restored;
pub(crate) mod returned;
pub(crate) mod sentinel;
pub(crate) mod servers;

pub use audit::Audit;
pub use ledger::Ledger;
pub use postgres::STATEMENTS;
pub use redis::Fsync;
