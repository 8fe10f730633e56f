//! The gallery: every wrong policy is caught, by the property that names what is wrong with it; the built-in ones
//! hold.

#![allow(clippy::unwrap_used, reason = "what cannot be unwrapped is the test's failure")]

mod native;
mod wrong;

use cellar_certify::{Plan, Property, Report, Subject, Verdict, certify};
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
