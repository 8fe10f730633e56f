//! A user's quota record: everything a check needs to know of him, in one value of Redis.
//!
//! A 24-byte head (fence, epoch, version; big-endian, so that scripts can read it) and a postcard
//! body behind one byte that names its format. The body begins with the time at which the first of the
//! reservations expires, so that the drain can read it without the rest.

use cellar_model::{ChargeId, Epoch, Fence, Micros, OnExpiry, PolicyName, Revision, SlotName, TierName, Unit, Version};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The largest record a commit may write.
pub const RECORD_BYTES_MAX: usize = 16 * 1024;
/// Slots kept at most: those of the tier and those of earlier tiers that have not reset yet.
pub(crate) const SLOTS_MAX: usize = 8;
/// Open reservations of one user: what one of them adds is carried by every commit.
pub const RESERVATIONS_MAX: usize = 64;
/// Grants in force, over all slots.
pub(crate) const GRANTS_MAX: usize = 8;
/// What reservations, grants and overrides leave free, so that states and totals can still grow.
const ROOM_BYTES: usize = 2 * 1024;
const HEAD_BYTES: usize = 24;
const FORMAT: u8 = 3;
/// Before users could be erased: one flag less.
const FORMAT_WITHOUT_ERASED: u8 = 2;

/// Under which turn, decision and commit a record was written. Ordered by (fence, version) for one
/// epoch: the later write is the greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Head {
    pub fence: Fence,
    pub epoch: Epoch,
    pub version: Version,
}

impl Head {
    pub fn to_bytes(self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..8].copy_from_slice(&self.fence.0.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.epoch.0.to_be_bytes());
        bytes[16..].copy_from_slice(&self.version.0.to_be_bytes());
        bytes
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        Some(Self { fence: Fence(number(0)?), epoch: Epoch(number(8)?), version: Version(number(16)?) })
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub head: Head,
    pub body: RecordBody,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordBody {
    pub flags: Flags,
    pub tier: TierName,
    /// Of the tier's document at the last commit.
    pub tier_revision: Revision,
    /// Policy time of the last commit: a user's time never runs backwards.
    pub now: Micros,
    /// By unit, what was ever charged, as the ledger adds up to.
    pub totals: Vec<(Unit, u64)>,
    pub slots: Vec<SlotState>,
    pub reservations: Vec<Reservation>,
    pub overrides: Vec<Override>,
    pub grants: Vec<Grant>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flags {
    pub blocked: bool,
    pub frozen: bool,
    /// Nothing is decided on it any more, for anybody; only Redis and the ledger still have to forget it.
    pub erased: bool,
}

/// What a policy remembers of a user. Found by slot and policy name, so that a tier change keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlotState {
    pub slot: SlotName,
    pub policy: PolicyName,
    /// The artifact that wrote the state.
    pub digest: [u8; 32],
    pub schema: u32,
    pub state: Vec<u8>,
}

/// An open reservation, named by its charge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reservation {
    pub charge: ChargeId,
    /// When it was taken: a settle gives back to the period of this time only.
    pub at: Micros,
    pub expires_at: Micros,
    /// As the tier said when it was made.
    pub on_expiry: OnExpiry,
    /// By unit, what it charged.
    pub charges: Vec<(Unit, u64)>,
    pub takes: Vec<Take>,
}

/// What one slot gave a charge. A reservation has one of every slot that was asked, be it for nothing:
/// its settle may use more of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Take {
    pub taker: Taker,
    /// Out of the policy.
    pub amount: u64,
    /// Out of grants.
    pub granted: u64,
}

/// Slot, policy and unit in eight bytes, so that 64 reservations over eight slots fit a record. It is
/// looked for among the slots of one tier only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Taker(pub [u8; 8]);

impl Taker {
    pub fn of(slot: &SlotName, policy: &PolicyName, unit: &Unit) -> Self {
        let mut hash = Sha256::new();
        for name in [slot.as_str(), policy.as_str(), unit.as_str()] {
            hash.update([name.len() as u8]);
            hash.update(name);
        }
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&hash.finalize()[..8]);
        Self(bytes)
    }
}

