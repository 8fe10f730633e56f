//! What a router and a cell have in common as HTTP services: who asks, what is refused and how, the
//! quota routes over anyone who decides, and how a process listens, counts and tells.

mod address;
mod admin;
mod artifact;
mod attempts;
mod body;
mod caller;
mod client_address;
mod conditions;
pub mod config;
mod contract;
pub mod disk;
mod disk_full;
pub mod front;
mod intent;
mod keys;
pub mod limits;
mod listen;
mod mac_keyring;
mod metrics;
mod operate;
mod operations;
mod plaintext;
mod problem;
mod process;
mod quota;
mod route_names;
pub mod telemetry;
#[cfg(test)]
mod tests;
mod topology;
mod verdict;

pub use address::{PathPart, QueryOf};
pub use admin::admin_routes;
pub use artifact::{check_version, read_upload};
pub use attempts::{Attempt, AttemptLimit, Attempts};
pub use body::{JsonBody, parse_json, read_body, read_body_within};
pub use caller::{Caller, Enrolment};
pub use client_address::{Peer, TrustedProxies, write_caller_address};
pub use conditions::{Condition, Conditions, InForce, LOOK_EVERY, ProcessName, Seen};
pub use contract::contract_routes;
pub use disk_full::disk_full;
pub use intent::{brought_intent, email_change_intent, enrolment_intent, sign_up_intent};
pub use keys::Keys;
pub use listen::{bind, runtime, serve, serve_counted, serve_plain, stop_on_signals};
pub use mac_keyring::MacKeyring;
pub use metrics::{HttpMetrics, Shed};
pub use plaintext::Plaintext;
pub use problem::HttpProblem;
pub use process::register_process;
pub use quota::{Decider, QuotaApi, idempotency_key, server_timing};
pub use topology::TopologyKeeper;
pub use verdict::{quota_response, verdict_response};
