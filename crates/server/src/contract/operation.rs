//! One operation of the HTTP contract, as its row says it.

use cellar_model::{ProblemType, Scope};

/// A row of the contract: what tools and people are told about one method of one path.
pub(super) struct Operation {
    /// Also the anchor in the reference.
    pub(super) id: &'static str,
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) tag: &'static str,
    pub(super) summary: &'static str,
    pub(super) description: &'static str,
    pub(super) by: By,
    /// Besides `Cellar-User` where a key acts for a user, and `Cellar-Deadline-Ms` everywhere.
    pub(super) parameters: &'static [Parameter],
    /// A schema's name.
    pub(super) body: Option<&'static str>,
    pub(super) success: Success,
    pub(super) also: Also,
    /// Besides those that follow from who asks and from a body.
    pub(super) problems: &'static [ProblemType],
    pub(super) examples: &'static [Example],
}

/// What else may be answered that is no problem.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Also {
    Nothing,
    /// Of a read whose ETag the caller has: 304.
    NotModified,
    /// Of a write that waits for the database, and counts: 202, as the success.
    Accepted,
}

/// Who may ask.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// A service key with this scope.
    Key(Scope),
    /// A service key with one of these, for the user it names; or a session, for its own.
    KeyOrSession(&'static [Scope]),
    /// A service key with the scope for users, or nobody: the password is the credential.
    KeyOrPassword,
}

/// A parameter of the shared list, `parameters.rs`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Parameter {
    User,
    Deadline,
    IdempotencyKey,
    IfMatch,
    IfNoneMatch,
    Keep,
    From,
    To,
    UserInPath,
    AccountInPath,
    SessionInPath,
}

pub(super) struct Success {
    pub(super) status: u16,
    pub(super) description: &'static str,
    /// A schema's name; none for an answer without a body.
    pub(super) schema: Option<&'static str>,
    /// Names of the shared list, `headers.rs`.
    pub(super) headers: &'static [&'static str],
    pub(super) links: &'static [Link],
}

/// What can be asked next with what was answered.
pub(super) struct Link {
    pub(super) name: &'static str,
    pub(super) operation: &'static str,
    /// Where a parameter's value stands, as runtime expressions.
    pub(super) parameters: &'static [(&'static str, &'static str)],
    /// JSON with runtime expressions; empty for none.
    pub(super) body: &'static str,
}

/// A request that a test sends, and what answers it.
pub(super) struct Example {
    pub(super) name: &'static str,
    pub(super) summary: &'static str,
    pub(super) parameters: &'static [(Parameter, &'static str)],
    /// JSON; empty for a request without a body.
    pub(super) body: &'static str,
    /// JSON; empty for an answer without a body.
    pub(super) answer: &'static str,
}

impl Operation {
    /// Every type of problem this may answer, each once, in the order of `ProblemType::ALL`.
    pub(super) fn all_problems(&self) -> Vec<ProblemType> {
        let any = [ProblemType::Malformed, ProblemType::TooLarge, ProblemType::Internal, ProblemType::TryAgain];
        let by: &[ProblemType] = match self.by {
            By::Key(_) => &[ProblemType::Unauthorized, ProblemType::Forbidden],
            By::KeyOrPassword | By::KeyOrSession(_) => &[
                ProblemType::Unauthorized,
                ProblemType::Forbidden,
                ProblemType::Blocked,
                ProblemType::UnknownUser,
                ProblemType::Invalid,
            ],
        };
        let body: &[ProblemType] = if self.body.is_some() { &[ProblemType::Invalid] } else { &[] };
        let may = |kind: &ProblemType| [&any[..], by, body, self.problems].iter().any(|kinds| kinds.contains(kind));
        ProblemType::ALL.iter().copied().filter(may).collect()
    }

    pub(super) fn all_parameters(&self) -> Vec<Parameter> {
        let user = matches!(self.by, By::KeyOrSession(_)).then_some(Parameter::User);
        self.parameters.iter().copied().chain(user).chain([Parameter::Deadline]).collect()
    }
}
