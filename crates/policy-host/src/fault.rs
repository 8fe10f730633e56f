//! Why a policy gave no usable answer.

use wasmtime::Trap;

/// A policy failed, or its breaker is open. What the caller gets then is the tier's `on_fault`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    #[error("the policy trapped: {what}")]
    Trapped { what: String },
    #[error("the policy used up its fuel")]
    OutOfFuel,
    #[error("the policy's outcome cannot be true: {what}")]
    BadOutcome { what: &'static str },
    #[error("the policy failed too often and is not asked for now")]
    BreakerOpen,
    #[error("no instance of the policy could be made: {what}")]
    NoInstance { what: String },
    #[error("the policy cannot read a state of schema {from_schema}: {message}")]
    NotMigrated { from_schema: u32, message: String },
}

impl Fault {
    /// Every label `kind` can give, for metrics that stand at zero from the start.
    pub const KINDS: [&'static str; 6] =
        ["trapped", "out-of-fuel", "bad-outcome", "breaker-open", "no-instance", "not-migrated"];

    /// The metric's label.
    pub fn kind(&self) -> &'static str {
        match self {
            Fault::Trapped { .. } => "trapped",
            Fault::OutOfFuel => "out-of-fuel",
            Fault::BadOutcome { .. } => "bad-outcome",
            Fault::BreakerOpen => "breaker-open",
            Fault::NoInstance { .. } => "no-instance",
            Fault::NotMigrated { .. } => "not-migrated",
        }
    }

    /// What the runtime reports when a call into a policy did not return.
    pub(crate) fn of_call(error: &wasmtime::Error) -> Self {
        match error.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => Fault::OutOfFuel,
            Some(trap) => Fault::Trapped { what: trap.to_string() },
            None => Fault::Trapped { what: error.to_string() },
        }
    }
}
