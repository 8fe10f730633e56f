//! The JSON bodies of the HTTP contract, for those who serve it and those who call it.

mod accounts;
mod brought;
mod decisions;
mod explained;
mod keys;
mod object;

pub use accounts::{ExportHead, ExportedSession, PasswordBody, TierBody, UserDetails, UserState};

pub use brought::{BROUGHT_MAX, BringPlacedUsers, BringUsers, Brought, BroughtUser, BroughtUsers, PlacedUser};
pub use decisions::{
    CellDecisions, ProcessDecisions, RolloutDecisions, ShadowDecisions, TierDecisions, VariantDecisions,
};
pub use explained::{Explained, ExplainedDecision, ExplainedPolicy, Explanations, ProcessExplanations};
pub use keys::{KeyEntry, MacKeysShown, NewKey, RevokeKey, RotateKey};

use crate::{
    AccountTerms, Amount, Answer, Attribute, CellName, Cost, Denial, Effect, Epoch, Fence, GrantTerms, OverrideTerms,
    RegionName, SessionId, SlotName, TierName, UserId, schema,
};
use object::{object, objects};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// `POST /v1/internal/quota/consume`, and an item of a batch.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsumeBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// A number of tokens, or a map from unit to amount. Absent: one request.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "cost_as_map")]
    pub cost: Option<Cost>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = schema::Attributes)]
    pub attributes: BTreeMap<SmolStr, SmolStr>,
    /// Policy time in microseconds since the epoch: where the clock is virtual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::PolicyTime>)]
    pub at_us: Option<u64>,
    /// Of a batch item; a single check has the header `Idempotency-Key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 200)]
    pub idempotency_key: Option<String>,
}

fn cost_as_map<S: serde::Serializer>(cost: &Option<Cost>, serializer: S) -> Result<S::Ok, S::Error> {
    match cost {
        Some(cost) => crate::amount::as_map(cost, serializer),
        None => serializer.serialize_none(),
    }
}

impl ConsumeBody {
    pub fn attributes(&self) -> Vec<Attribute> {
        attributes(&self.attributes)
    }
}

/// `POST /v1/internal/admit`: the user is the session's. No `Debug`: the token opens an account.
#[derive(Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdmitBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = schema::TokenText, required = true)]
    pub session_token: Option<String>,
    /// As of a consume.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "cost_as_map")]
    pub cost: Option<Cost>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = schema::Attributes)]
    pub attributes: BTreeMap<SmolStr, SmolStr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::PolicyTime>)]
    pub at_us: Option<u64>,
}

/// `POST /v1/internal/quota/reserve`
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReserveBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = true, nullable = false)]
    pub user_id: Option<UserId>,
    /// As of a consume.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "cost_as_map")]
    pub cost: Option<Cost>,
    /// 1 to `RESERVATION_S_MAX`; absent: `RESERVATION_S_DEFAULT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 3600)]
    pub expires_in_s: Option<u32>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = schema::Attributes)]
    pub attributes: BTreeMap<SmolStr, SmolStr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::PolicyTime>)]
    pub at_us: Option<u64>,
}

/// `POST /v1/internal/quota/settle`
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettleBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = true, nullable = false)]
    pub user_id: Option<UserId>,
    #[serde(default)]
    #[schema(value_type = schema::ChargeText, required = true)]
    pub charge_id: String,
    /// What was really used; it has no default.
    #[serde(default, skip_serializing_if = "Option::is_none", serialize_with = "cost_as_map")]
    #[schema(required = true, nullable = false)]
    pub cost: Option<Cost>,
    /// Those of the reservation, where a policy weighs by them: they are not kept.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = schema::Attributes)]
    pub attributes: BTreeMap<SmolStr, SmolStr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::PolicyTime>)]
    pub at_us: Option<u64>,
}

