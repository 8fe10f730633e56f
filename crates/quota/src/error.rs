//! What can go wrong between the engine and its stores. "Denied" is an answer, so it is not in here.

use crate::record::RecordError;

/// Why the engine could not start or open a shard.
#[derive(Debug, thiserror::Error)]
pub enum QuotaError {
    #[error("the quota Redis is not fit for use: {0}")]
    UnfitRedis(String),
    #[error("the quota Redis is a {0}, not a master")]
    RedisRole(String),
    #[error("the cell's Postgres failed")]
    Postgres(#[source] sqlx::Error),
    #[error("the cell was made with {made} shards and is configured for {configured}")]
    ShardCount { made: i64, configured: u16 },
    #[error("the catalog has not brought the tier of a user who is owed a late charge")]
    NoTier,
    #[error("the ownership table names a user id of another form")]
    OddUserId,
    #[error("the journal of allowed charges cannot be opened")]
    Journal(#[source] std::io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl QuotaError {
    /// Whether Postgres could not be asked, or said no.
    pub(crate) fn is_of_postgres(&self) -> bool {
        use StoreError::{Refused, Unknown};
        match self {
            QuotaError::Postgres(_) => true,
            QuotaError::Store(Unknown { store, .. } | Refused { store, .. }) => *store == "postgres",
            _ => false,
        }
    }
}

/// What a store said instead of doing it, told apart by whether anything may have been written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No answer, or a broken connection: the call may have been carried out.
    #[error("{store} gave no answer to {call}: {cause}")]
    Unknown { store: &'static str, call: &'static str, cause: String },
    /// The store answered that it did nothing.
    #[error("{store} refused {call}: {cause}")]
    Refused { store: &'static str, call: &'static str, cause: String },
    #[error("another writer holds the shard")]
    Fenced,
    #[error("Redis is short of memory")]
    OutOfMemory,
    #[error("what {store} holds cannot be read")]
    Unreadable {
        store: &'static str,
        #[source]
        cause: RecordError,
    },
}

impl StoreError {
    /// Of a statement: a pool that had no connection to give certainly sent nothing.
    pub(crate) fn postgres(call: &'static str, error: &sqlx::Error) -> Self {
        let cause = error.to_string();
        match error {
            sqlx::Error::Database(_) | sqlx::Error::PoolTimedOut => {
                StoreError::Refused { store: "postgres", call, cause }
            }
            _ => StoreError::Unknown { store: "postgres", call, cause },
        }
    }

    pub(crate) fn redis(call: &'static str, error: &redis::RedisError) -> Self {
        let cause = error.to_string();
        match error.code() {
            Some("OOM") => StoreError::OutOfMemory,
            // An error reply is Redis's own word that it stopped before the first write: `commit.lua`
            // does everything that can fail before it.
            Some(_) => StoreError::Refused { store: "redis", call, cause },
            None => StoreError::Unknown { store: "redis", call, cause },
        }
    }
}
