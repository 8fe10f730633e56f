//! The properties, each as a check of one drawn case.

mod limits;
mod previous;
mod purity;
mod settles;
mod spend;
mod waits;

use crate::history::{Amount, Pause, START_US, Scale, Step, amounts, pauses, steps};
use crate::promise::Promise;
use crate::subject::Subject;
use crate::user::{Broken, User, scale};
use proptest::prelude::*;
use serde_json::Value;

/// What is tested. The order is that of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property {
    Answers,
    Deterministic,
    ExactRemaining,
    NeverOverAdmits,
    MonotoneInTime,
    MonotoneInSpend,
    MonotoneInLimit,
    HonestRetryAfter,
    HonestResetAfter,
    SettleConserves,
    CarriesSpend,
    Migrates,
    ReadsPrevious,
    ReadByPrevious,
}

/// One case: settings twice (a tier may change), a history, and what else a property needs.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) settings: Value,
    pub(crate) others: Value,
    pub(crate) steps: Vec<Step>,
    pub(crate) pause: Pause,
    pub(crate) amount: Amount,
    /// Thousandths of something that the property says.
    pub(crate) share: u16,
}

/// A case against a subject, its settings compiled.
pub(crate) struct Trial<'a> {
    pub(crate) subject: &'a dyn Subject,
    /// The artifact before it, with its own parameters for the case's settings: none if it refuses them.
    pub(crate) previous: Option<(&'a dyn Subject, Vec<u8>)>,
    pub(crate) case: &'a Case,
    pub(crate) parameters: Vec<u8>,
    pub(crate) others: Vec<u8>,
    pub(crate) scale: Scale,
}

impl Property {
    pub const ALL: [Property; 12] = [
        Property::Answers,
        Property::Deterministic,
        Property::ExactRemaining,
        Property::NeverOverAdmits,
        Property::MonotoneInTime,
        Property::MonotoneInSpend,
        Property::MonotoneInLimit,
        Property::HonestRetryAfter,
        Property::HonestResetAfter,
        Property::SettleConserves,
        Property::CarriesSpend,
        Property::Migrates,
    ];

    /// Tested where there is an artifact before it.
    pub const BESIDE_PREVIOUS: [Property; 2] = [Property::ReadsPrevious, Property::ReadByPrevious];

    pub fn name(self) -> &'static str {
        match self {
            Property::Answers => "answers",
            Property::Deterministic => "deterministic",
            Property::ExactRemaining => "exact-remaining",
            Property::NeverOverAdmits => "never-over-admits",
            Property::MonotoneInTime => "monotone-in-time",
            Property::MonotoneInSpend => "monotone-in-spend",
            Property::MonotoneInLimit => "monotone-in-limit",
            Property::HonestRetryAfter => "honest-retry-after",
            Property::HonestResetAfter => "honest-reset-after",
            Property::SettleConserves => "settle-conserves",
            Property::CarriesSpend => "carries-spend",
            Property::Migrates => "migrates",
            Property::ReadsPrevious => "reads-previous",
            Property::ReadByPrevious => "read-by-previous",
        }
    }

    /// What it says, in a sentence.
    pub fn sentence(self) -> &'static str {
        match self {
            Property::Answers => {
                "Every call is answered, within its fuel, by an outcome that can be true; a denial or a question changes nothing."
            }
            Property::Deterministic => {
                "The same question gets the same answer, whoever was asked what before, and the same questions in the same order burn the same fuel."
            }
            Property::ExactRemaining => "What is said to remain would be admitted, and one more would not.",
            Property::NeverOverAdmits => {
                "No instant admits more than remained, and no window more than the policy promises."
            }
            Property::MonotoneInTime => "Waiting never leaves less.",
            Property::MonotoneInSpend => "Who has spent less never has less left.",
            Property::MonotoneInLimit => "A higher limit admits whatever a lower one did.",
            Property::HonestRetryAfter => {
                "A denied call is admitted when it was promised, and not a microsecond earlier; where no wait is named, none helps."
            }
            Property::HonestResetAfter => "Everything is back when it was promised, and not earlier.",
            Property::SettleConserves => {
                "A settled reservation stands no better than if only the settled amount had been taken, and one that used all of it as if it had been consumed; also across a period's end."
            }
            Property::CarriesSpend => "Other settings neither forget nor invent what was spent.",
            Property::Migrates => "migrate reads its own states, and they mean the same.",
            Property::ReadsPrevious => {
                "What the version before it has written it reads, and nothing spent is forgotten or invented."
            }
            Property::ReadByPrevious => "The version before it can take users back, with what they have spent.",
        }
    }

    pub(crate) fn check(self, trial: &Trial<'_>) -> Result<(), Broken> {
        match self {
            Property::Answers => purity::answers(trial),
            Property::Deterministic => purity::deterministic(trial),
            Property::ExactRemaining => limits::exact_remaining(trial),
            Property::NeverOverAdmits => limits::never_over_admits(trial),
            Property::MonotoneInTime => spend::monotone_in_time(trial),
            Property::MonotoneInSpend => spend::monotone_in_spend(trial),
            Property::MonotoneInLimit => spend::monotone_in_limit(trial),
            Property::HonestRetryAfter => waits::honest_retry_after(trial),
            Property::HonestResetAfter => waits::honest_reset_after(trial),
            Property::SettleConserves => settles::settle_conserves(trial),
            Property::CarriesSpend => spend::carries_spend(trial),
            Property::Migrates => purity::migrates(trial),
            Property::ReadsPrevious => previous::reads_previous(trial),
            Property::ReadByPrevious => previous::read_by_previous(trial),
        }
    }
}

