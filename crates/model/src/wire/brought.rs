//! Users brought from elsewhere, and taken there: the lines of `cellctl users import` and `export`.

use crate::{CellName, RegionName, TierName, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;

/// Users of one call.
pub const BROUGHT_MAX: usize = 200;

/// A line.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BroughtUser {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    pub email: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub tier: TierName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<RegionName>,
    /// argon2 or scrypt in PHC form, or bcrypt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_hash: Option<String>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub preferences: Map<String, Value>,
}

/// Nothing of a person, and no hash.
impl fmt::Debug for BroughtUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BroughtUser(..)")
    }
}

/// `POST /admin/v1/users/import`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BringUsers {
    pub users: Vec<BroughtUser>,
}

/// One of them on its way to a cell.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlacedUser {
    pub user_id: UserId,
    /// Of everything the line says: the same line is the same sign-up.
    pub intent: String,
    pub user: BroughtUser,
}

/// `POST /admin/v1/users/import-placed` of a cell
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BringPlacedUsers {
    pub users: Vec<PlacedUser>,
}

/// What became of each, in order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BroughtUsers {
    pub results: Vec<Brought>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Brought {
    Created {
        user_id: UserId,
    },
    /// By an earlier call with the same line.
    Unchanged {
        user_id: UserId,
    },
    /// The e-mail, or the id, is another sign-up's.
    Conflict {
        problem: String,
    },
    /// The line makes no sense.
    Invalid {
        pointer: String,
        message: String,
    },
    /// Unknown: to be repeated.
    Again {
        detail: String,
    },
    /// Between cell and router: an earlier attempt went there.
    Elsewhere {
        cell: CellName,
    },
}

impl Brought {
    pub fn invalid(pointer: &str, message: &str) -> Self {
        Brought::Invalid { pointer: pointer.to_owned(), message: message.to_owned() }
    }

    pub fn again(detail: impl Into<String>) -> Self {
        Brought::Again { detail: detail.into() }
    }
}
