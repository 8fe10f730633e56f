//! The fault table: every failure of a cell's quota path that one process a cell can show, made to happen
//! under load on real processes. Each row is a test: what its callers saw, and the books afterwards.
//!
//! The quickest rows run always, all of them with `CELLAR_TEST_FULL=1`; the table is printed at their end.
//! Times are printed and never asserted: they are this machine's.

mod caller;
mod cell;
mod load;
pub(crate) mod machine;
mod postgres;
mod redis_content;
mod redis_dies;
mod redis_refuses;
mod router;
mod row;
mod trial;
mod two_at_once;
