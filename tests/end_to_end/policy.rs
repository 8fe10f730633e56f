//! `cellctl policy run` and `certify`: components asked line by line and by generated histories, without any server.

use cellar_devstack::Cellctl;
use serde_json::Value;

/// A built-in component, where `make policies` puts it.
pub fn component(name: &str) -> String {
    let running = std::env::current_exe().unwrap();
    let places = running.ancestors().map(|folder| folder.join("policies").join(name).with_extension("wasm"));
    let found = places.into_iter().find(|path| path.is_file());
    found.expect("run `make policies` first").display().to_string()
}

fn run(settings: &str, requests: &str) -> (bool, String, String) {
    let cellctl = Cellctl::new().unwrap();
    let (settings_file, requests_file) =
        (cellctl.folder().join("settings.json"), cellctl.folder().join("requests.jsonl"));
    std::fs::write(&settings_file, settings).unwrap();
    std::fs::write(&requests_file, requests).unwrap();
    let files = [settings_file.to_str().unwrap(), requests_file.to_str().unwrap()];
    let arguments =
        ["policy", "run", "--component", &component("gcra"), "--settings", files[0], "--requests", files[1]];
    let output = cellctl.run(&arguments).unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn each_line_is_answered_with_the_users_own_state_kept() {
    let line = |user: &str, at_us: u64| {
        format!("{{\"user\":\"{user}\",\"operation\":\"consume\",\"at_us\":{at_us},\"cost\":1}}\n")
    };
    let requests = [line("a", 1_000_000), line("a", 1_000_000), line("b", 1_000_000), line("a", 2_000_000)].concat();
    let (passed, answers, said) = run(r#"{"limit":1,"period_s":1,"burst":1}"#, &requests);
    assert!(passed, "{said}");
    let answers: Vec<Value> = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let admitted: Vec<bool> = answers.iter().map(|answer| answer["admitted"].as_bool().unwrap()).collect();
    assert_eq!(admitted, [true, false, true, true]);
    assert_eq!(answers[1]["retry_after_us"], 1_000_000);
    let mut members: Vec<&String> = answers[0].as_object().unwrap().keys().collect();
    members.sort();
    assert_eq!(members, ["admitted", "limit", "remaining", "reset_after_us", "retry_after_us"]);
}

#[test]
fn bad_settings_are_all_named_and_a_bad_line_by_its_number() {
    let (passed, _, said) = run(r#"{"limit":0,"burts":1}"#, "");
    assert!(!passed);
    assert!(["/limit", "/burts", "/period_s"].iter().all(|pointer| said.contains(pointer)), "{said}");
    let (passed, _, said) = run(r#"{"limit":1,"period_s":1}"#, "{\"user\":\"a\",\"at_us\":1,\"cost\":1}\nnot json\n");
    assert!(!passed);
    assert!(said.contains("line 2"), "{said}");
}

#[test]
fn the_built_in_components_are_certified_and_a_file_that_is_none_is_named() {
    let cellctl = Cellctl::new().unwrap();
    for name in ["gcra", "monthly-bucket"] {
        let arguments = ["policy", "certify", "--component", &component(name), "--cases", "100", "--json"];
        let report: Value = serde_json::from_str(&cellctl.ok(&arguments).unwrap()).unwrap();
        assert_eq!(report["name"], name);
        let findings = report["findings"].as_array().unwrap();
        assert!(findings.len() == 12 && findings.iter().all(|finding| finding["verdict"] == "holds"), "{findings:?}");
        assert_eq!(report["promises"].as_array().unwrap().len(), 1);
    }
    let none = cellctl.folder().join("none.wasm");
    std::fs::write(&none, b"\0asm").unwrap();
    let output = cellctl.run(&["policy", "certify", "--component", none.to_str().unwrap()]).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("none.wasm: the host does not let it in"), "{said}");
}
