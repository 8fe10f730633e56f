//! Components that mean harm, written by hand: each is refused at the gate or stopped at the call,
//! and none disturbs the next call.

mod component;
mod calls;
mod gate;
