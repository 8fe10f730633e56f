//! One user of a policy.

use super::answer::{Answer, Call, Held, asked, told};
use super::moment::{Moment, duration_us};
use super::settings::{IntoSettings, parameters};
use super::truth::truth;
use crate::fixed::Fixed;
use crate::outcome::Outcome;
use crate::policy::{Policy, decide};
use crate::request::{Attribute, Operation, Request, TIME_MAX_US};
use std::marker::PhantomData;
use std::time::Duration;

/// Where a user's time begins: 2023-11-14T22:13:20Z. Any moment would do.
pub(super) const START_US: u64 = 1_700_000_000_000_000;

/// Calls that a failed assertion shows.
const CALLS_SHOWN: usize = 12;

/// One user under some settings, who asks and keeps the state, as a cell does.
///
/// Every answer is held to the host's own rules ([`truth`](crate::testing::truth)): a test fails at the call that
/// the host would take for a fault. Time stands still until the test moves it, and begins at 2023-11-14T22:13:20Z.
///
/// ```
/// use cellar_policy_sdk::example::Rule;
/// use cellar_policy_sdk::testing::{Sim, hours, json};
///
/// let mut user = Sim::<Rule>::new(json!({ "limit": 100 }));
/// user.at("2024-05-01T09:00:00Z").consume(30).admitted().remaining(70);
///
/// // Reserved, and settled an hour later: the rest comes back.
/// let held = user.reserve(50).admitted().held();
/// user.after(hours(1)).settle(held, 20).remaining(50);
///
/// // Another tier: what was spent stays spent.
/// user.under(json!({ "limit": 60 })).peek().remaining(10);
/// ```
pub struct Sim<P: Policy> {
    settings: String,
    parameters: Vec<u8>,
    state: Vec<u8>,
    now_us: u64,
    attributes: Vec<Attribute>,
    calls: Vec<Call>,
    policy: PhantomData<P>,
}

impl<P: Policy> Sim<P> {
    /// A user whom the policy has not seen.
    ///
    /// # Panics
    /// If the policy refuses the settings, with everything that is wrong with them.
    #[track_caller]
    pub fn new(settings: impl IntoSettings) -> Self {
        let settings = settings.into_json();
        let parameters = parameters::<P>(&settings);
        let (state, attributes, calls) = (Vec::new(), Vec::new(), Vec::new());
        Self { settings, parameters, state, now_us: START_US, attributes, calls, policy: PhantomData }
    }

    /// Goes to a moment, `"2024-02-29T23:59:59Z"` or microseconds since the epoch.
    ///
    /// # Panics
    /// If it is before the present one: a user's time never runs backwards. The first call may go anywhere.
    #[track_caller]
    pub fn at(&mut self, moment: impl Moment) -> &mut Self {
        let us = moment.us();
        assert!(self.calls.is_empty() || us >= self.now_us, "a user's time never runs backwards");
        self.now_us = us;
        self
    }

    /// Lets so much time pass.
    pub fn after(&mut self, pause: Duration) -> &mut Self {
        self.now_us = self.now_us.saturating_add(duration_us(pause)).min(TIME_MAX_US);
        self
    }

    /// Gives the next call an attribute.
    ///
    /// ```
    /// # use cellar_policy_sdk::example::Rule;
    /// # let mut user = cellar_policy_sdk::testing::Sim::<Rule>::new(r#"{"limit": 10}"#);
    /// user.with("model", "large").consume(1).admitted();
    /// ```
    pub fn with(&mut self, name: &str, value: &str) -> &mut Self {
        self.attributes.push(Attribute { name: name.to_owned(), value: value.to_owned() });
        self
    }

    /// Goes on under other settings, with the state as it is: what a change of the tier does.
    ///
    /// # Panics
    /// If the policy refuses them.
    #[track_caller]
    pub fn under(&mut self, settings: impl IntoSettings) -> &mut Self {
        self.settings = settings.into_json();
        self.parameters = parameters::<P>(&self.settings);
        self
    }

    /// Takes `cost`.
    #[track_caller]
    pub fn consume(&mut self, cost: u64) -> Answer {
        let request = Request::new(Operation::Consume, self.now_us, cost);
        self.tell(request)
    }

    /// Takes `cost` until it is settled.
    #[track_caller]
    pub fn reserve(&mut self, cost: u64) -> Answer {
        let request = Request::new(Operation::Reserve, self.now_us, cost);
        self.tell(request)
    }

    /// Says what a reservation really used: more or less than it held.
    #[track_caller]
    pub fn settle(&mut self, held: Held, used: u64) -> Answer {
        let request = Request::settle(self.now_us, used, held.amount, held.at_us);
        self.tell(request)
    }

