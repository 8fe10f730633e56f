//! The most fuel a call can be made to burn, as far as a search finds it: climbing from drawn questions to
//! questions beside them that burn more.

use crate::history::START_US;
use crate::properties::{Case, cases};
use crate::subject::{Instance, Subject};
use crate::user::{User, request, scale, settle, shown};
use cellar_policy_host::{Operation, Outcome, Request};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// The same search for every plan.
const SEED: [u8; 32] = *b"the most that anybody ever burnt";
/// Starts, and steps of each: a second of a policy that answers within a microsecond.
const CLIMBS: u32 = 10;
const STEPS: u32 = 120;
/// Draws of settings that a policy may refuse.
const DRAWS_MAX: u32 = 200;

/// What a check may carry at most: eight attributes of 64 bytes and 64 more.
const NAME: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const ATTRIBUTES: [&[(&str, &str)]; 4] = [
    &[],
    &[("model", "large")],
    &[(NAME, NAME)],
    &[(NAME, NAME), (NAME, NAME), (NAME, NAME), (NAME, NAME), (NAME, NAME), (NAME, NAME), (NAME, NAME), (NAME, NAME)],
];

/// The most that was found of each function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fuel {
    pub decide: Worst,
    pub configure: Worst,
    pub migrate: Worst,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worst {
    pub fuel: u64,
    /// The host ends a call that burns more.
    pub limit: u64,
    /// The question that burnt it.
    pub question: String,
}

/// None where nothing counts fuel.
pub(crate) fn search(subject: &dyn Subject, settings: &BoxedStrategy<Value>) -> Option<Fuel> {
    let engine = subject.engine()?;
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &SEED);
    let mut runner = TestRunner::new_with_rng(Config { failure_persistence: None, ..Config::default() }, rng);
    let strategy = (cases(settings.clone()), 0..ATTRIBUTES.len(), 0..5_u8);
    let mut draw = || {
        let (case, attributes, operation) = strategy.new_tree(&mut runner).ok()?.current();
        Some(Question { case, attributes, operation })
    };
    let nothing = |limit| Worst { fuel: 0, limit, question: String::new() };
    let mut worst = Fuel {
        decide: nothing(engine.decide_fuel),
        configure: nothing(engine.configure_fuel),
        migrate: nothing(engine.decide_fuel),
    };
    for goal in [Goal::Decide, Goal::Migrate, Goal::Configure] {
        for _ in 0..CLIMBS {
            climb(subject, goal, &mut draw, worst.of(goal));
        }
    }
    Some(worst)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Goal {
    Decide,
    Configure,
    Migrate,
}

impl Fuel {
    fn of(&mut self, goal: Goal) -> &mut Worst {
        match goal {
            Goal::Decide => &mut self.decide,
            Goal::Configure => &mut self.configure,
            Goal::Migrate => &mut self.migrate,
        }
    }
}

#[derive(Clone)]
struct Question {
    case: Case,
    attributes: usize,
    operation: u8,
}

/// From a question that is answered, a part of it at a time is drawn anew, and kept if it burns no less.
fn climb(subject: &dyn Subject, goal: Goal, draw: &mut dyn FnMut() -> Option<Question>, worst: &mut Worst) {
    let start = (0..DRAWS_MAX).find_map(|_| {
        let question = draw()?;
        Some((burnt(subject, goal, &question)?, question))
    });
    let Some((mut height, mut here)) = start else { return };
    for step in 0..STEPS {
        let Some(other) = draw() else { continue };
        let mut beside = here.clone();
        match step % 7 {
            0 => beside.case.settings = other.case.settings,
            1 => beside.case.steps = other.case.steps,
            2 => beside.case.steps.extend(other.case.steps.into_iter().take(4)),
            3 => beside.case.pause = other.case.pause,
            4 => beside.case.amount = other.case.amount,
            5 => beside.attributes = other.attributes,
            _ => beside.operation = other.operation,
        }
        beside.case.steps.truncate(HISTORY_MAX);
        if let Some(found) = burnt(subject, goal, &beside)
            && found.0 >= height.0
        {
            (height, here) = (found, beside);
        }
    }
    if height.0 > worst.fuel {
        (worst.fuel, worst.question) = height;
    }
}

/// Calls of a history that steps were added to.
const HISTORY_MAX: usize = 80;

/// What the question burns, and how it reads. None: its settings are refused.
fn burnt(subject: &dyn Subject, goal: Goal, question: &Question) -> Option<(u64, String)> {
    let case = &question.case;
    if goal == Goal::Configure {
        return Some((subject.configure_fuel(&case.settings), format!("settings {}", case.settings)));
    }
    let parameters = subject.configure(&case.settings).ok()?;
    let scale = scale(subject, &parameters, START_US).ok()?;
    let (mut instance, mut state, mut now_us) = (subject.instance(), Vec::new(), START_US);
    for step in &case.steps {
        now_us = User::after(now_us, step.pause.us(scale));
        tell(&mut *instance, &parameters, &mut state, &request(Operation::Consume, now_us, step.amount.units(scale)));
    }
    if goal == Goal::Migrate {
        if state.is_empty() {
            return Some((0, String::new()));
        }
        // A refusal burns as well.
        let _ = instance.migrate(subject.about().state_schema, &parameters, &state);
        let said = format!("settings {}, its own state of {} bytes", case.settings, state.len());
        return Some((instance.fuel(), said));
    }
    let (later_us, cost) = (User::after(now_us, case.pause.us(scale)), case.amount.units(scale));
    let asked = match question.operation {
        0 | 1 => request(Operation::Consume, later_us, cost),
        2 => request(Operation::Reserve, later_us, cost),
        3 => settle(later_us, cost, case.amount.units(scale), now_us),
        _ => request(Operation::Peek, later_us, 0),
    };
    let asked = Request { attributes: ATTRIBUTES[question.attributes], ..asked };
    tell(&mut *instance, &parameters, &mut state, &asked);
    let said = format!(
        "settings {}, after {} calls: {}, {} attributes",
        case.settings,
        case.steps.len(),
        shown(&asked),
        asked.attributes.len()
    );
    Some((instance.fuel(), said))
}

fn tell(instance: &mut dyn Instance, parameters: &[u8], state: &mut Vec<u8>, asked: &Request<'_>) {
    if let Ok(Outcome { state: Some(new), .. }) = instance.decide(parameters, state, asked) {
        *state = new;
    }
}

impl fmt::Display for Fuel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, worst) in [("decide", &self.decide), ("configure", &self.configure), ("migrate", &self.migrate)] {
            let share = 100.0 * worst.fuel as f64 / worst.limit.max(1) as f64;
            writeln!(f, "  fuel     {name:<20} at most {} found, {share:.2} % of the host's limit", worst.fuel)?;
            if !worst.question.is_empty() {
                writeln!(f, "           {:<20} {}", "", worst.question)?;
            }
        }
        Ok(())
    }
}