/// `POST /v1/internal/quota/refund`
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RefundBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = true, nullable = false)]
    pub user_id: Option<UserId>,
    #[serde(default)]
    #[schema(value_type = schema::ChargeText, required = true)]
    pub charge_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::PolicyTime>)]
    pub at_us: Option<u64>,
}

/// `POST /v1/internal/quota/grant`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(required = true, nullable = false)]
    pub user_id: Option<UserId>,
    pub slot: SlotName,
    #[schema(value_type = schema::GrantedAmount)]
    pub amount: Amount,
    /// RFC 3339.
    #[schema(value_type = schema::Time)]
    pub until: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::PolicyTime>)]
    pub at_us: Option<u64>,
}

/// `PUT /v1/internal/users/{id}/override`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OverrideBody {
    pub slot: SlotName,
    pub settings: serde_json::Value,
    /// RFC 3339.
    #[schema(value_type = schema::Time)]
    pub until: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::PolicyTime>)]
    pub at_us: Option<u64>,
}

/// As checks carry them.
pub fn attributes(named: &BTreeMap<SmolStr, SmolStr>) -> Vec<Attribute> {
    named.iter().map(|(name, value)| Attribute { name: name.clone(), value: value.clone() }).collect()
}

/// `POST /v1/internal/quota/batch`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchBody {
    #[serde(deserialize_with = "objects")]
    #[schema(max_items = 1000)]
    pub checks: Vec<ConsumeBody>,
}

/// The most checks a batch may carry.
pub const BATCH_CHECKS_MAX: usize = 1_000;

/// 200 of a check. A denial's problem document has the same members.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConsumeAnswer {
    pub allowed: bool,
    /// Of an admit: whose session it is, and which.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub user_id: Option<UserId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub session_id: Option<SessionId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::ChargeText>, nullable = false)]
    pub charge_id: Option<String>,
    pub version: u64,
    pub tier: TierName,
    pub catalog_revision: u64,
    pub policies: Vec<SlotBody>,
    /// Of a reserve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::Time>, nullable = false)]
    pub expires_at: Option<String>,
    /// Of a settle: by unit, what was charged above what was left.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = schema::Overshoot)]
    pub overshoot: BTreeMap<SmolStr, u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SlotBody {
    #[schema(value_type = SlotName)]
    pub slot: SmolStr,
    #[schema(value_type = schema::UnitName)]
    pub unit: SmolStr,
    pub limit: u64,
    pub remaining: u64,
    #[schema(value_type = schema::Time)]
    pub resets_at: String,
    /// What is left of grants in force, beside `remaining`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub granted: u64,
}

fn is_zero(amount: &u64) -> bool {
    *amount == 0
}

/// 429 of a check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeniedBody {
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    #[serde(rename = "violated-policies")]
    #[schema(value_type = Vec<SlotName>, min_items = 1)]
    pub violated_policies: Vec<SmolStr>,
    pub retryable: bool,
    /// When the slowest of the violated policies would admit this cost.
    #[schema(value_type = schema::Time)]
    pub resets_at: String,
    #[serde(flatten)]
    pub answer: ConsumeAnswer,
}

/// `GET /v1/user/quota`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QuotaBody {
    pub user_id: UserId,
    pub tier: TierName,
    pub policies: Vec<SlotBody>,
}

impl SlotBody {
    fn all(answer: &Answer) -> Vec<SlotBody> {
        let body = |slot: &crate::SlotAnswer| SlotBody {
            slot: slot.slot.clone().into(),
            unit: slot.unit.clone().into(),
            limit: slot.limit,
            remaining: slot.remaining,
            resets_at: slot.resets_at.to_rfc3339(),
            granted: slot.granted,
        };
        answer.slots.iter().map(body).collect()
    }
}

