//! Ledger entries: one user's commit, with its checks packed.

use crate::record::Take;
use cellar_model::{
    AccountTerms, Answer, BodyHash, ChargeId, Epoch, GrantTerms, KeyId, Micros, OnExpiry, OverrideTerms, Unit, UserId,
    Version,
};
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

/// What a commit is filed under: of its checks' kinds the one that stands last here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
    /// A reservation that nobody settled.
    Expiry,
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
    pub at: Micros,
    pub act: Act,
    /// By unit; negative where something was given back.
    pub charges: Vec<(Unit, i64)>,
    /// Which slots gave it, of a charge that can still be given back.
    pub takes: Vec<Take>,
    pub key: Option<KeyedAnswer>,
}

/// What a check did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    Consume,
    Reserve { on_expiry: OnExpiry },
    Settle { of: ChargeId },
    Refund { of: ChargeId },
    Expire { of: ChargeId },
    Grant(Box<GrantTerms>),
    Override(Box<OverrideTerms>),
    Adopt(Box<AccountTerms>),
    Erase,
}

impl Act {
    fn kind(&self) -> EntryKind {
        match self {
            Act::Consume => EntryKind::Consume,
            Act::Reserve { .. } => EntryKind::Reserve,
            Act::Settle { .. } => EntryKind::Settle,
            Act::Refund { .. } => EntryKind::Refund,
            Act::Expire { .. } => EntryKind::Expiry,
            Act::Grant(_) => EntryKind::Grant,
            Act::Override(_) => EntryKind::Override,
            Act::Adopt(_) | Act::Erase => EntryKind::Change,
        }
    }
}

impl EntryKind {
    pub(crate) fn of(checks: &[LedgerCheck]) -> Self {
        checks.iter().map(|check| check.act.kind()).max().unwrap_or(EntryKind::Consume)
    }
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
    /// By unit, what the commit charged, less what it gave back.
    pub fn charges(&self) -> Vec<(Unit, i64)> {
        let mut sums: Vec<(Unit, i64)> = Vec::with_capacity(2);
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
        let check = LedgerCheck {
            charge,
            at: Micros(9),
            act: Act::Consume,
            charges: vec![(Unit::requests(), 1), (Unit::tokens(), 10)],
            takes: Vec::new(),
            key: None,
        };
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
    fn charges_sum_by_unit_less_what_was_given_back() {
        let mut entry = entry(0);
        assert_eq!(entry.charges(), vec![(Unit::requests(), 2), (Unit::tokens(), 20)]);
        let mut back = entry.checks[0].clone();
        back.act = Act::Settle { of: back.charge };
        back.charges = vec![(Unit::tokens(), -25)];
        entry.checks.push(back);
        assert_eq!(entry.charges(), vec![(Unit::requests(), 2), (Unit::tokens(), -5)]);
        assert_eq!(EntryKind::of(&entry.checks), EntryKind::Settle);
    }
}