/// Other settings of a slot for this user until a date; JSON as the policy's `configure` takes it. It
/// counts while the slot has this policy: another one would not understand it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Override {
    pub slot: SlotName,
    pub policy: PolicyName,
    pub settings: String,
    pub until: Micros,
}

/// Extra for this user until a date.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grant {
    pub slot: SlotName,
    pub amount: u64,
    pub spent: u64,
    pub until: Micros,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("{0} bytes are too short for a head")]
    NoHead(usize),
    #[error("format {0} is not known to this build")]
    Format(u8),
    #[error("the body does not parse")]
    Body(#[source] postcard::Error),
    #[error("{0} bytes are more than a record may have")]
    TooLarge(usize),
}

impl RecordBody {
    /// Of a user who never spent anything.
    pub fn new(tier: TierName) -> Self {
        Self {
            flags: Flags::default(),
            tier,
            tier_revision: Revision(0),
            now: Micros(0),
            totals: Vec::new(),
            slots: Vec::new(),
            reservations: Vec::new(),
            overrides: Vec::new(),
            grants: Vec::new(),
        }
    }

    pub fn state(&self, slot: &SlotName, policy: &PolicyName) -> Option<&SlotState> {
        self.slots.iter().find(|state| state.slot == *slot && state.policy == *policy)
    }

    /// Puts a slot's new state. A slot that changed its policy starts anew, unless the tier has both (`in_tier`)
    /// for different users. When there would be more than `SLOTS_MAX`, the oldest one that the tier does not
    /// have gives way.
    pub(crate) fn put_state(&mut self, new: SlotState, in_tier: impl Fn(&SlotState) -> bool) {
        let replaced = |held: &SlotState| held.slot == new.slot && held.policy != new.policy && !in_tier(held);
        self.slots.retain(|held| !replaced(held));
        if let Some(held) = self.slots.iter_mut().find(|held| held.slot == new.slot && held.policy == new.policy) {
            *held = new;
            return;
        }
        if self.slots.len() == SLOTS_MAX {
            // A tier has no more states than a record, so one of these eight is not its own.
            let foreign = self.slots.iter().position(|held| !in_tier(held)).unwrap_or(0);
            self.slots.remove(foreign);
        }
        self.slots.push(new);
    }

    /// Moves a total as the ledger does. Nothing is given back that was not charged before, so no total
    /// falls below zero.
    pub fn charge(&mut self, unit: &Unit, amount: i64) {
        match self.totals.iter_mut().find(|(held, _)| held == unit) {
            Some((_, total)) => *total = total.saturating_add_signed(amount),
            None => self.totals.push((unit.clone(), amount.max(0) as u64)),
        }
    }

    /// When the first of the open reservations expires.
    pub fn next_expiry(&self) -> Option<Micros> {
        self.reservations.iter().map(|reservation| reservation.expires_at).min()
    }

    /// Whether `bytes` more leave the record fit to be written for good.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        let held = postcard::to_allocvec(self).map_or(RECORD_BYTES_MAX, |body| body.len());
        held + bytes + HEAD_BYTES + ROOM_BYTES <= RECORD_BYTES_MAX
    }

    /// The settings that count instead of the slot's own.
    pub(crate) fn settings(&self, slot: &SlotName, policy: &PolicyName, now: Micros) -> Option<&str> {
        let meant = |held: &&Override| held.slot == *slot && held.policy == *policy && held.until > now;
        self.overrides.iter().find(meant).map(|held| held.settings.as_str())
    }

    /// What is left of the slot's grants in force.
    pub(crate) fn granted(&self, slot: &SlotName, now: Micros) -> u64 {
        let left = |grant: &Grant| grant.amount.saturating_sub(grant.spent);
        self.grants.iter().filter(|grant| grant.in_force(slot, now)).map(left).fold(0, u64::saturating_add)
    }

    /// Takes `amount` out of the slot's grants, which have it: out of those first that end first.
    pub(crate) fn spend_grants(&mut self, slot: &SlotName, mut amount: u64, now: Micros) {
        self.grants.sort_by_key(|grant| grant.until);
        for grant in self.grants.iter_mut().filter(|grant| grant.in_force(slot, now)) {
            let spent = amount.min(grant.amount.saturating_sub(grant.spent));
            grant.spent += spent;
            amount -= spent;
        }
    }

    /// Gives `amount` back to the slot's grants in force, to those first that end last. What none of
    /// them has spent is gone with the grant it came from.
    pub(crate) fn return_grants(&mut self, slot: &SlotName, mut amount: u64, now: Micros) {
        self.grants.sort_by_key(|grant| grant.until);
        for grant in self.grants.iter_mut().rev().filter(|grant| grant.in_force(slot, now)) {
            let back = amount.min(grant.spent);
            grant.spent -= back;
            amount -= back;
        }
    }

    /// Drops grants and overrides that are over.
    pub(crate) fn drop_ended(&mut self, now: Micros) {
        self.grants.retain(|grant| grant.until > now);
        self.overrides.retain(|held| held.until > now);
    }
}

