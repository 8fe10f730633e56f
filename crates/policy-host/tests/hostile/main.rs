//! Components that mean harm, written by hand: each is refused at the gate or stopped at the call,
//! and none disturbs the next call.

#![allow(clippy::unwrap_used, reason = "what cannot be unwrapped is the test's failure")]

mod calls;
mod component;
mod gate;
