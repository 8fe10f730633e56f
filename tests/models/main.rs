//! Models: every order of events of a small world, searched to the end, driven by the pure functions that
//! the processes run.

mod turn;