impl Grant {
    fn in_force(&self, slot: &SlotName, now: Micros) -> bool {
        self.slot == *slot && self.until > now
    }
}

impl Record {
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&self.head.to_bytes());
        bytes.push(FORMAT);
        let bytes = postcard::to_extend(&(self.body.next_expiry(), &self.body), bytes).map_err(RecordError::Body)?;
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(RecordError::TooLarge(bytes.len()));
        }
        Ok(bytes)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let head = Head::from_bytes(bytes).ok_or(RecordError::NoHead(bytes.len()))?;
        match bytes.get(HEAD_BYTES) {
            Some(&FORMAT) => {
                let (_, body): (Option<Micros>, RecordBody) =
                    postcard::from_bytes(&bytes[HEAD_BYTES + 1..]).map_err(RecordError::Body)?;
                Ok(Self { head, body })
            }
            Some(&FORMAT_WITHOUT_ERASED) => {
                let body = decode_without_erased(&bytes[HEAD_BYTES + 1..]).map_err(RecordError::Body)?;
                Ok(Self { head, body })
            }
            Some(&other) => Err(RecordError::Format(other)),
            None => Err(RecordError::NoHead(bytes.len())),
        }
    }

    /// When the first reservation of an encoded record expires.
    pub(crate) fn expiry_in(bytes: &[u8]) -> Option<Micros> {
        let (format, body) = bytes.get(HEAD_BYTES..)?.split_first()?;
        if ![FORMAT, FORMAT_WITHOUT_ERASED].contains(format) {
            return None;
        }
        postcard::take_from_bytes::<Option<Micros>>(body).ok()?.0
    }
}

