//! The gallery: every wrong policy is caught, by the property that names what is wrong with it; the built-in ones
//! hold.

#![allow(clippy::unwrap_used, reason = "what cannot be unwrapped is the test's failure")]

mod native;
mod wrong;

use cellar_certify::{Differs, Engine, Fingerprint, Plan, Property, Report, Subject, Verdict, certify, certify_beside};
use cellar_policy_gcra::Gcra;
use cellar_policy_monthly_bucket::MonthlyBucket;
use native::{Flawed, Native, Sound};

fn report(subject: &dyn Subject, cases: u32) -> Report {
    certify(subject, None, &Plan { cases, ..Plan::default() }).unwrap()
}

fn caught<F: Flawed + 'static>(by: Property) {
    // A policy that panics does so many times while its counterexample is made shorter.
    std::panic::set_hook(Box::new(|_| ()));
    let report = report(&Native::<F>::new(), 400);
    let _ = std::panic::take_hook();
    let broken: Vec<&str> = report.broken().map(|finding| finding.property.as_str()).collect();
    println!("{:<60} {}", std::any::type_name::<F>(), broken.join(", "));
    assert!(broken.contains(&by.name()), "{} is not among {broken:?}\n{report}", by.name());
}

#[test]
fn the_built_in_policies_hold() {
    for subject in [&Native::<Sound<Gcra>>::new() as &dyn Subject, &Native::<Sound<MonthlyBucket>>::new()] {
        let report = report(subject, 1_000);
        assert!(report.certified(), "{report}");
        assert!(report.findings.iter().all(|finding| matches!(finding.verdict, Verdict::Holds { cases: 1_000 })));
    }
}

#[test]
fn every_wrong_policy_is_caught_by_the_property_that_names_its_fault() {
    caught::<wrong::LeaksOnMonthEnd>(Property::NeverOverAdmits);
    caught::<wrong::DoubleBurst>(Property::NeverOverAdmits);
    caught::<wrong::DriftingTat>(Property::NeverOverAdmits);
    caught::<wrong::RetryTooSoon>(Property::HonestRetryAfter);
    caught::<wrong::RetryTooLate>(Property::HonestRetryAfter);
    caught::<wrong::ChargesOnDenial>(Property::Answers);
    caught::<wrong::NotMonotone>(Property::MonotoneInLimit);
    caught::<wrong::HiddenState>(Property::Deterministic);
    caught::<wrong::SettleInvents>(Property::SettleConserves);
    caught::<wrong::SettlesIntoTheNewMonth>(Property::SettleConserves);
    caught::<wrong::ForgivesOvershoot>(Property::SettleConserves);
    caught::<wrong::MigrateForgets>(Property::Migrates);
    caught::<wrong::ForgetsOnTierChange>(Property::CarriesSpend);
    caught::<wrong::ResetTooSoon>(Property::HonestResetAfter);
    caught::<wrong::RemainingOffByOne>(Property::ExactRemaining);
    caught::<wrong::TrapsOnOne>(Property::Answers);
    caught::<wrong::ClosesAtNight>(Property::MonotoneInTime);
}

/// A version beside the one before it.
fn caught_beside<F: Flawed + 'static, P: Flawed + 'static>(by: Property) {
    let plan = Plan { cases: 200, ..Plan::default() };
    let report = certify_beside(&Native::<F>::new(), None, Some(&Native::<P>::new()), &plan).unwrap();
    let broken: Vec<&str> = report.broken().map(|finding| finding.property.as_str()).collect();
    println!("{:<60} {}", std::any::type_name::<F>(), broken.join(", "));
    assert_eq!(broken, [by.name()], "{report}");
}

#[test]
fn a_version_that_forgets_what_the_one_before_it_wrote_is_caught_and_so_is_one_that_cannot_be_undone() {
    caught_beside::<wrong::Successor, wrong::Predecessor>(Property::ReadByPrevious);
    caught_beside::<wrong::ForgetsThePrevious, wrong::OfSchemaTwo>(Property::ReadsPrevious);
    let plan = Plan { cases: 200, ..Plan::default() };
    let same = Native::<Sound<Gcra>>::new();
    let report = certify_beside(&same, None, Some(&Native::<Sound<Gcra>>::new()), &plan).unwrap();
    assert!(report.certified() && report.findings.len() == 14, "{report}");
}

#[test]
fn a_fingerprint_is_the_same_again_and_says_what_differs() {
    let of = |subject: &dyn Subject| report(subject, 1).fingerprint.unwrap();
    let (sound, other) = (of(&Native::<Sound<Gcra>>::new()), of(&Native::<wrong::ResetTooSoon>::new()));
    assert!(sound.calls > 1_000, "{sound}");
    assert_eq!(sound.differs(&of(&Native::<Sound<Gcra>>::new())), None);
    assert_eq!(sound.differs(&other), Some(Differs::Outcomes));
    let burnt = Fingerprint { fuel: "another".into(), ..sound.clone() };
    assert_eq!(sound.differs(&burnt), Some(Differs::Fuel));
    let engine =
        Engine { name: "x 1".into(), decide_fuel: 1, configure_fuel: 1, memory_max_bytes: 1, state_max_bytes: 1 };
    let elsewhere = Fingerprint { engine: Some(engine), ..burnt };
    assert_eq!(sound.differs(&elsewhere), Some(Differs::FuelOfAnotherEngine));
    assert_eq!(sound.differs(&Fingerprint { histories: 3, ..other }), Some(Differs::Histories));
}

#[test]
fn a_counterexample_is_short_and_says_what_happened() {
    let report = report(&Native::<wrong::RetryTooSoon>::new(), 400);
    let broken = report.broken().find(|finding| finding.property == "honest-retry-after").unwrap();
    let Verdict::Broken { counterexample } = &broken.verdict else { unreachable!("it is broken") };
    assert!(counterexample.contains("still denied when it was promised"), "{counterexample}");
    assert!(counterexample.lines().count() <= 8, "{counterexample}");
}

#[test]
fn the_same_plan_gives_the_same_report() {
    let subject = Native::<wrong::DriftingTat>::new();
    assert_eq!(report(&subject, 100), report(&subject, 100));
}
