//! Who asks.

use cellar_model::{KeyName, Problem, ProblemType, Scope, SessionId, TierName, UserId};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub enum Caller {
    Service {
        name: KeyName,
        scopes: Arc<[Scope]>,
        auto_enrol: Option<TierName>,
    },
    Operator {
        name: KeyName,
    },
    /// A session whose MAC is right. Whether it is still good, its cell says.
    Session {
        user: UserId,
        session: SessionId,
        secret_hash: [u8; 32],
    },
}

/// What a service key does with a user id never seen before: signs it up, in this tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    pub by: KeyName,
    pub tier: TierName,
}

impl Caller {
    /// Whether this caller's first sight of a user id is a sign-up.
    pub fn enrolment(&self) -> Option<Enrolment> {
        match self {
            Caller::Service { name, auto_enrol: Some(tier), .. } => {
                Some(Enrolment { by: name.clone(), tier: tier.clone() })
            }
            _ => None,
        }
    }

    /// The name that scopes idempotency keys and stands in the audit trail.
    pub fn name(&self) -> KeyName {
        match self {
            Caller::Service { name, .. } | Caller::Operator { name } => name.clone(),
            Caller::Session { .. } => KeyName::new("session").expect("a name of the alphabet"),
        }
    }

    /// 403 unless this caller may do what `scope` covers.
    pub fn require(&self, scope: Scope) -> Result<(), Problem> {
        let may = match self {
            Caller::Service { scopes, .. } => scopes.contains(&scope),
            Caller::Operator { .. } => scope == Scope::Admin,
            Caller::Session { .. } => false,
        };
        if may { Ok(()) } else { Err(Problem::new(ProblemType::Forbidden)) }
    }
}
