//! The values and wire bodies of Cellar: what its parts say to each other, and nothing that does I/O.

mod amount;
mod answer;
mod check;
mod counters;
mod credential;
mod digest;
mod headers;
mod idempotency;
mod names;
mod origin;
mod problem;
mod request_key;
mod ring;
mod rings;
mod rollout;
pub mod schema;
mod secret;
mod session;
mod signature;
mod tier;
mod time;
mod topology;
mod topology_change;
mod user;
mod version_number;
pub mod wire;

pub use amount::{Amount, AmountError, COST_UNITS_MAX, Cost};
pub use answer::{Answer, ChargeId, Degraded, Denial, Effect, NotACharge, Refusal, SlotAnswer, TryAgain, Verdict};
pub use check::{
    ATTRIBUTES_MAX, AccountTerms, Attribute, Check, GrantTerms, OVERRIDE_BYTES_MAX, Operation, OverrideTerms,
    RESERVATION_S_DEFAULT, RESERVATION_S_MAX,
};
pub use counters::{Epoch, Fence, Incarnation, Revision, Seq, Version};
pub use credential::{ApiKey, KeyDocument, KeyError, KeyHash, KeyKind, Scope};
pub use digest::{Digest, DigestError};
pub use headers::{DeadlineMs, header};
pub use idempotency::{BodyHash, IDEMPOTENCY_KEY_MAX, IdempotencyKey, KeyId};
pub use names::{CellName, KeyName, NameError, PolicyName, RegionName, SlotName, TierName, Unit};
pub use origin::{Origin, OriginOf, REQUEST_ID_MAX, RequestId, SpanId, TraceId};
pub use problem::{Problem, ProblemType, SettingProblem};
pub use request_key::RequestKey;
pub use ring::{Ring, RingError};
pub use rings::Rings;
pub use rollout::{Percent, PercentError, Rollout, StopRules, WavePoint};
pub use secret::Secret;
pub use session::{MacKey, MacKeys, PresentedSession, SessionId, SessionSecret, SessionToken, TokenError};
pub use signature::{
    Base64, CERTIFICATE_BYTES_MAX, CertificateSummary, PolicyKey, PolicyKeyError, PolicyKeyId, PolicySignature,
    PolicyUpload, SignatureBytes, UPLOAD_BYTES_MAX,
};
pub use tier::{
    ARTIFACT_BYTES_MAX, Ack, OnExpiry, OnFault, OnUnavailable, POLICIES_MAX, Pin, PolicyMode, PolicyRef, RevisedTier,
    Shed, TierDocument, TierError, TierPolicy,
};
pub use time::Micros;
pub use topology::{CellEntry, CellState, RegionEntry, Topology, TopologyError};
pub use topology_change::{CellCount, TopologyChange, TopologyCount};
pub use user::{PlacementKey, Point, UserId, UserIdError, UserTail};
pub use version_number::{VersionNumber, VersionNumberError};
