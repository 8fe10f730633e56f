//! What a policy answers.

/// The answer, with the state as the policy's own type or, at the component's edge, as bytes.
///
/// The host holds every outcome to this and takes what cannot be true for a fault of the policy.
///
/// ```
/// use cellar_policy_sdk::Outcome;
///
/// let stands = |remaining| Outcome::<u64> {
///     admitted: true, state: None, limit: 10, remaining, retry_after_us: 0, reset_after_us: 60_000_000, note: 0,
/// };
/// let admitted = Outcome { state: Some(7), ..stands(3) };
/// let denied = Outcome { admitted: false, retry_after_us: 60_000_000, ..stands(3) };
/// assert!(admitted.state.is_some() && denied.state.is_none());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome<State> {
    /// Whether the cost may be spent. A question and a settle always are.
    pub admitted: bool,
    /// None leaves the state as it was. A denial has none, and neither has a question.
    pub state: Option<State>,
    /// The most one call can ever be admitted.
    pub limit: u64,
    /// What could be taken now, after this call. At most `limit`.
    pub remaining: u64,
    /// Until this cost would pass, in microseconds, to the first at which it does. Zero when admitted, and when no
    /// waiting helps. At most [`TIME_MAX_US`](crate::TIME_MAX_US).
    pub retry_after_us: u64,
    /// Until everything could be taken again, in microseconds. At most [`TIME_MAX_US`](crate::TIME_MAX_US).
    pub reset_after_us: u64,
    /// The policy's own remark, counted from 1 in [`Policy::NOTES`](crate::Policy::NOTES); zero says nothing.
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
