//! Runs policies: WebAssembly components that map (parameters, state, request) to an outcome.
//!
//! A component passes a gate before it is compiled, runs without any import, with bounded memory,
//! stack and fuel, and every outcome is checked before anybody acts on it.

mod breaker;
mod call;
mod describe;
mod digest;
mod effort;
mod fault;
mod fuel;
mod gate;
mod host;
mod instance;
mod limits;
mod outcome;
mod policy;
mod stores;

pub use call::{Operation, Outcome, Request};
pub use describe::Description;
pub use digest::Digest;
pub use fault::Fault;
pub use fuel::{FUEL_CLASSES, FuelCounts};
pub use gate::GateError;
pub use host::{ENGINE, Host, HostError, Precompiled};
pub use limits::HostLimits;
pub use outcome::{WAIT_MAX_US, check as check_outcome};
pub use policy::{ConfigureError, Policy};
pub use stores::{Burnt, Stores};
