//! A user's quota record: everything a check needs to know of him, in one value of Redis.
//!
//! A 24-byte head (fence, epoch, version; big-endian, so that scripts can read it) and a postcard
//! body behind one byte that names its format.

use cellar_model::{ChargeId, Epoch, Fence, Micros, PolicyName, Revision, SlotName, TierName, Unit, Version};
use serde::{Deserialize, Serialize};

/// The largest record a commit may write.
pub const RECORD_BYTES_MAX: usize = 16 * 1024;
/// Slots kept at most: those of the tier and those of earlier tiers that have not reset yet.
pub(crate) const SLOTS_MAX: usize = 8;
const HEAD_BYTES: usize = 24;
const FORMAT: u8 = 1;

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
    pub expires_at: Micros,
    pub takes: Vec<Take>,
}

/// What one slot gave a reservation, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Take {
    pub slot: SlotName,
    pub policy: PolicyName,
    pub amount: u64,
    pub at: Micros,
}

/// Other settings of a slot for this user until a date; JSON as the policy's `configure` takes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Override {
    pub slot: SlotName,
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

    /// Puts a slot's new state. A slot that changed its policy starts anew; when there would be more than
    /// `SLOTS_MAX`, the oldest one that the tier does not have (`in_tier`) gives way.
    pub fn put_state(&mut self, new: SlotState, in_tier: impl Fn(&SlotName) -> bool) {
        if let Some(held) = self.slots.iter_mut().find(|held| held.slot == new.slot) {
            *held = new;
            return;
        }
        if self.slots.len() == SLOTS_MAX {
            // A tier has no more slots than a record, so one of these eight is not its own.
            let foreign = self.slots.iter().position(|held| !in_tier(&held.slot)).unwrap_or(0);
            self.slots.remove(foreign);
        }
        self.slots.push(new);
    }

    pub fn charge(&mut self, unit: &Unit, amount: u64) {
        match self.totals.iter_mut().find(|(held, _)| held == unit) {
            Some((_, total)) => *total = total.saturating_add(amount),
            None => self.totals.push((unit.clone(), amount)),
        }
    }
}

impl Record {
    pub fn encode(&self) -> Result<Vec<u8>, RecordError> {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&self.head.to_bytes());
        bytes.push(FORMAT);
        let bytes = postcard::to_extend(&self.body, bytes).map_err(RecordError::Body)?;
        if bytes.len() > RECORD_BYTES_MAX {
            return Err(RecordError::TooLarge(bytes.len()));
        }
        Ok(bytes)
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let head = Head::from_bytes(bytes).ok_or(RecordError::NoHead(bytes.len()))?;
        match bytes.get(HEAD_BYTES) {
            Some(&FORMAT) => {
                let body = postcard::from_bytes(&bytes[HEAD_BYTES + 1..]).map_err(RecordError::Body)?;
                Ok(Self { head, body })
            }
            Some(&other) => Err(RecordError::Format(other)),
            None => Err(RecordError::NoHead(bytes.len())),
        }
    }
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
        body.put_state(state("i"), |slot| slot.as_str() != "c");
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
    fn heads_compare_in_the_order_they_were_written() {
        let head = |fence, version| Head { fence: Fence(fence), epoch: Epoch(1), version: Version(version) };
        assert!(head(1, 900) < head(2, 3) && head(2, 3) < head(2, 4));
    }
}
