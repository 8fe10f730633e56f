//! What callers rely on, tested natively over generated histories. The certifier tests more, and the component.

use super::draw::{Draw, Scale, Step};
use super::moment::shown;
use super::settings::{IntoSettings, parameters};
use super::sim::Sim;
use crate::fixed::Fixed;
use crate::outcome::Outcome;
use crate::policy::{Policy, migrate};
use crate::request::{AMOUNT_MAX, Operation, Request, TIME_MAX_US};

/// Histories a property is tested with: tens of milliseconds of them.
const CASES: u64 = 200;

const DAY_US: u64 = 86_400_000_000;

/// Something that has to hold of a policy after any history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property {
    /// A call that is denied leaves the user as it was.
    ADenialChangesNothing,
    /// A peek, and a call at no cost, are admitted and leave the user as it was.
    AQuestionChangesNothing,
    /// What is said to remain would be admitted, and one more would not.
    RemainingIsExact,
    /// A denied call is admitted when it was promised and not a microsecond earlier; where no wait is named, none helps.
    RetryAfterIsHonest,
    /// Everything is back when it was promised, and not earlier.
    ResetAfterIsHonest,
    /// A settle at what was held leaves as much as there was.
    ASettleAtWhatWasHeldChangesNothing,
    /// A reservation that is released at the same instant was none.
    AReleaseAtOnceGivesAllBack,
    /// Parameters and states are what their bytes say, and `migrate` takes its own states.
    StatesAndParametersReadBack,
    /// Amounts, and settles of amounts, up to [`AMOUNT_MAX`], at any time up to [`TIME_MAX_US`].
    AmountsOfAnySizeAreAnswered,
}

/// Every [`Property`] of a policy under some settings, but those that it waives.
///
/// ```
/// use cellar_policy_sdk::example::Rule;
/// use cellar_policy_sdk::testing::properties;
///
/// properties::<Rule>(r#"{"limit": 10}"#);
/// ```
///
/// # Panics
/// If one is broken, with the shortest history that was found.
#[track_caller]
pub fn properties<P: Policy>(settings: impl IntoSettings) {
    let settings = settings.into_json();
    for property in Property::ALL {
        property.check::<P>(&settings);
    }
}

impl Property {
    /// In the order of a report.
    pub const ALL: [Property; 9] = [
        Property::ADenialChangesNothing,
        Property::AQuestionChangesNothing,
        Property::RemainingIsExact,
        Property::RetryAfterIsHonest,
        Property::ResetAfterIsHonest,
        Property::ASettleAtWhatWasHeldChangesNothing,
        Property::AReleaseAtOnceGivesAllBack,
        Property::StatesAndParametersReadBack,
        Property::AmountsOfAnySizeAreAnswered,
    ];

    /// The certifier's property that this is a part of: by its name a policy waives it.
    pub fn certified_as(self) -> &'static str {
        match self {
            Property::ADenialChangesNothing
            | Property::AQuestionChangesNothing
            | Property::AmountsOfAnySizeAreAnswered => "answers",
            Property::RemainingIsExact => "exact-remaining",
            Property::RetryAfterIsHonest => "honest-retry-after",
            Property::ResetAfterIsHonest => "honest-reset-after",
            Property::ASettleAtWhatWasHeldChangesNothing | Property::AReleaseAtOnceGivesAllBack => "settle-conserves",
            Property::StatesAndParametersReadBack => "migrates",
        }
    }

    /// Tests it, unless the policy waives it.
    ///
    /// # Panics
    /// If it is broken, with the shortest history that was found.
    #[track_caller]
    pub fn check<P: Policy>(self, settings: impl IntoSettings) {
        let settings = settings.into_json();
        parameters::<P>(&settings);
        if P::WAIVES.contains(&self.certified_as()) {
            return;
        }
        if let Err(broken) = self.search::<P>(&settings) {
            panic!("{self:?} is broken:{broken}");
        }
    }

    fn search<P: Policy>(self, settings: &str) -> Result<(), String> {
        let scale = Scale::of(&Sim::<P>::new(settings))?;
        for seed in 0..CASES {
            let mut steps = Draw::new(seed).steps(scale);
            let Err(mut broken) = self.case::<P>(settings, &steps, scale, seed) else { continue };
            // What can go without mending it goes: steps, then pauses, then amounts.
            let shorter = |candidate: &[Step]| self.case::<P>(settings, candidate, scale, seed).err();
            let mut at = 0;
            while at < steps.len() {
                let without: Vec<Step> = [&steps[..at], &steps[at + 1..]].concat();
                match shorter(&without) {
                    Some(still) => (steps, broken) = (without, still),
                    None => at += 1,
                }
            }
            for at in 0..steps.len() {
                for plain in [Step { pause_us: 0, ..steps[at] }, Step { cost: 1, ..steps[at] }] {
                    let mut plainer = steps.clone();
                    plainer[at] =
                        Step { pause_us: plain.pause_us.min(steps[at].pause_us), cost: plain.cost.min(steps[at].cost) };
                    if let Some(still) = shorter(&plainer) {
                        (steps, broken) = (plainer, still);
                    }
                }
            }
            return Err(broken);
        }
        Ok(())
    }

    /// One history, and the question after it.
    fn case<P: Policy>(self, settings: &str, steps: &[Step], scale: Scale, seed: u64) -> Result<(), String> {
        let mut user = Sim::<P>::new(settings);
        for step in steps {
            user.after(std::time::Duration::from_micros(step.pause_us));
            user.try_tell(Request::new(Operation::Consume, user.now_us(), step.cost))?;
        }
        // Drawn apart from the history, so that it stays the same while that is made shorter.
        let (amount, pause_us) = {
            let mut draw = Draw::new(!seed);
            (draw.amount(scale), draw.pause_us(scale))
        };
        match self {
            Property::ADenialChangesNothing => a_denial_changes_nothing(&mut user, scale),
            Property::AQuestionChangesNothing => a_question_changes_nothing(&mut user),
            Property::RemainingIsExact => remaining_is_exact(&mut user),
            Property::RetryAfterIsHonest => retry_after_is_honest(&mut user, amount),
            Property::ResetAfterIsHonest => reset_after_is_honest::<P>(&mut user, settings),
            Property::ASettleAtWhatWasHeldChangesNothing => settle_at_what_was_held(&mut user, amount, pause_us),
            Property::AReleaseAtOnceGivesAllBack => release_at_once(&mut user, amount),
            Property::StatesAndParametersReadBack => read_back(&mut user),
            Property::AmountsOfAnySizeAreAnswered => any_size(&mut user),
        }
    }
}

