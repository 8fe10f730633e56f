//! What every implementation of a trait owes its callers, checked on real servers.

mod directory;