pub(crate) fn cases(settings: BoxedStrategy<Value>) -> impl Strategy<Value = Case> {
    (settings.clone(), settings, steps(), pauses(), amounts(), 0..=1_000_u16).prop_map(
        |(settings, others, steps, pause, amount, share)| Case { settings, others, steps, pause, amount, share },
    )
}

/// The other settings, except for what they say an amount is worth. What was spent at one price is another amount
/// at another, and neither is wrong.
fn at_the_same_prices(subject: &dyn Subject, case: &Case) -> Value {
    let mut others = case.others.clone();
    let (Some(others_members), Some(members)) = (others.as_object_mut(), case.settings.as_object()) else {
        return others;
    };
    for price in subject.about().promises.iter().flat_map(Promise::prices) {
        match members.get(price) {
            Some(value) => _ = others_members.insert(price.to_owned(), value.clone()),
            None => _ = others_members.remove(price),
        }
    }
    others
}

impl<'a> Trial<'a> {
    /// None if the policy refuses the settings: they were drawn without knowing how they belong together.
    pub(crate) fn of(
        subject: &'a dyn Subject,
        previous: Option<&'a dyn Subject>,
        case: &'a Case,
    ) -> Option<Result<Self, Broken>> {
        let parameters = subject.configure(&case.settings).ok()?;
        // Others that are refused are no others: the tier stays as it is.
        let others = at_the_same_prices(subject, case);
        let others = subject.configure(&others).unwrap_or_else(|_| parameters.clone());
        let scale = match scale(subject, &parameters, START_US) {
            Ok(scale) => scale,
            Err(broken) => return Some(Err(broken)),
        };
        let previous = previous.and_then(|previous| Some((previous, previous.configure(&case.settings).ok()?)));
        Some(Ok(Self { subject, previous, case, parameters, others, scale }))
    }

    pub(crate) fn user(&self) -> User {
        User::new(self.subject, &self.parameters, START_US)
    }

    /// One who has lived through the case's history.
    pub(crate) fn seasoned(&self) -> Result<User, Broken> {
        let mut user = self.user();
        user.live(&self.case.steps, self.scale)?;
        Ok(user)
    }

    pub(crate) fn pause_us(&self) -> u64 {
        self.case.pause.us(self.scale)
    }

    pub(crate) fn amount(&self) -> u64 {
        self.case.amount.units(self.scale)
    }
}
