//! What a policy answers.

/// The answer, with the state as the policy's own type or, at the component's edge, as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome<State> {
    pub admitted: bool,
    /// None leaves the state as it was. A denial has none.
    pub state: Option<State>,
    /// The most one call can ever be admitted.
    pub limit: u64,
    /// What could be taken now, after this call. At most `limit`.
    pub remaining: u64,
    /// Until this cost would pass. Zero when admitted, and when no waiting helps.
    pub retry_after_us: u64,
    /// Until everything could be taken again.
    pub reset_after_us: u64,
    /// The policy's own remark, counted from 1 in `Policy::NOTES`; zero says nothing.
    pub note: u32,
}

impl<State> Outcome<State> {
    pub(crate) fn map_state<Other>(self, form: impl FnOnce(State) -> Other) -> Outcome<Other> {
        Outcome {
            admitted: self.admitted,
            state: self.state.map(form),
            limit: self.limit,
            remaining: self.remaining,
            retry_after_us: self.retry_after_us,
            reset_after_us: self.reset_after_us,
            note: self.note,
        }
    }
}
