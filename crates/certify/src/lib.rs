//! What a policy can be relied on for, tested by generated histories.
//!
//! A certificate says of one component which properties held over how many histories, or shows the shortest
//! history that broke one. It is a test and no proof: what the histories do not reach, it does not know. What a
//! policy promises over time it says itself, in its metadata (`promises`), and is held to it; a property that is
//! not meant to hold of it (a window that closes at night is not monotone in time) it waives there by name
//! (`waives`), and the certificate repeats that.

mod certify;
mod fingerprint;
mod fuel;
mod history;
mod promise;
mod properties;
mod report;
mod settings;
mod subject;
mod user;

pub use certify::{CertifyError, Plan, certify, certify_beside};
pub use fingerprint::{Differs, Fingerprint};
pub use fuel::{Fuel, Worst};
pub use promise::Promise;
pub use properties::Property;
pub use report::{Finding, Report, Verdict};
pub use subject::{About, Component, ComponentError, Engine, Instance, Subject};