type Checked = Result<(), String>;

fn ask<P: Policy>(user: &mut Sim<P>, operation: Operation, at_us: u64, cost: u64) -> Result<Outcome<Vec<u8>>, String> {
    user.try_ask(Request::new(operation, at_us.min(TIME_MAX_US), cost))
}

fn peek<P: Policy>(user: &mut Sim<P>) -> Result<Outcome<Vec<u8>>, String> {
    let now_us = user.now_us();
    ask(user, Operation::Peek, now_us, 0)
}

fn holds<P: Policy>(user: &Sim<P>, holds: bool, but: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(user.broken(&but())) }
}

fn a_denial_changes_nothing<P: Policy>(user: &mut Sim<P>, scale: Scale) -> Checked {
    let (before, now_us) = (peek(user)?, user.now_us());
    for cost in [scale.limit.saturating_add(1), before.remaining.saturating_add(1)] {
        let denied = !user.try_tell(Request::new(Operation::Consume, now_us, cost))?.admitted;
        holds(user, denied, || "more than what was left was admitted".to_owned())?;
        let after = peek(user)?;
        holds(user, after == before, || format!("a denied call has changed what is left from {}", before.remaining))?;
    }
    Ok(())
}

fn a_question_changes_nothing<P: Policy>(user: &mut Sim<P>) -> Checked {
    let (before, now_us) = (peek(user)?, user.now_us());
    for operation in [Operation::Peek, Operation::Consume, Operation::Reserve] {
        let asked = user.try_tell(Request::new(operation, now_us, 0))?;
        holds(user, asked.admitted, || "a question was denied".to_owned())?;
        holds(user, asked.remaining == before.remaining, || "it says something else is left".to_owned())?;
    }
    let after = peek(user)?;
    holds(user, after == before, || "a question has changed something".to_owned())
}

fn remaining_is_exact<P: Policy>(user: &mut Sim<P>) -> Checked {
    let (left, now_us) = (peek(user)?.remaining, user.now_us());
    if left > 0 {
        let all = ask(user, Operation::Consume, now_us, left)?;
        holds(user, all.admitted, || "what remains is not admitted".to_owned())?;
    }
    let more = ask(user, Operation::Consume, now_us, left.saturating_add(1))?;
    holds(user, !more.admitted, || "more than what remains is admitted".to_owned())
}

fn retry_after_is_honest<P: Policy>(user: &mut Sim<P>, amount: u64) -> Checked {
    let (now_us, cost) = (user.now_us(), amount.max(peek(user)?.remaining.saturating_add(1)));
    let denied = ask(user, Operation::Consume, now_us, cost)?;
    let wait_us = denied.retry_after_us;
    if denied.admitted {
        return Ok(());
    }
    if wait_us == 0 {
        for later_us in [1, DAY_US, 31 * DAY_US, 366 * DAY_US] {
            let later = ask(user, Operation::Consume, now_us.saturating_add(later_us), cost)?;
            holds(user, !later.admitted, || "it was denied without a wait, as if none helped".to_owned())?;
        }
        return Ok(());
    }
    let then = ask(user, Operation::Consume, now_us.saturating_add(wait_us), cost)?;
    holds(user, then.admitted, || "it is still denied when it was promised".to_owned())?;
    if wait_us > 1 {
        let before = ask(user, Operation::Consume, now_us.saturating_add(wait_us - 1), cost)?;
        holds(user, !before.admitted, || "it is admitted earlier than promised".to_owned())?;
    }
    Ok(())
}

