//! The counters of the design: each says what it counts and who alone may raise it.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }

            /// As Postgres stores it. Counters rise by one, or by 1,000 at a promotion: 2^63 is
            /// out of reach.
            pub fn as_i64(self) -> i64 {
                self.0 as i64
            }

            pub fn from_i64(stored: i64) -> Self {
                Self(stored.max(0) as u64)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter!(/// Decisions about a user's home. Raised by the directory's conditional write.
    Epoch);
counter!(/// Commits of one user's quota record. Raised by the shard's writer.
    Version);
counter!(/// Turns of a shard: who writes, and since when its Redis content counts. Raised in the
    /// cell's Postgres.
    Fence);
counter!(/// Batches of one shard under one fence, dense from 0. Given by the store that took the commit.
    Seq);
counter!(/// Lives of a whole cell (promotion, restore). Raised by the directory.
    Incarnation);
counter!(/// Topology and catalog documents. Raised by the directory.
    Revision);
