//! Every policy that ships is certified as the component that ships, and its page says what it does.

#![allow(clippy::unwrap_used, reason = "what cannot be unwrapped is the test's failure")]

use cellar_certify::{Component, Plan, Subject, Verdict, certify};
use cellar_model::TierDocument;
use cellar_policy_host::{Operation, Request};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What is promised to hold with each version; `make test` asks for fewer, which find the same in most cases.
const CASES_WHOLE: u32 = 500;
const CASES: u32 = 150;

/// Those that ship, each with what it is not meant to do.
const SHIPPED: [(&str, &[&str]); 7] = [
    ("gcra", &[]),
    ("monthly-bucket", &[]),
    ("token-bucket", &[]),
    ("daily-window", &["monotone-in-time"]),
    ("weighted", &[]),
    ("night-discount", &["monotone-in-time"]),
    ("open-reservations", &["settle-conserves"]),
];

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

#[test]
fn the_example_tier_of_policies_that_ship_fits_them() {
    let tier = TierDocument::from_toml(include_str!("../../../examples/tiers/studio.toml")).unwrap();
    assert_eq!(tier.policies.len(), 4);
    for slot in tier.policies {
        component(slot.policy.name.as_str()).configure(&slot.settings).unwrap();
    }
}

/// One line of an example, as `cellctl policy run` reads it.
#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    operation: Option<String>,
    at_us: u64,
    cost: u64,
    #[serde(default)]
    held: u64,
    #[serde(default)]
    held_at_us: u64,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
}

/// The example of a page, run by its slot's settings.
fn run_again(policy: &Component, settings: &Value, requests: &str) -> Vec<Value> {
    let parameters = policy.configure(settings).unwrap();
    let (mut instance, mut state, mut answers) = (policy.instance(), Vec::new(), Vec::new());
    for line in requests.lines() {
        let asked: Asked = serde_json::from_str(line).unwrap();
        let attributes: Vec<(&str, &str)> = asked.attributes.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let request = Request {
            operation: match asked.operation.as_deref() {
                Some("reserve") => Operation::Reserve,
                Some("settle") => Operation::Settle,
                Some("peek") => Operation::Peek,
                _ => Operation::Consume,
            },
            now_us: asked.at_us,
            cost: asked.cost,
            held: asked.held,
            held_at_us: asked.held_at_us,
            attributes: &attributes,
        };
        let outcome = instance.decide(&parameters, &state, &request).unwrap();
        state = outcome.state.unwrap_or(state);
        answers.push(json!({
            "admitted": outcome.admitted, "limit": outcome.limit, "remaining": outcome.remaining,
            "retry_after_us": outcome.retry_after_us, "reset_after_us": outcome.reset_after_us,
        }));
    }
    answers
}

#[test]
fn each_page_shows_what_its_policy_answers() {
    let pages = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/policies");
    for (name, _) in SHIPPED {
        let page = std::fs::read_to_string(pages.join(name).with_extension("md")).unwrap();
        let blocks: Vec<&str> = page.split("```").skip(1).step_by(2).collect();
        let slot = blocks.iter().find_map(|block| block.strip_prefix("toml\n")).unwrap();
        let slot = TierDocument::from_toml(&format!("name = \"example\"\n{slot}")).unwrap().policies.remove(0);
        assert_eq!(slot.policy.name.as_str(), name);
        let example = blocks.iter().find(|block| block.starts_with("\n{")).unwrap();
        let (requests, shown) = example.trim().split_once("\n\n").unwrap();
        let shown: Vec<Value> = shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(run_again(&component(name), &slot.settings, requests), shown, "{name}");
    }
}
