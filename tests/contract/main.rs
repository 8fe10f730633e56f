//! What every implementation of a trait owes its callers, checked on real servers.

mod cell_schema;
mod cql;
mod directory;
mod proxy;
