//! Every property over as many cases as asked for, each failure made as short as it gets.

use crate::fingerprint;
use crate::fuel;
use crate::properties::{Case, Property, Trial, cases};
use crate::report::{Finding, Report, Verdict};
use crate::settings::drawn;
use crate::subject::Subject;
use crate::user::said;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use serde_json::Value;
use std::cell::RefCell;

/// Cases a property is tested with, at most: a minute of them for a policy of a microsecond.
pub(crate) const CASES_MAX: u32 = 100_000;
/// Settings that a policy refuses before the schema is taken for useless: they are drawn member by member.
const REFUSED_MAX: u32 = 20_000;
const SHRINKS_MAX: u32 = 4_096;

/// How a policy is tested.
#[derive(Clone, Debug)]
pub struct Plan {
    pub cases: u32,
    pub seed: u64,
    /// Tested beside those that are drawn from the schema: the ones that are meant for use.
    pub settings: Vec<Value>,
}

impl Default for Plan {
    fn default() -> Self {
        Self { cases: 500, seed: 1, settings: Vec::new() }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum CertifyError {
    #[error("1 to {CASES_MAX} cases a property")]
    Cases,
    #[error("the settings {settings} are refused: {message}")]
    Settings { settings: Value, message: String },
    #[error("it waives {name}, which is no property")]
    Waives { name: String },
    #[error("no settings that it takes could be drawn from its schema: give some")]
    NoSettings,
}

/// Tests every property of `subject`. The digest is for the report.
///
/// # Errors
/// When the plan does not fit the policy; what the policy does wrong is in the report.
pub fn certify(subject: &dyn Subject, digest: Option<String>, plan: &Plan) -> Result<Report, CertifyError> {
    certify_beside(subject, digest, None, plan)
}

/// The same beside the artifact before it: whether each reads what the other has written.
///
/// # Errors
/// As of `certify`.
pub fn certify_beside(
    subject: &dyn Subject,
    digest: Option<String>,
    previous: Option<&dyn Subject>,
    plan: &Plan,
) -> Result<Report, CertifyError> {
    let about = subject.about();
    if !(1..=CASES_MAX).contains(&plan.cases) {
        return Err(CertifyError::Cases);
    }
    for settings in &plan.settings {
        let refused = |message| CertifyError::Settings { settings: settings.clone(), message };
        subject.configure(settings).map_err(refused)?;
    }
    let known = |name: &String| all().any(|property| property.name() == name);
    if let Some(name) = about.waives.iter().find(|name| !known(name)) {
        return Err(CertifyError::Waives { name: name.clone() });
    }
    let settings = settings(&about.settings_schema, &plan.settings);
    let tested = all().filter(|property| previous.is_some() || !Property::BESIDE_PREVIOUS.contains(property));
    let findings = tested.map(|property| {
        let waived = about.waives.iter().any(|name| name == property.name());
        let verdict =
            if waived { Ok(Verdict::Waived) } else { test(subject, previous, property, settings.clone(), plan) };
        verdict.map(|verdict| Finding {
            property: property.name().to_owned(),
            sentence: property.sentence().to_owned(),
            verdict,
        })
    });
    Ok(Report {
        name: about.name.clone(),
        version: about.version.clone(),
        digest,
        promises: about.promises.clone(),
        seed: plan.seed,
        cases: plan.cases,
        findings: findings.collect::<Result<_, _>>()?,
        fuel_most: subject.fuel_most(),
        fuel: fuel::search(subject, &settings),
        fingerprint: fingerprint::of(subject, &drawn(&about.settings_schema)),
        previous: previous.map(|previous| format!("{} {}", previous.about().name, previous.about().version)),
    })
}

fn all() -> impl Iterator<Item = Property> {
    Property::ALL.into_iter().chain(Property::BESIDE_PREVIOUS)
}

fn settings(schema: &Value, given: &[Value]) -> BoxedStrategy<Value> {
    let drawn = drawn(schema);
    if given.is_empty() {
        return drawn;
    }
    prop_oneof![proptest::sample::select(given.to_vec()), drawn].boxed()
}

fn test(
    subject: &dyn Subject,
    previous: Option<&dyn Subject>,
    property: Property,
    settings: BoxedStrategy<Value>,
    plan: &Plan,
) -> Result<Verdict, CertifyError> {
    let config = Config {
        cases: plan.cases,
        max_global_rejects: REFUSED_MAX,
        max_local_rejects: REFUSED_MAX,
        max_shrink_iters: SHRINKS_MAX,
        failure_persistence: None,
        ..Config::default()
    };
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&plan.seed.to_le_bytes());
    seed[8] = property as u8;
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed));
    let broken = RefCell::new(String::new());
    let outcome = runner.run(&cases(settings), |case: Case| {
        let checked = match Trial::of(subject, previous, &case) {
            None => return Err(TestCaseError::reject("settings that it does not take")),
            Some(Ok(trial)) => property.check(&trial),
            Some(Err(broken)) => Err(broken),
        };
        checked.map_err(|what| {
            // The last that fails is the shortest.
            *broken.borrow_mut() = said(&case.settings, &what);
            TestCaseError::fail("broken")
        })
    });
    match outcome {
        Ok(()) => Ok(Verdict::Holds { cases: plan.cases }),
        Err(TestError::Fail(..)) => Ok(Verdict::Broken { counterexample: broken.into_inner() }),
        Err(TestError::Abort(_)) => Err(CertifyError::NoSettings),
    }
}
