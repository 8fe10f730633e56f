//! Models: every order of events of a small world, searched to the end, driven by the pure functions that
//! the processes run.

#[macro_use]
mod switches;

mod claims;
mod search;
mod turn;