/// The two flags there were lead the body, each a byte; the third one follows them.
fn decode_without_erased(bytes: &[u8]) -> Result<RecordBody, postcard::Error> {
    let (_, body) = postcard::take_from_bytes::<Option<Micros>>(bytes)?;
    let (flags, rest) = body.split_at_checked(2).ok_or(postcard::Error::DeserializeUnexpectedEnd)?;
    postcard::from_bytes(&[flags, &[0], rest].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let mut body = RecordBody::new(TierName::new("pro").unwrap());
        body.charge(&Unit::tokens(), 5);
        body.charge(&Unit::tokens(), 7);
        Record { head: Head { fence: Fence(3), epoch: Epoch(1), version: Version(18) }, body }
    }

    #[test]
    fn a_record_reads_back_and_its_totals_add_up() {
        let bytes = record().encode().unwrap();
        assert_eq!(Record::decode(&bytes).unwrap(), record());
        assert_eq!(record().body.totals, vec![(Unit::tokens(), 12)]);
    }

    #[test]
    fn a_ninth_slot_puts_out_one_that_the_tier_does_not_have() {
        let mut body = record().body;
        let slot = |name: &str| SlotName::new(name).unwrap();
        let state = |name: &str| SlotState {
            slot: slot(name),
            policy: PolicyName::new("p").unwrap(),
            digest: [0; 32],
            schema: 1,
            state: Vec::new(),
        };
        for name in ["a", "b", "c", "d", "e", "f", "g", "h"] {
            body.put_state(state(name), |_| true);
        }
        body.put_state(state("i"), |held| held.slot.as_str() != "c");
        let held: Vec<&str> = body.slots.iter().map(|state| state.slot.as_str()).collect();
        assert_eq!(held, ["a", "b", "d", "e", "f", "g", "h", "i"]);
    }

    #[test]
    fn no_cut_or_foreign_record_is_taken_for_one() {
        let mut bytes = record().encode().unwrap();
        for end in 0..bytes.len() {
            assert!(Record::decode(&bytes[..end]).is_err(), "cut at {end}");
        }
        bytes[HEAD_BYTES] = 9;
        assert_eq!(Record::decode(&bytes), Err(RecordError::Format(9)));
    }

    #[test]
    fn a_record_from_before_users_could_be_erased_reads_back() {
        let mut record = record();
        record.body.flags.blocked = true;
        record.body.reservations.push(reservation(Micros(70), 2));
        let mut old = record.encode().unwrap();
        let flags = HEAD_BYTES + 1 + postcard::to_allocvec(&record.body.next_expiry()).unwrap().len();
        assert_eq!(old.remove(flags + 2), 0);
        old[HEAD_BYTES] = FORMAT_WITHOUT_ERASED;
        assert_eq!(Record::decode(&old).unwrap(), record);
        assert_eq!(Record::expiry_in(&old), Some(Micros(70)));
        for end in HEAD_BYTES..old.len() {
            assert!(Record::decode(&old[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn the_first_expiry_is_read_without_the_rest() {
        let mut record = record();
        assert_eq!(Record::expiry_in(&record.encode().unwrap()), None);
        for expires_at in [Micros(90), Micros(70), Micros(80)] {
            record.body.reservations.push(reservation(expires_at, 2));
        }
        assert_eq!(Record::expiry_in(&record.encode().unwrap()), Some(Micros(70)));
    }

    fn reservation(expires_at: Micros, slots: usize) -> Reservation {
        let charge = ChargeId { epoch: Epoch(3), fence: Fence(900), version: Version(1 << 40), place: 31 };
        let take = Take { taker: Taker([7; 8]), amount: 1 << 40, granted: 0 };
        Reservation {
            charge,
            at: Micros(1_700_000_000_000_000),
            expires_at,
            on_expiry: OnExpiry::Charge,
            charges: vec![(Unit::requests(), 1), (Unit::tokens(), 1 << 40)],
            takes: vec![take; slots],
        }
    }

    #[test]
    fn as_many_reservations_as_there_may_be_fit_over_eight_slots() {
        let mut record = record();
        let full = reservation(Micros(1_700_000_060_000_000), 8);
        record.body.reservations = vec![full; RESERVATIONS_MAX];
        assert!(record.body.has_room(0), "{} bytes", record.encode().unwrap().len());
    }

    #[test]
    fn grants_are_spent_in_the_order_they_end_and_given_back_in_the_other() {
        let slot = SlotName::new("monthly").unwrap();
        let grant = |amount, until| Grant { slot: slot.clone(), amount, spent: 0, until: Micros(until) };
        let mut body = record().body;
        body.grants = vec![grant(10, 300), grant(5, 200), grant(7, 100)];
        assert_eq!(body.granted(&slot, Micros(100)), 15, "what has ended does not count");
        body.spend_grants(&slot, 8, Micros(100));
        let spent = |body: &RecordBody| body.grants.iter().map(|g| g.spent).collect::<Vec<_>>();
        assert_eq!(spent(&body), [0, 5, 3]);
        body.return_grants(&slot, 4, Micros(100));
        assert_eq!(spent(&body), [0, 4, 0]);
        body.return_grants(&slot, 9, Micros(200));
        assert_eq!(spent(&body), [0, 4, 0], "none in force has spent it");
    }

    #[test]
    fn heads_compare_in_the_order_they_were_written() {
        let head = |fence, version| Head { fence: Fence(fence), epoch: Epoch(1), version: Version(version) };
        assert!(head(1, 900) < head(2, 3) && head(2, 3) < head(2, 4));
    }
}
