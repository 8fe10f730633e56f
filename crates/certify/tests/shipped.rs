//! Every policy that ships is certified as the component that ships.

#![allow(clippy::unwrap_used, reason = "what cannot be unwrapped is the test's failure")]

use cellar_certify::{Component, Plan, Verdict, certify};
use std::path::PathBuf;

/// What is promised to hold with each version; `make test` asks for fewer, which find the same in most cases.
const CASES_WHOLE: u32 = 500;
const CASES: u32 = 150;

/// Those that ship, each with what it is not meant to do.
const SHIPPED: [(&str, &[&str]); 4] =
    [("gcra", &[]), ("monthly-bucket", &[]), ("token-bucket", &[]), ("daily-window", &["monotone-in-time"])];

/// Where `make policies` puts components.
fn component(name: &str) -> Component {
    let running = std::env::current_exe().unwrap();
    let beside = running.ancestors().map(|folder| folder.join("policies"));
    let told = std::env::var_os("CELLAR_POLICIES_DIR").map(PathBuf::from);
    let folder = told.into_iter().chain(beside).find(|folder| folder.join(name).with_extension("wasm").is_file());
    let path = folder.expect("run `make policies` first").join(name).with_extension("wasm");
    Component::load(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn every_policy_that_ships_holds_what_it_does_not_waive() {
    let cases = if std::env::var_os("CELLAR_TEST_FULL").is_some() { CASES_WHOLE } else { CASES };
    for (name, waived) in SHIPPED {
        let report = certify(&component(name), None, &Plan { cases, ..Plan::default() }).unwrap();
        assert!(report.certified(), "{report}");
        let found = report.findings.iter().filter(|finding| finding.verdict == Verdict::Waived);
        let found: Vec<&str> = found.map(|finding| finding.property.as_str()).collect();
        assert_eq!(found, waived, "{name}");
        assert!(!report.promises.is_empty(), "{name} promises nothing over time");
    }
}
