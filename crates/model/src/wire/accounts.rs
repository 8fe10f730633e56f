//! Bodies about one account, as service keys and operators ask for them.

use crate::{TierName, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// `GET /v1/internal/users/{id}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UserDetails {
    pub user_id: UserId,
    pub email: Option<String>,
    pub name: Option<String>,
    pub tier: TierName,
    pub state: UserState,
    /// Whether there is a password to log in with.
    pub has_password: bool,
    pub created_at: String,
    pub last_login_at: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserState {
    Active,
    Blocked,
}

/// `PUT /v1/internal/users/{id}/tier`
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierBody {
    pub tier: TierName,
}

/// `PUT /v1/internal/users/{id}/password`, and `PUT /v1/user/password`, where a session has to know the present one.
/// Nothing prints it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PasswordBody {
    pub password: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current_password: Option<String>,
}

/// `GET /v1/user/export`: what leads the person's rows of the ledger, which follow as the member `ledger`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExportHead {
    pub exported_at: String,
    pub account: UserDetails,
    pub preferences: Map<String, Value>,
    /// Also those that are over and have not been swept yet.
    pub sessions: Vec<ExportedSession>,
    /// What is left by policy; none if the engine could not say.
    pub quota: Option<super::QuotaBody>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExportedSession {
    pub session_id: String,
    pub device: Value,
    pub created_at: String,
    pub last_active: String,
    pub expires_at: String,
    pub revoked_at: Option<String>,
}
