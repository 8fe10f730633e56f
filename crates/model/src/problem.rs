//! RFC 9457 problem documents: the stable, documented types of everything that is not an answer.

use serde::{Deserialize, Serialize};

/// One member that is wrong, by JSON pointer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingProblem {
    pub pointer: String,
    pub message: String,
}

impl SettingProblem {
    pub fn new(pointer: &str, message: &str) -> Self {
        Self { pointer: pointer.to_owned(), message: message.to_owned() }
    }
}

macro_rules! problem_types {
    ($($(#[$doc:meta])* $name:ident = $slug:literal, $status:literal, $title:literal;)*) => {
        /// What went wrong, for machines. The status and the title follow from it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum ProblemType { $($(#[$doc])* $name,)* }

        impl ProblemType {
            pub const ALL: &[ProblemType] = &[$(ProblemType::$name,)*];

            pub fn slug(self) -> &'static str {
                match self { $(ProblemType::$name => $slug,)* }
            }

            pub fn status(self) -> u16 {
                match self { $(ProblemType::$name => $status,)* }
            }

            pub fn title(self) -> &'static str {
                match self { $(ProblemType::$name => $title,)* }
            }
        }
    };
}

problem_types! {
    /// Not JSON, not UTF-8, a header that cannot be read.
    Malformed = "malformed", 400, "The request could not be read";
    Unauthorized = "unauthorized", 401, "A valid credential is needed";
    /// Of an admit: what came is no token of this service, or its session has been revoked or has expired.
    InvalidSession = "invalid-session", 401, "The session is not in force";
    /// The key's scopes do not cover this.
    Forbidden = "forbidden", 403, "This credential may not do that";
    Blocked = "blocked", 403, "The account is blocked";
    NotFound = "not-found", 404, "There is nothing here";
    UnknownUser = "unknown-user", 404, "There is no such user";
    UnknownCharge = "unknown-charge", 404, "The user has no such charge";
    MethodNotAllowed = "method-not-allowed", 405, "This method is not served here";
    EmailTaken = "email-taken", 409, "The e-mail belongs to another account";
    /// It was settled, refunded, or given back when it expired.
    ChargeClosed = "charge-closed", 409, "The charge has been settled or given back";
    NotReserved = "not-reserved", 409, "The charge is not a reservation";
    TooManyReservations = "too-many-reservations", 409, "The user has 64 open reservations";
    RecordFull = "record-full", 409, "The user's record has no room for this";
    Conflict = "conflict", 409, "The request contradicts what is there";
    PreconditionFailed = "precondition-failed", 412, "It has changed since it was read";
    TooLarge = "too-large", 413, "The body is too large";
    Misdirected = "misdirected", 421, "Another cell is this user's home";
    Invalid = "invalid", 422, "The request makes no sense as it is";
    UnknownUnit = "unknown-unit", 422, "No policy of the tier meters this unit";
    AboveLimit = "above-limit", 422, "More than the limit can ever admit";
    KeyReused = "key-reused", 422, "The idempotency key was used with another body";
    ClockNotVirtual = "clock-not-virtual", 422, "at_us is taken by a virtual clock only";
    UnknownSlot = "unknown-slot", 422, "The user's tier has no such slot that enforces";
    UnknownTier = "unknown-tier", 422, "There is no such tier";
    Moving = "moving", 423, "The user is being moved";
    QuotaExceeded = "quota-exceeded", 429, "The quota is exhausted";
    TooManyAttempts = "too-many-attempts", 429, "Too many attempts";
    Internal = "internal", 500, "The service failed";
    /// Unknown, never "no": repeat with the same idempotency key.
    TryAgain = "try-again", 503, "The answer is unknown; try again";
}

impl ProblemType {
    /// The `type` member. A denial has the registered type; the rest are documented at this path.
    pub fn uri(self) -> String {
        match self {
            ProblemType::QuotaExceeded => "https://iana.org/assignments/http-problem-types#quota-exceeded".to_owned(),
            other => format!("/problems/{}", other.slug()),
        }
    }
}

/// A problem on its way to the caller. `detail` is for people, and never holds a secret or
/// anything of a profile.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    pub kind: ProblemType,
    pub detail: Option<String>,
    pub errors: Vec<SettingProblem>,
    /// Seconds, for `Retry-After`.
    pub retry_after_s: Option<u64>,
}

impl Problem {
    pub fn new(kind: ProblemType) -> Self {
        Self { kind, detail: None, errors: Vec::new(), retry_after_s: None }
    }

    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub fn errors(mut self, errors: Vec<SettingProblem>) -> Self {
        self.errors = errors;
        self
    }

    pub fn retry_after_s(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    pub fn to_json(&self) -> serde_json::Map<String, serde_json::Value> {
        let mut body = serde_json::Map::new();
        body.insert("type".into(), self.kind.uri().into());
        body.insert("title".into(), self.kind.title().into());
        body.insert("status".into(), self.kind.status().into());
        if let Some(detail) = &self.detail {
            body.insert("detail".into(), detail.as_str().into());
        }
        if !self.errors.is_empty() {
            let errors = self.errors.iter().map(|e| serde_json::json!({"pointer": e.pointer, "message": e.message}));
            body.insert("errors".into(), errors.collect());
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_has_its_own_slug() {
        let mut slugs: Vec<_> = ProblemType::ALL.iter().map(|p| p.slug()).collect();
        slugs.sort_unstable();
        slugs.dedup();
        assert_eq!(slugs.len(), ProblemType::ALL.len());
    }
}
