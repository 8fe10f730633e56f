//! Ledger entries: one user's commit, with its checks packed.

use cellar_model::{Answer, BodyHash, ChargeId, Epoch, KeyId, Micros, Unit, UserId, Version};
use serde::{Deserialize, Serialize};

/// One user's commit. In the stream entries of a batch follow each other, each behind its length;
/// `n` is the place in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LedgerEntry {
    pub user: UserId,
    pub epoch: Epoch,
    pub version: Version,
    pub kind: EntryKind,
    /// Of the commit's last check.
    pub at: Micros,
    pub checks: Vec<LedgerCheck>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    Consume,
    Reserve,
    Settle,
    Refund,
    Grant,
    Override,
    /// Tier, block, freeze: a commit of the record that charges nothing.
    Change,
    /// Forced in from an earlier fence.
    Late,
}

impl EntryKind {
    pub(crate) fn as_i16(self) -> i16 {
        self as i16
    }
}

/// One admitted check of a commit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LedgerCheck {
    pub charge: ChargeId,
    pub charges: Vec<(Unit, u64)>,
    pub key: Option<KeyedAnswer>,
}

/// What a repeat of the check's idempotency key must be answered, and until when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyedAnswer {
    pub id: KeyId,
    pub body: BodyHash,
    pub answer: Answer,
    pub window_s: u32,
}

impl LedgerEntry {
    /// By unit, what the commit charged.
    pub fn charges(&self) -> Vec<(Unit, u64)> {
        let mut sums: Vec<(Unit, u64)> = Vec::with_capacity(2);
        for (unit, amount) in self.checks.iter().flat_map(|check| &check.charges) {
            match sums.iter_mut().find(|(held, _)| held == unit) {
                Some((_, sum)) => *sum = sum.saturating_add(*amount),
                None => sums.push((unit.clone(), *amount)),
            }
        }
        sums
    }

    /// Appends the entry behind its length.
    pub(crate) fn pack(&self, into: &mut Vec<u8>) -> Result<(), postcard::Error> {
        let bytes = postcard::to_allocvec(self)?;
        into.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        into.extend_from_slice(&bytes);
        Ok(())
    }

    /// The entries of one batch, in order.
    pub(crate) fn unpack_all(mut packed: &[u8]) -> Result<Vec<Self>, postcard::Error> {
        let mut entries = Vec::new();
        while !packed.is_empty() {
            let (length, rest) = packed.split_at_checked(4).ok_or(postcard::Error::DeserializeUnexpectedEnd)?;
            let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
            let (entry, rest) = rest.split_at_checked(length).ok_or(postcard::Error::DeserializeUnexpectedEnd)?;
            entries.push(postcard::from_bytes(entry)?);
            packed = rest;
        }
        Ok(entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cellar_model::Fence;

    fn entry(n: u32) -> LedgerEntry {
        let charge = ChargeId { epoch: Epoch(1), fence: Fence(2), version: Version(3), place: n };
        let check = LedgerCheck { charge, charges: vec![(Unit::requests(), 1), (Unit::tokens(), 10)], key: None };
        LedgerEntry {
            user: UserId::new("u").unwrap(),
            epoch: Epoch(1),
            version: Version(3),
            kind: EntryKind::Consume,
            at: Micros(9),
            checks: vec![check.clone(), check],
        }
    }

    #[test]
    fn packed_entries_come_back_in_order_and_a_cut_is_an_error() {
        let mut packed = Vec::new();
        for n in 0..3 {
            entry(n).pack(&mut packed).unwrap();
        }
        assert_eq!(LedgerEntry::unpack_all(&packed).unwrap(), vec![entry(0), entry(1), entry(2)]);
        assert!(LedgerEntry::unpack_all(&packed[..packed.len() - 1]).is_err());
    }

    #[test]
    fn charges_sum_by_unit() {
        assert_eq!(entry(0).charges(), vec![(Unit::requests(), 2), (Unit::tokens(), 20)]);
    }
}
