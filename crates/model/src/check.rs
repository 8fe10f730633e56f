//! One question to the quota engine, as it travels from router to cell.

use crate::{
    Amount, ChargeId, Cost, DeadlineMs, IdempotencyKey, Micros, Origin, PresentedSession, SlotName, TierName, UserId,
};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use std::sync::Arc;

/// The most attributes a check may carry; names and values are at most 64 bytes each.
pub const ATTRIBUTES_MAX: usize = 8;
/// How long a reservation stays open if its caller does not say, and at most: an hour is longer than
/// any request that is worth a reservation takes.
pub const RESERVATION_S_DEFAULT: u32 = 60;
pub const RESERVATION_S_MAX: u32 = 3_600;
/// The most bytes an override's settings may have, as JSON: they live in the user's record.
pub const OVERRIDE_BYTES_MAX: usize = 1_024;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    pub user: UserId,
    pub operation: Operation,
    pub cost: Cost,
    pub attributes: Vec<Attribute>,
    pub key: Option<IdempotencyKey>,
    /// Policy time said by the caller: only in a cell whose clock is virtual.
    pub at: Option<Micros>,
    /// What is left of the caller's patience. It ends his wait, never a commit under way.
    pub deadline: DeadlineMs,
    /// Of an admit: the cell decides nothing for the user while this session is not in force. Boxed, as
    /// most checks have none.
    pub session: Option<Box<PresentedSession>>,
    /// Whose request it is part of. It travels beside the checks of a call, so that who does not know of it
    /// reads them all the same.
    #[serde(skip)]
    pub origin: Option<Arc<Origin>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    Consume,
    /// What is left, without spending.
    Peek,
    /// Charges now; what was really used is said by a settle.
    Reserve {
        expires_in_s: u32,
    },
    /// Corrects a reservation to the check's cost.
    Settle {
        charge: ChargeId,
    },
    /// Gives a charge back.
    Refund {
        charge: ChargeId,
    },
    /// Boxed, like the next one: both are rare and large, and every check carries an operation.
    Grant(Box<GrantTerms>),
    Override(Box<OverrideTerms>),
    /// A cell's own: looks after what has expired in the user's record, and nothing else.
    Sweep,
    /// A cell's own: the record takes over what the account's row says.
    Adopt(Box<AccountTerms>),
    /// A cell's own: what the record holds beside its totals goes, and nothing is decided on it any more.
    Erase,
}

impl Operation {
    /// The charge that a settle or a refund closes.
    pub fn closes(&self) -> Option<ChargeId> {
        match self {
            Operation::Settle { charge } | Operation::Refund { charge } => Some(*charge),
            _ => None,
        }
    }
}

/// What an account's row says that its quota record has to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountTerms {
    pub tier: TierName,
    pub blocked: bool,
}

/// Extra for one user in one slot until a date.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantTerms {
    pub slot: SlotName,
    pub amount: Amount,
    pub until: Micros,
}

/// Other settings of one slot for one user until a date; JSON as the slot's policy takes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverrideTerms {
    pub slot: SlotName,
    pub settings: String,
    pub until: Micros,
}

/// What policies may look at besides the amount, `model=large`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    pub name: SmolStr,
    pub value: SmolStr,
}
