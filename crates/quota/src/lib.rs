//! The quota engine of a cell: who may spend how much, decided once and kept for good.
//!
//! One request, one direction: [`Quota::decide`] → a shard's loop → its batch → the policies →
//! one call to the store. Nothing calls back up.

mod account;
mod clock;
mod closing;
mod compiled;
mod config;
mod decisions;
mod engine;
mod entry;
mod error;
mod evaluate;
mod journal;
mod membership;
mod metrics;
mod moments;
mod noticed;
mod outcome;
mod patches;
pub mod protocol;
mod record;
mod replay;
pub mod rollout;
mod seen;
mod shard;
mod standing;
mod store;
mod tail;
mod tiers;
mod witnesses;

pub use account::Told;
pub use clock::{Clock, ClockMode, boot_clock};
pub use config::QuotaConfig;
pub use engine::Quota;
pub use entry::{Act, EntryKind, KeyedAnswer, LedgerCheck, LedgerEntry};
pub use error::{QuotaError, StoreError};
pub use metrics::QuotaMetrics;
pub use noticed::QuotaFacts;
pub use patches::{KeptPatch, PatchSeq, ShardWriter};
pub use record::{
    Flags, Grant, Head, Override, RECORD_BYTES_MAX, RESERVATIONS_MAX, Record, RecordBody, RecordError, Reservation,
    SlotState, Take, Taker,
};
pub use replay::{Decided, Replay, Replayed};
pub use shard::ShardId;
pub use standing::{NotHere, Visit};
pub use store::{Audit, Fsync, Ledger, STATEMENTS, restored};
pub use tiers::{Tier, TierCompileError, TierSet, TierSlot};