    /// Gives a reservation back: a settle at nothing.
    #[track_caller]
    pub fn release(&mut self, held: Held) -> Answer {
        self.settle(held, 0)
    }

    /// Only asks what is left.
    #[track_caller]
    pub fn peek(&mut self) -> Answer {
        let request = Request::new(Operation::Peek, self.now_us, 0);
        self.tell(request)
    }

    /// The user's time, in microseconds since the epoch.
    pub fn now_us(&self) -> u64 {
        self.now_us
    }

    /// What is kept of the user; none before anything was taken.
    pub fn state(&self) -> Option<P::State> {
        P::State::from_bytes(&self.state)
    }

    /// The state as it is stored; no bytes before anything was taken.
    pub fn state_bytes(&self) -> &[u8] {
        &self.state
    }

    #[track_caller]
    fn tell(&mut self, mut request: Request) -> Answer {
        request.attributes = std::mem::take(&mut self.attributes);
        match self.try_tell(request) {
            Ok(outcome) => {
                let shown = self.calls.len().saturating_sub(CALLS_SHOWN);
                let (calls, settings) = (self.calls[shown..].to_vec(), self.settings.clone());
                Answer { outcome, calls, settings, notes: P::NOTES }
            }
            Err(broken) => panic!("{broken}"),
        }
    }

    /// Asks, and keeps the state; or says what the host would not believe.
    pub(super) fn try_tell(&mut self, request: Request) -> Result<Outcome<Vec<u8>>, String> {
        let outcome = self.try_ask(request)?;
        if let Some(state) = &outcome.state {
            self.state.clone_from(state);
        }
        Ok(outcome)
    }

    /// The same, and the user stays as it was.
    pub(super) fn try_ask(&mut self, request: Request) -> Result<Outcome<Vec<u8>>, String> {
        let outcome = {
            // A policy that panics is a fault of its own; what it was asked is said all the same.
            let _said_if_it_panics = Asking { settings: &self.settings, request: &request };
            decide::<P>(&self.parameters, &self.state, &request)
        };
        let checked = truth(&outcome, &request);
        self.calls.push(Call { request, outcome: outcome.clone() });
        match checked {
            Ok(()) => Ok(outcome),
            Err(lie) => Err(self.broken(&format!("that is {lie}: the host takes it for a fault of the policy"))),
        }
    }

    /// What was asked until now, and what is wrong with it.
    pub(super) fn broken(&self, but: &str) -> String {
        let shown = self.calls.len().saturating_sub(CALLS_SHOWN);
        told(&self.settings, &self.calls[shown..], P::NOTES, but)
    }

    /// The same user once more.
    pub(super) fn twin(&self) -> Self {
        Self {
            settings: self.settings.clone(),
            parameters: self.parameters.clone(),
            state: self.state.clone(),
            attributes: self.attributes.clone(),
            calls: self.calls.clone(),
            ..*self
        }
    }

    pub(super) fn parameters(&self) -> &[u8] {
        &self.parameters
    }
}

struct Asking<'a> {
    settings: &'a str,
    request: &'a Request,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the policy panicked, asked under {}:\n  {}", self.settings.trim(), asked(self.request));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::Rule;
    use crate::testing::{hours, json};

    #[test]
    #[should_panic(expected = "2023-11-14T22:13:20Z  consume 11: denied, 10 of 10 left")]
    fn a_failed_assertion_shows_what_was_asked_and_answered() {
        Sim::<Rule>::new(json!({ "limit": 10 })).consume(11).admitted();
    }

    #[test]
    #[should_panic(expected = "\"/limit\": must be at least 1")]
    fn settings_that_are_refused_are_said_in_full() {
        Sim::<Rule>::new(json!({ "limit": 0 }));
    }

    #[test]
    #[should_panic(expected = "never runs backwards")]
    fn time_does_not_run_backwards() {
        let mut user = Sim::<Rule>::new(json!({ "limit": 10 }));
        user.consume(1);
        user.at("2023-11-14T22:13:19Z");
    }

    #[test]
    fn a_twin_lives_his_own_life() {
        let mut user = Sim::<Rule>::new(json!({ "limit": 10 }));
        user.consume(4).admitted();
        let mut twin = user.twin();
        twin.after(hours(1)).consume(6).remaining(0);
        user.peek().remaining(6);
        assert!(user.state().is_some() && user.state_bytes() != twin.state_bytes());
    }

    #[test]
    fn an_attribute_is_for_one_call() {
        let mut user = Sim::<Rule>::new(json!({ "limit": 10 }));
        user.with("model", "large").consume(1);
        user.consume(1);
        let given: Vec<usize> = user.calls.iter().map(|call| call.request.attributes.len()).collect();
        assert_eq!(given, [1, 0]);
    }
}