impl ConsumeAnswer {
    pub fn new(allowed: bool, answer: &Answer) -> Self {
        let (expires_at, overshoot) = match &answer.effect {
            Effect::Reserved { expires_at } => (Some(expires_at.to_rfc3339()), BTreeMap::new()),
            Effect::Settled { overshoot } => {
                (None, overshoot.iter().map(|(unit, above)| (unit.clone().into(), *above)).collect())
            }
            Effect::Plain | Effect::Refunded | Effect::Changed => (None, BTreeMap::new()),
        };
        Self {
            allowed,
            user_id: None,
            session_id: None,
            charge_id: answer.charge.map(|charge| charge.to_string()),
            version: answer.version.0,
            tier: answer.tier.clone(),
            catalog_revision: answer.catalog_revision.0,
            policies: SlotBody::all(answer),
            expires_at,
            overshoot,
        }
    }

    /// As an admit's, by the session it came with.
    pub fn of_session(self, user: &UserId, session: &SessionId) -> Self {
        Self { user_id: Some(user.clone()), session_id: Some(session.clone()), ..self }
    }
}

impl DeniedBody {
    pub fn new(denial: &Denial) -> Self {
        let kind = crate::ProblemType::QuotaExceeded;
        Self {
            kind: kind.uri(),
            title: kind.title().to_owned(),
            status: kind.status(),
            violated_policies: denial.violated.iter().map(|slot| slot.clone().into()).collect(),
            retryable: true,
            resets_at: denial.answer.at.saturating_add(denial.retry_after_us).to_rfc3339(),
            answer: ConsumeAnswer::new(false, &denial.answer),
        }
    }
}

impl QuotaBody {
    pub fn new(user: &UserId, answer: &Answer) -> Self {
        Self { user_id: user.clone(), tier: answer.tier.clone(), policies: SlotBody::all(answer) }
    }
}

/// `POST /v1/users`
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignUpBody {
    #[schema(value_type = schema::EmailText)]
    pub email: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::PersonName>)]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::PasswordText>)]
    pub password: Option<String>,
    pub tier: TierName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionName>,
    /// A foreign id, kept as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SignedUp {
    pub user_id: UserId,
    pub tier: TierName,
    pub region: RegionName,
}

/// What a router hands a cell to sign up a user: id and cell drawn, the rest as it came.
/// `POST /cell/v1/users`
#[derive(Clone, Serialize, Deserialize)]
pub struct PlacedSignUp {
    pub user_id: UserId,
    pub region: RegionName,
    /// From the idempotency key, in hex: the same for a repeat. Random without one.
    pub intent: String,
    pub body: SignUpBody,
}

/// What a router hands a cell to sign up a foreign id at its first sight, under a key with `auto_enrol`.
/// `POST /cell/v1/enrolments`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlacedEnrolment {
    pub user_id: UserId,
    /// From the key's name and the id, in hex: the same at every router.
    pub intent: String,
    pub tier: TierName,
}

/// What a user's home tells the cells that the ring names for him. `PUT /cell/v1/forwards/{user}`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ForwardNews {
    /// Who is told: an endpoint may have become another cell's.
    pub cell: CellName,
    pub home: CellName,
    pub epoch: Epoch,
}

/// What a cell asks of another whose sign-up stands in its way. `POST /cell/v1/intents/{intent}`
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IntentQuestion {
    /// Who is asked: the answer of any other cell would be worth nothing.
    pub cell: CellName,
    pub user_id: UserId,
}

/// What has become of the intent, for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntentAnswer {
    /// It made its user; else it is refused.
    pub committed: bool,
}

/// `POST /v1/sessions`
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogInBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<schema::EmailText>)]
    pub email: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 1024)]
    pub password: Option<String>,
    /// With a service key: the application authenticated the person itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    #[serde(default, deserialize_with = "object")]
    pub device: Device,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Device {
    #[serde(default)]
    #[schema(value_type = schema::DeviceName)]
    pub name: String,
    #[serde(default)]
    #[schema(value_type = schema::DevicePlatform)]
    pub platform: String,
}