fn reset_after_is_honest<P: Policy>(user: &mut Sim<P>, settings: &str) -> Checked {
    let full = |at_us: u64| Ok::<u64, String>(ask(&mut Sim::<P>::new(settings), Operation::Peek, at_us, 0)?.remaining);
    let (stands, now_us) = (peek(user)?, user.now_us());
    let back_us = now_us.saturating_add(stands.reset_after_us);
    let back = ask(user, Operation::Peek, back_us, 0)?;
    holds(user, back.remaining >= full(back_us)?, || format!("not everything is back at {}", shown(back_us)))?;
    if stands.remaining >= full(now_us)? {
        return Ok(());
    }
    holds(user, stands.reset_after_us > 0, || "something is lacking, and nothing is to come back".to_owned())?;
    let before = ask(user, Operation::Peek, back_us - 1, 0)?;
    // Where nobody has anything, at an hour that is closed, nothing is back.
    let all_of_it = full(back_us - 1)?;
    holds(user, all_of_it == 0 || before.remaining < all_of_it, || {
        format!("everything is back before {}", shown(back_us))
    })
}

/// Reserves as much of `amount` as there is, and says how much that was; none if there is nothing.
fn reserve<P: Policy>(user: &mut Sim<P>, amount: u64) -> Result<Option<u64>, String> {
    let (held, now_us) = (amount.min(peek(user)?.remaining), user.now_us());
    if held == 0 {
        return Ok(None);
    }
    let reserved = user.try_tell(Request::new(Operation::Reserve, now_us, held))?;
    holds(user, reserved.admitted, || "what remains cannot be reserved".to_owned())?;
    Ok(Some(held))
}

fn settle_at_what_was_held<P: Policy>(user: &mut Sim<P>, amount: u64, pause_us: u64) -> Checked {
    let held_at_us = user.now_us();
    let Some(held) = reserve(user, amount)? else { return Ok(()) };
    user.after(std::time::Duration::from_micros(pause_us));
    let before = peek(user)?;
    let settled = user.try_tell(Request::settle(user.now_us(), held, held, held_at_us))?;
    holds(user, settled.admitted, || "a settle was denied: what was used was used".to_owned())?;
    let after = peek(user)?;
    holds(user, after.remaining == before.remaining, || format!("{} were left before the settle", before.remaining))
}

fn release_at_once<P: Policy>(user: &mut Sim<P>, amount: u64) -> Checked {
    let (before, now_us) = (peek(user)?.remaining, user.now_us());
    let Some(held) = reserve(user, amount)? else { return Ok(()) };
    user.try_tell(Request::settle(now_us, 0, held, now_us))?;
    let after = peek(user)?.remaining;
    holds(user, after == before, || format!("{before} were left before the reservation"))
}

fn read_back<P: Policy>(user: &mut Sim<P>) -> Checked {
    let parameters = P::Parameters::from_bytes(user.parameters()).map(|parameters| parameters.to_bytes());
    holds(user, parameters.as_deref() == Some(user.parameters()), || "its parameters do not read back".to_owned())?;
    if user.state_bytes().is_empty() {
        return Ok(());
    }
    let state = user.state().map(|state| state.to_bytes());
    holds(user, state.as_deref() == Some(user.state_bytes()), || "its state does not read back".to_owned())?;
    let migrated = migrate::<P>(P::STATE_SCHEMA, user.parameters(), user.state_bytes());
    holds(user, migrated.as_deref() == Ok(user.state_bytes()), || {
        format!("migrate makes {migrated:?} of its own state")
    })
}

/// An overflow is a panic here, and a fault in a cell.
fn any_size<P: Policy>(user: &mut Sim<P>) -> Checked {
    for at_us in [user.now_us(), TIME_MAX_US] {
        for cost in [1, AMOUNT_MAX - 1, AMOUNT_MAX] {
            ask(user, Operation::Consume, at_us, cost)?;
            ask(user, Operation::Reserve, at_us, cost)?;
            // Three times, so that what is charged beyond every limit adds up.
            let mut user = user.twin();
            for _ in 0..3 {
                user.try_tell(Request::settle(at_us, cost, 0, at_us))?;
            }
            user.try_tell(Request::settle(at_us, 0, cost, 0))?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "wrong.rs"]
mod wrong;
