//! What a policy answers to a fixed set of histories, in two digests: two machines that ran the same artifact can
//! compare every byte of it, and all the fuel.

use crate::history::START_US;
use crate::properties::{Case, cases};
use crate::subject::{Engine, Subject};
use crate::user::{User, request, scale, settle};
use cellar_policy_host::{Fault, Operation, Outcome};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt;

/// The same for every plan: reports of one artifact are comparable whatever they were made with.
const SEED: [u8; 32] = *b"histories that everyone asks too";
/// Enough for every branch of a policy that a history can reach at random, in a tenth of a second.
const HISTORIES: u32 = 256;
/// Settings drawn for them; the policy refuses some.
const DRAWS_MAX: u32 = 20 * HISTORIES;

/// Digests of what was answered and burnt, in one fixed order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    pub histories: u32,
    pub calls: u64,
    /// SHA-256 over the bytes of all outcomes.
    pub outcomes: String,
    /// SHA-256 over what each call burnt.
    pub fuel: String,
    /// What ran it; none for a policy that is no component.
    pub engine: Option<Engine>,
}

/// In what two fingerprints of one artifact differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Differs {
    /// Other histories were asked: the two cannot be compared.
    Histories,
    Outcomes,
    Fuel,
    /// Fuel, and it was counted by another engine or under other limits: that alone may be why.
    FuelOfAnotherEngine,
}

impl Fingerprint {
    /// None: they are the same.
    pub fn differs(&self, other: &Self) -> Option<Differs> {
        if (self.histories, self.calls) != (other.histories, other.calls) && self.outcomes == other.outcomes {
            return Some(Differs::Histories);
        }
        if self.outcomes != other.outcomes {
            return Some(if self.histories == other.histories { Differs::Outcomes } else { Differs::Histories });
        }
        match (self.fuel == other.fuel, self.engine == other.engine) {
            (true, _) => None,
            (false, true) => Some(Differs::Fuel),
            (false, false) => Some(Differs::FuelOfAnotherEngine),
        }
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = |digest: &str| digest.chars().take(16).collect::<String>();
        let engine = self.engine.as_ref().map_or("no engine", |engine| &engine.name);
        let (outcomes, fuel) = (start(&self.outcomes), start(&self.fuel));
        write!(
            f,
            "{} calls of {} fixed histories: outcomes {outcomes}…, fuel {fuel}… ({engine})",
            self.calls, self.histories
        )
    }
}

impl fmt::Display for Differs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Differs::Histories => "the reports asked other histories: they were made by other versions of this program",
            Differs::Outcomes => "the outcomes differ: the same questions were answered otherwise",
            Differs::Fuel => "the fuel differs: the same questions burnt another amount, on the same engine",
            Differs::FuelOfAnotherEngine => {
                "the fuel differs, and so does what counted it (engine or limits): the outcomes are the same"
            }
        })
    }
}

/// Asks them all. None: no settings could be drawn that it takes.
pub(crate) fn of(subject: &dyn Subject, settings: &BoxedStrategy<Value>) -> Option<Fingerprint> {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &SEED);
    let mut runner = TestRunner::new_with_rng(Config { failure_persistence: None, ..Config::default() }, rng);
    let strategy = cases(settings.clone());
    let mut asked = Asked::default();
    for _ in 0..DRAWS_MAX {
        if asked.histories == HISTORIES {
            break;
        }
        let Ok(case) = strategy.new_tree(&mut runner) else { continue };
        asked.history(subject, &case.current());
    }
    (asked.histories > 0).then(|| Fingerprint {
        histories: asked.histories,
        calls: asked.calls,
        outcomes: hex(asked.outcomes),
        fuel: hex(asked.fuel),
        engine: subject.engine(),
    })
}

#[derive(Default)]
struct Asked {
    histories: u32,
    calls: u64,
    outcomes: Sha256,
    fuel: Sha256,
}

impl Asked {
    /// One user, all operations in turn. A fault is an answer, too.
    fn history(&mut self, subject: &dyn Subject, case: &Case) {
        let Ok(parameters) = subject.configure(&case.settings) else { return };
        self.histories += 1;
        self.outcomes.update((parameters.len() as u64).to_be_bytes());
        self.outcomes.update(&parameters);
        let Ok(scale) = scale(subject, &parameters, START_US) else { return };
        let (mut instance, mut state, mut now_us) = (subject.instance(), Vec::new(), START_US);
        for (n, step) in case.steps.iter().enumerate() {
            now_us = User::after(now_us, step.pause.us(scale));
            let (cost, held) = (step.amount.units(scale), case.amount.units(scale));
            let held_at_us = now_us.saturating_sub(case.pause.us(scale));
            let asked = match n % 5 {
                0 | 1 => request(Operation::Consume, now_us, cost),
                2 => request(Operation::Reserve, now_us, cost),
                3 => settle(now_us, cost, held, held_at_us),
                _ => request(Operation::Peek, now_us, 0),
            };
            let answered = instance.decide(&parameters, &state, &asked);
            self.answer(&answered);
            self.fuel.update(instance.fuel().to_be_bytes());
            if let Ok(Outcome { state: Some(new), .. }) = answered {
                state = new;
            }
        }
    }

    fn answer(&mut self, answered: &Result<Outcome, Fault>) {
        self.calls += 1;
        match answered {
            Ok(outcome) => {
                let Outcome { admitted, state, limit, remaining, retry_after_us, reset_after_us, note } = outcome;
                self.outcomes.update([1, u8::from(*admitted), u8::from(state.is_some())]);
                for number in [*limit, *remaining, *retry_after_us, *reset_after_us, u64::from(*note)] {
                    self.outcomes.update(number.to_be_bytes());
                }
                let state = state.as_deref().unwrap_or_default();
                self.outcomes.update((state.len() as u64).to_be_bytes());
                self.outcomes.update(state);
            }
            Err(fault) => {
                self.outcomes.update([0]);
                self.outcomes.update(fault.kind());
            }
        }
    }
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