/// A device as its log-in named it and as the front door saw it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SeenDevice {
    #[serde(default)]
    #[schema(required = true)]
    pub name: String,
    #[serde(default)]
    #[schema(required = true)]
    pub platform: String,
    /// From where; only if the front door knew it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub address: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub user_agent: Option<String>,
}

#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct LoggedIn {
    pub user_id: UserId,
    #[schema(value_type = SessionId)]
    pub session_id: String,
    #[schema(value_type = schema::TokenText)]
    pub session_token: String,
    #[schema(value_type = schema::Time)]
    pub expires_at: String,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SessionList {
    #[schema(max_items = 100)]
    pub sessions: Vec<SessionEntry>,
    #[schema(value_type = Option<schema::Time>, required = true)]
    pub last_login_at: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SessionEntry {
    #[schema(value_type = SessionId)]
    pub session_id: String,
    pub device: SeenDevice,
    #[schema(value_type = schema::Time)]
    pub created_at: String,
    #[schema(value_type = schema::Time)]
    pub last_active: String,
    pub current: bool,
}

/// `GET /v1/user/profile`
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct Profile {
    pub user_id: UserId,
    /// None for who has been enrolled and has not said one.
    #[schema(value_type = Option<schema::EmailText>, required = true)]
    pub email: Option<String>,
    #[schema(value_type = Option<schema::PersonName>, required = true)]
    pub name: Option<String>,
    pub tier: TierName,
    #[schema(value_type = schema::Time)]
    pub created_at: String,
    #[schema(value_type = schema::Preferences)]
    pub preferences: serde_json::Map<String, serde_json::Value>,
}

/// `PATCH /v1/user/profile`, a merge patch: absent leaves a member, null removes the name. An account has an
/// e-mail always.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfilePatch {
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<schema::PersonName>, required = false)]
    pub name: Option<Option<String>>,
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = schema::EmailText, required = false)]
    pub email: Option<Option<String>>,
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::<String>::deserialize(deserializer).map(Some)
}

/// `Cellar-Home: <cell>; epoch=<n>` of a 421.
pub fn home_header(home: &CellName, epoch: crate::Epoch) -> String {
    format!("{home}; epoch={epoch}")
}

pub fn parse_home_header(text: &str) -> Option<(CellName, crate::Epoch)> {
    let (home, epoch) = text.split_once(';')?;
    let epoch = epoch.trim().strip_prefix("epoch=")?.parse().ok()?;
    Some((CellName::new(home.trim()).ok()?, crate::Epoch(epoch)))
}

/// What `cellctl audit` asks of a cell: everyone's charges by the ledger and by the records.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuditedUser {
    pub user_id: UserId,
    /// By unit: the sum of the ledger's charges, less what it says was given back. Signed, so that
    /// books which give back more than they took do not pass for empty ones.
    pub ledger: BTreeMap<SmolStr, i64>,
    /// By unit: the total the Redis record counts. Empty where Redis has none that is believed.
    pub record: BTreeMap<SmolStr, i64>,
    /// By unit: the total the copy of the record in Postgres counts. Ledger and copy are of one moment.
    pub copy: BTreeMap<SmolStr, i64>,
    /// Redis has a later commit than the copy: its entry is on the way, and nothing can be compared yet.
    pub behind: bool,
    /// Checks that the ledger has.
    pub admitted: u64,
}

impl AuditedUser {
    /// What is wrong with the user's books, if anything is.
    pub fn mismatch(&self) -> Option<String> {
        if self.ledger != self.copy {
            return Some(format!("the ledger sums to {:?}, the record in Postgres says {:?}", self.ledger, self.copy));
        }
        // A record may have expired from Redis, or not have been read back since Redis lost it.
        if !self.behind && !self.record.is_empty() && self.record != self.ledger {
            return Some(format!(
                "the ledger sums to {:?}, the record in Redis or memory says {:?}",
                self.ledger, self.record
            ));
        }
        None
    }
}

