//! Bodies about one account, as service keys and operators ask for them.

use crate::{TierName, UserId, schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// `GET /v1/internal/users/{id}`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UserDetails {
    pub user_id: UserId,
    pub email: Option<String>,
    pub name: Option<String>,
    pub tier: TierName,
    pub state: UserState,
    /// Whether there is a password to log in with.
    pub has_password: bool,
    #[schema(value_type = schema::Time)]
    pub created_at: String,
    #[schema(value_type = Option<schema::Time>)]
    pub last_login_at: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum UserState {
    Active,
    Blocked,
}

/// `PUT /v1/internal/users/{id}/tier`
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TierBody {
    pub tier: TierName,
}

/// `PUT /v1/internal/users/{id}/password`, and `PUT /v1/user/password`, where a session has to know the present one.
/// Nothing prints it.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PasswordBody {
    #[schema(value_type = schema::PasswordText)]
    pub password: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    pub current_password: Option<String>,
}

/// `GET /v1/user/export`: what leads the person's rows of the ledger, which follow as the member `ledger`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ExportHead {
    #[schema(value_type = schema::Time)]
    pub exported_at: String,
    pub account: UserDetails,
    #[schema(value_type = schema::Preferences)]
    pub preferences: Map<String, Value>,
    /// Also those that are over and have not been swept yet.
    pub sessions: Vec<ExportedSession>,
    /// What is left by policy; none if the engine could not say.
    pub quota: Option<super::QuotaBody>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ExportedSession {
    pub session_id: String,
    #[schema(value_type = Object)]
    pub device: Value,
    #[schema(value_type = schema::Time)]
    pub created_at: String,
    #[schema(value_type = schema::Time)]
    pub last_active: String,
    #[schema(value_type = schema::Time)]
    pub expires_at: String,
    #[schema(value_type = Option<schema::Time>)]
    pub revoked_at: Option<String>,
}
