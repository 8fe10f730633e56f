//! What a policy author needs: implement [`Policy`] for one plain type and export it with
//! [`export_policy!`].
//!
//! The same code compiles natively, where `cargo test` needs no WebAssembly: [`describe`],
//! [`configure`], [`decide`] and [`migrate`] are the component's functions, byte for byte, and
//! `testing` is what an author tests with.
//!
//! Units: a time is in microseconds since the Unix epoch and ends in `_us`, a span is in microseconds
//! and ends in `_us`, an amount is in the policy's own unit, from 0 to [`AMOUNT_MAX`].
//!
//! `cellctl policy new NAME` writes a folder to begin with; its policy is `example`.

#![warn(missing_docs)]

// The example is compiled here as an author compiles it.
#[cfg(not(target_arch = "wasm32"))]
extern crate self as cellar_policy_sdk;

pub mod calendar;
#[cfg(not(target_arch = "wasm32"))]
#[path = "../template/src/lib.rs"]
pub mod example;
mod export;
mod fixed;
mod outcome;
mod policy;
pub mod priced;
#[allow(missing_docs, reason = "what a promise's fields are, its own comment says")]
mod promise;
mod request;
mod settings;
mod spent;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

#[cfg(target_arch = "wasm32")]
pub use export::bindings;
pub use fixed::Fixed;
pub use outcome::Outcome;
pub use policy::{Policy, configure, decide, describe, migrate};
pub use promise::Promise;
pub use request::{AMOUNT_MAX, Attribute, Operation, Request, TIME_MAX_US};
pub use settings::Problem;
pub use spent::Spent;