/// A month of a cell's ledger.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LedgerMonth {
    /// Of policy time, in UTC: `2023-11`.
    pub month: String,
    /// As Postgres estimates them.
    pub rows: i64,
    pub bytes: i64,
    /// How many the last export had; absent if there was none.
    pub exported_rows: Option<i64>,
}

/// One commit of one user, as the ledger has it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LedgerRow {
    pub at_us: i64,
    pub shard: i16,
    pub fence: i64,
    pub seq: i64,
    pub n: i32,
    pub user_id: String,
    pub epoch: i64,
    pub version: i64,
    pub kind: i16,
    /// Checks of the commit.
    pub places: i32,
    /// By unit.
    pub charges: BTreeMap<SmolStr, i64>,
    /// One by one, where that was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<LedgerAct>,
}

/// One admitted check of a commit: enough to ask it again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LedgerAct {
    pub charge_id: String,
    pub at_us: u64,
    pub act: Acted,
    /// By unit; negative where something was given back.
    pub charges: BTreeMap<SmolStr, i64>,
}

/// What an admitted check did; `of` is the charge that it closed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Acted {
    Consume,
    Reserve,
    Settle {
        of: String,
    },
    Refund {
        of: String,
    },
    Expire {
        of: String,
    },
    Grant(GrantTerms),
    Override(OverrideTerms),
    /// Tier and block as the account says them.
    Adopt(AccountTerms),
    Erase,
}

/// `POST /admin/v1/ledger/{month}` of a cell: rows after the one sent, in the order of their key. With
/// `?checks=true` each says its checks one by one, and a page is shorter.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LedgerPage {
    pub rows: Vec<LedgerRow>,
    /// Nothing comes after these.
    pub last: bool,
}

/// A shard of a cell that was restored: the fences that were known of it, and what they were raised to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RaisedShard {
    pub shard: u16,
    /// In the restored Postgres.
    pub held: Fence,
    pub opened: Fence,
    /// In the copy of Redis.
    pub on_redis: Option<Fence>,
    pub fence: Fence,
}

/// The last entry of a shard's ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEnd {
    pub shard: u16,
    pub fence: i64,
    pub seq: i64,
    /// Policy time.
    pub at_us: i64,
}

/// A charge that a restored cell does not have.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LostCharge {
    pub user_id: String,
    pub charge_id: String,
    /// Policy time.
    pub at_us: i64,
    /// By unit.
    pub charges: BTreeMap<SmolStr, i64>,
}

/// What a cell found and did in its restored stores, before its first start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TakenOver {
    pub shards: Vec<RaisedShard>,
    /// Charges that were restored first and cut off again, in the file of charges.
    pub charges: u64,
    /// Whose home is this cell, and of whom it knows nothing: signed up later.
    pub unknown_users: Vec<String>,
    /// Who was erased, or went to another cell, after the copy: not served here.
    pub no_longer_here: Vec<String>,
    /// Of whom the directory knows nothing, or in the middle of a move: served as the copy says.
    pub in_doubt: Vec<String>,
}

/// What a restored cell's ledger has once its shards have turned.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Restored {
    pub ends: Vec<LedgerEnd>,
    /// Of the charges that were asked about, `user charge_id`: those it does not have.
    pub gone: Vec<String>,
}

/// What an export says of itself when it is complete: `PUT /admin/v1/ledger/{month}/export`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LedgerExport {
    pub rows: i64,
    /// Of the lines, uncompressed; in hex.
    pub sha256: String,
}

/// One life of a process of a cell. `live` ones own shards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellInstance {
    pub instance: String,
    pub endpoint: String,
    /// Since its last heartbeat, by the cell's Postgres.
    pub age_ms: u64,
    pub leaving: bool,
    pub fenced: bool,
    pub live: bool,
    /// How many shards are its own.
    pub shards: u32,
}

/// `GET /admin/v1/instances` of a cell. Empty where it is one process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CellInstances {
    pub instances: Vec<CellInstance>,
}

