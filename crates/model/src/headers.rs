//! Header names, and the deadline that travels in one.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Every header of ours. What a router lets in from outside stands in its own list.
pub mod header {
    pub const REQUEST_ID: &str = "cellar-request-id";
    pub const DEADLINE_MS: &str = "cellar-deadline-ms";
    /// The user a service key acts for, or (written by the router) the session's user.
    pub const USER: &str = "cellar-user";
    /// Written by the router: the name of the service key, or `session`.
    pub const CALLER: &str = "cellar-caller";
    /// Written by the router: the session token's id and secret hash travel in these.
    pub const SESSION: &str = "cellar-session";
    /// Written by the front door at a log-in: where the caller is.
    pub const CLIENT_ADDRESS: &str = "cellar-client-address";
    /// In a 421: `<cell>; epoch=<n>`.
    pub const HOME: &str = "cellar-home";
    /// In a 421: the endpoint of the process of this cell that has the user's shard.
    pub const INSTANCE: &str = "cellar-instance";
    pub const DEGRADED: &str = "cellar-degraded";
    pub const POLICY_FAULT: &str = "cellar-policy-fault";
    pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
    pub const IDEMPOTENCY_REPLAYED: &str = "idempotency-replayed";
    pub const SHOULD_RETRY: &str = "x-should-retry";
    pub const RATE_LIMIT: &str = "ratelimit";
    pub const RATE_LIMIT_POLICY: &str = "ratelimit-policy";
}

/// What is left until the caller stops waiting, in milliseconds: 1 to 60,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeadlineMs(u32);

impl DeadlineMs {
    /// Of everything but quota checks.
    pub const STANDARD: DeadlineMs = DeadlineMs(2_000);
    pub const QUOTA: DeadlineMs = DeadlineMs(500);
    const MAX: u32 = 60_000;

    /// `ms` brought into range.
    pub fn new(ms: u64) -> Self {
        Self(ms.clamp(1, u64::from(Self::MAX)) as u32)
    }

    pub fn get(self) -> u32 {
        self.0
    }

    pub fn duration(self) -> Duration {
        Duration::from_millis(u64::from(self.0))
    }
}
