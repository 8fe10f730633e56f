//! One question to the quota engine, as it travels from router to cell.

use crate::{Cost, DeadlineMs, IdempotencyKey, Micros, UserId};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

/// The most attributes a check may carry; names and values are at most 64 bytes each.
pub const ATTRIBUTES_MAX: usize = 8;

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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operation {
    Consume,
    /// What is left, without spending.
    Peek,
}

/// What policies may look at besides the amount, `model=large`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribute {
    pub name: SmolStr,
    pub value: SmolStr,
}
