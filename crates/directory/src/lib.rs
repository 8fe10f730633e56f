//! Which cell is each user's home, which e-mails are taken, what tiers, policies and keys there are.
//!
//! The traits here are implemented once per kind of store. Whatever a conditional write decides is
//! one row in one partition, so that a store with lightweight transactions suffices.

pub mod api_key;
pub mod catalog;
mod claim;
pub mod claim_rules;
pub mod claim_steps;
mod cql;
mod document;
mod email;
mod email_change;
mod error;
pub mod floor;
mod home;
mod ids;
mod open;
mod opening;
pub mod pages;
mod pepper;
mod postgres;
mod signup;
mod traced;
mod written;

pub use catalog::{Catalog, PolicyEntry, UnreadRow};
pub use cellar_model::Digest;
pub use claim::{Claim, ClaimCursor, ClaimPage, ClaimState, Claims};
pub use claim_rules::{CellRows, Decided, Holding, Joined, Opened, Release, Settlement};
pub use claim_steps::{Claimed, Placed};
pub use cql::{CQL_STATEMENTS, CqlDirectory, Migrated, Replicas, ReplicasError};
pub use document::{CatalogKind, CatalogRow, CellBeat, DOCUMENT_BYTES_MAX, Documents};
pub use email::{EMAIL_BYTES_MAX, Email, EmailError};
pub use email_change::EmailChange;
pub use error::{DirectoryError, ErrorKind};
pub use floor::PolicyFloor;
pub use home::{HomeCursor, HomePage, HomeState, Homes, PAGE_MAX, UserHome};
pub use ids::{IdError, Intent, MoveId, Op};
pub use open::OpenDirectory;
pub use opening::Opening;
pub use pepper::{EmailHash, Pepper, PepperError, PepperId, PepperIdError, Peppers};
pub use postgres::{PostgresDirectory, STATEMENTS};
pub use signup::SignUp;
pub use written::Written;

/// A whole directory.
///
/// **Contract**, checked for every implementation by `tests/contract/directory.rs`:
/// 1. Of any number of racing conditional writes that expect the same row, exactly one is
///    `Written::Applied`.
/// 2. `Written::Refused` carries the row that stood in the way, read after the refusal.
/// 3. `Written::Unknown` is the only answer to a write that may yet take effect; `Err` certainly
///    wrote nothing.
/// 4. A serial read sees every write that was applied before it began, and decides every unknown
///    one for good.
/// 5. An erased user's row stays, and no write brings the user back.
pub trait Directory: Homes + Claims + Documents + Clone + Send + Sync + 'static {}

impl<T: Homes + Claims + Documents + Clone + Send + Sync + 'static> Directory for T {}
