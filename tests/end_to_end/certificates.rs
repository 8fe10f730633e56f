//! `cellctl policy certify`: reports of two machines compared, and a version beside the one before it.

use cellar_devstack::Cellctl;
use serde_json::Value;
use std::process::Output;

fn component(name: &str) -> String {
    let running = std::env::current_exe().unwrap();
    let places = running.ancestors().map(|folder| folder.join("policies").join(name).with_extension("wasm"));
    let found = places.into_iter().find(|path| path.is_file());
    found.expect("run `make policies` first").display().to_string()
}

fn certify(cellctl: &Cellctl, name: &str, more: &[&str]) -> Output {
    let component = component(name);
    let certify = ["policy", "certify", "--component", &component, "--cases", "10"];
    cellctl.run(&[&certify[..], more].concat()).unwrap()
}

/// Goal: a report made elsewhere is compared to the byte, and what differs is named.
#[test]
fn a_report_of_another_machine_is_compared_to_the_byte() {
    let cellctl = Cellctl::new().unwrap();
    let file = |name: &str| cellctl.folder().join(name).display().to_string();
    let (first, changed) = (file("first.json"), file("changed.json"));
    // Another plan: what is compared does not depend on it.
    let out = certify(&cellctl, "gcra", &["--seed", "7", "--out", &first, "--previous", &component("gcra")]);
    assert_eq!(out.status.code(), Some(0), "{out:?}");
    let report: Value = serde_json::from_str(&std::fs::read_to_string(&first).unwrap()).unwrap();
    let properties: Vec<&Value> = report["findings"].as_array().unwrap().iter().map(|one| &one["property"]).collect();
    assert_eq!(properties[12..], ["reads-previous", "read-by-previous"]);
    for function in ["decide", "configure", "migrate"] {
        let worst = &report["fuel"][function];
        let (fuel, limit) = (worst["fuel"].as_u64().unwrap(), worst["limit"].as_u64().unwrap());
        assert!(0 < fuel && fuel < limit, "{function}: {worst}");
    }
    let against = |report: &str| {
        let compared = certify(&cellctl, "gcra", &["--against", report]);
        (compared.status.code(), String::from_utf8_lossy(&compared.stderr).into_owned())
    };
    let (code, said) = against(&first);
    assert!(code == Some(0) && said.contains("the same outcomes and the same fuel"), "{said}");
    for (part, what) in [("fuel", "the fuel differs"), ("outcomes", "the outcomes differ")] {
        let mut report = report.clone();
        report["fingerprint"][part] = "another".into();
        std::fs::write(&changed, report.to_string()).unwrap();
        let (code, said) = against(&changed);
        assert!(code == Some(1) && said.contains(what), "{said}");
    }
    let other = certify(&cellctl, "monthly-bucket", &["--against", &first]);
    assert_eq!(other.status.code(), Some(2), "{other:?}");
    std::fs::write(&changed, "{}").unwrap();
    assert!(against(&changed).1.contains("is no report that can be read"));
}