/// One shard of a cell: who turned last, and what of it the ledger lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CellShard {
    pub shard: u16,
    pub fence: u64,
    /// The fence of the last finished turn: below `fence` while another is under way.
    pub opened: u64,
    /// Of the process that took it; absent where the cell is one process.
    pub endpoint: Option<String>,
    pub mode: Option<String>,
    pub undrained: u64,
}

/// `GET /admin/v1/shards` of a cell.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CellShards {
    pub undrained: u64,
    pub shards: Vec<CellShard>,
}

/// `GET /v1/user/usage`: what the ledger has, which is at most moments behind the counters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageBody {
    pub user_id: UserId,
    /// Days in UTC, `2023-11-14`; the last one is not part of it.
    #[schema(value_type = schema::Day)]
    pub from: String,
    #[schema(value_type = schema::Day)]
    pub to: String,
    /// By unit, less what was given back.
    #[schema(value_type = schema::Charges)]
    pub totals: std::collections::BTreeMap<SmolStr, i64>,
    /// Days with charges, oldest first.
    pub days: Vec<UsageDay>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageDay {
    #[schema(value_type = schema::Day)]
    pub day: String,
    #[schema(value_type = schema::Charges)]
    pub charges: std::collections::BTreeMap<SmolStr, i64>,
}

/// `GET /admin/v1/audit?after=<user id>` of a cell: a page, in order of ids.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AuditPage {
    pub users: Vec<AuditedUser>,
    /// The id to ask the next page after; absent on the last.
    pub next: Option<UserId>,
    /// Entries not yet in the ledger when the page was made: sums compare only at 0.
    pub undrained: u64,
    /// What was compared: `ledger`, `postgres` (the copy); `redis` of shards that commit to it; `memory`, the
    /// records of the process that was asked, of shards that do not, or whose Redis does not answer.
    pub stores: Vec<SmolStr>,
    /// Shards that commit to Redis, and of which it told nothing.
    #[serde(default)]
    pub unread: Vec<u16>,
}

/// A user's row in the directory: `GET /admin/v1/directory/homes`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DirectoryHome {
    pub user_id: UserId,
    pub cell: CellName,
    pub epoch: Epoch,
    /// `creating`, `active`, `moving` or `erased`.
    pub state: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HomesPage {
    pub homes: Vec<DirectoryHome>,
    /// What the next page is asked for with; none after the last.
    pub next: Option<String>,
}

/// A claim in the directory: `GET /admin/v1/directory/claims`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DirectoryClaim {
    /// The pepper's id, a colon, and the e-mail's hash under that pepper.
    pub email: String,
    pub user_id: UserId,
    pub cell: CellName,
    pub intent: String,
    /// `creating`, `held` or `releasing`.
    pub state: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClaimsPage {
    pub claims: Vec<DirectoryClaim>,
    pub next: Option<String>,
}

/// What a cell has of a user: `GET /admin/v1/accounts` of its admin listener.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CellAccount {
    pub user_id: UserId,
    /// `OWNED`, `FORWARD`, …
    pub ownership: String,
    pub epoch: Epoch,
    pub home: CellName,
    /// The present e-mail's hash under each pepper of the process that answers, as claims name it; none of who
    /// has no e-mail.
    pub emails: Vec<String>,
    /// By which the user came to it.
    pub email_intent: Option<String>,
    /// E-mails left, whose claims are still to be freed.
    pub releases: Vec<String>,
    /// A cell that the ring names is still to be told that the user lives here.
    pub forward_due: bool,
    pub tier: Option<String>,
    pub state: Option<String>,
    pub created_at: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AccountsPage {
    pub accounts: Vec<CellAccount>,
    /// The ids of the peppers that the process which answers has, in the order of its file.
    pub peppers: Vec<String>,
    pub next: Option<UserId>,
    /// The rings by which every user here has been looked at: `Rings::digest`.
    pub rings: Option<String>,
}
