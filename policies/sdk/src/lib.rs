//! What a policy author needs: implement [`Policy`] for one plain type and export it with
//! [`export_policy!`].
//!
//! The same code compiles natively, where `cargo test` needs no WebAssembly: [`describe`],
//! [`configure`], [`decide`] and [`migrate`] are the component's functions, byte for byte.

pub mod calendar;
mod export;
mod fixed;
mod outcome;
mod policy;
pub mod priced;
mod promise;
mod request;
mod settings;
mod spent;

#[cfg(target_arch = "wasm32")]
pub use export::bindings;
pub use fixed::Fixed;
pub use outcome::Outcome;
pub use policy::{Policy, configure, decide, describe, migrate};
pub use promise::Promise;
pub use request::{AMOUNT_MAX, Attribute, Operation, Request, TIME_MAX_US};
pub use settings::Problem;
pub use spent::Spent;
