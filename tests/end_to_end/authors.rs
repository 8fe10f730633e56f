//! What a policy's author does without a server: the guide, word by word, and the commands that ask a component.

use cellar_devstack::Cellctl;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const GUIDE: &str = include_str!("../../docs/policies/first-policy.md");

/// One command of a page, what the page shows of its output, and whether it is meant to fail.
struct Shown {
    command: String,
    output: Vec<String>,
    fails: bool,
}

/// The blocks marked `console`: a line that begins with `$ ` is a command, with its here-document if it has one;
/// lines up to the next are its output. A block that is marked `console fails` ends in a command that fails.
fn commands(page: &str) -> Vec<Shown> {
    let mut all: Vec<Shown> = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```console") else { continue };
        let mut block: Vec<Shown> = Vec::new();
        while let Some(line) = lines.next().filter(|line| *line != "```") {
            let Some(command) = line.strip_prefix("$ ") else {
                block.last_mut().expect("a block begins with a command").output.push(line.to_owned());
                continue;
            };
            let mut command = command.to_owned();
            if command.ends_with("<<'EOF'") {
                for line in lines.by_ref() {
                    command = format!("{command}\n{line}");
                    if line == "EOF" {
                        break;
                    }
                }
            }
            block.push(Shown { command, output: Vec::new(), fails: false });
        }
        if kind.trim() == "fails" {
            block.last_mut().expect("a block has a command").fails = true;
        }
        all.extend(block);
    }
    all
}

/// Whether every line that is shown comes in the output, in this order; `…` stands for anything.
fn shows(shown: &[String], output: &str) -> Result<(), String> {
    let mut lines = output.lines();
    for line in shown.iter().filter(|line| !line.trim().is_empty() && line.trim() != "…") {
        let parts: Vec<&str> = line.split('…').collect();
        if !lines.any(|found| fits(&parts, found)) {
            return Err(line.clone());
        }
    }
    Ok(())
}

fn fits(parts: &[&str], mut found: &str) -> bool {
    let Some(rest) = found.strip_prefix(parts[0]) else { return false };
    found = rest;
    for part in &parts[1..] {
        let Some(at) = found.find(part.trim()) else { return false };
        found = &found[at + part.trim().len()..];
    }
    parts.len() > 1 || found.is_empty()
}

/// Goal: the guide works as it is written. Method: its commands, one after another in one shell in an empty folder,
/// with the built `cellctl` first on the path; and what it shows of them is what they say.
#[test]
fn the_guide_to_a_first_policy_runs_word_by_word() {
    let cellctl = Cellctl::new().unwrap();
    let (home, said) = (cellctl.folder().join("home"), cellctl.folder().join("said"));
    std::fs::create_dir_all(&home).unwrap();
    std::fs::create_dir_all(&said).unwrap();
    let commands = commands(GUIDE);
    assert!(commands.len() > 8, "the guide has commands");
    // Each in the shell itself, so that `cd` holds for the next.
    let script: String = commands
        .iter()
        .enumerate()
        .map(|(n, shown)| {
            format!("{{ {}\n}} >{out}/{n}.out 2>&1; echo $? >{out}/{n}.rc\n", shown.command, out = said.display())
        })
        .collect();
    let bin = cellctl.program().parent().unwrap().to_owned();
    let path = std::env::var("PATH").unwrap();
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(&home)
        .env("PATH", format!("{}:{path}", bin.display()))
        // What the SDK needs is compiled once for all runs of this test.
        .env("CARGO_TARGET_DIR", shared_target())
        .env_remove("CELLAR_STACK")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (n, shown) in commands.iter().enumerate() {
        let text = std::fs::read_to_string(said.join(format!("{n}.out"))).unwrap();
        let status = std::fs::read_to_string(said.join(format!("{n}.rc"))).unwrap();
        assert_eq!(status.trim() != "0", shown.fails, "$ {}\n{text}", shown.command);
        if let Err(missing) = shows(&shown.output, &text) {
            panic!("$ {}\n{text}\nthe guide shows a line that is not there:\n{missing}", shown.command);
        }
    }
}

/// In the workspace's target folder: beside this test's own program.
fn shared_target() -> PathBuf {
    let running = std::env::current_exe().unwrap();
    let target = running.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    target.expect("a test runs in a target folder").join("first-policy")
}

/// `cellctl policy …` on the built-in gcra, in a folder with the files it is given.
fn policy(files: &[(&str, &str)], arguments: &[&str]) -> Output {
    let cellctl = Cellctl::new().unwrap();
    for (name, text) in files {
        std::fs::write(cellctl.folder().join(name), text).unwrap();
    }
    run_in(cellctl.folder(), cellctl.program(), arguments)
}

fn run_in(folder: &Path, program: &Path, arguments: &[&str]) -> Output {
    let component = super::policy::component("gcra");
    let known = ["run", "bench", "check"];
    let mut command = Command::new(program);
    command.arg("policy").args(arguments).current_dir(folder).stdin(Stdio::null());
    if known.contains(&arguments[0]) {
        command.args(["--component", &component]);
    }
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const SETTINGS: (&str, &str) = ("settings.json", r#"{"limit":2,"period_s":60}"#);
const TABLE: (&str, &str) = (
    "requests.csv",
    "user,timestamp,cost,model\nada,2023-11-14T22:13:20Z,2,large\nbob,2023-11-14T22:13:20Z,1,\nada,2023-11-14T22:13:21Z,1,small\nada,2023-11-14T22:14:20Z,1,small\n",
);

#[test]
fn a_table_of_requests_is_answered_as_lines_are_and_summed() {
    let answers = policy(&[SETTINGS, TABLE], &["run", "--requests", "requests.csv"]);
    assert!(answers.status.success(), "{}", text(&answers.stderr));
    let answers: Vec<Value> = text(&answers.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let admitted: Vec<bool> = answers.iter().map(|answer| answer["admitted"].as_bool().unwrap()).collect();
    assert_eq!(admitted, [true, true, false, true]);
    let sums = policy(&[SETTINGS, TABLE], &["run", "--requests", "requests.csv", "--user", "ada", "--json"]);
    let sums: Value = serde_json::from_slice(&sums.stdout).unwrap();
    let expected = serde_json::json!({
        "users": 1, "requests": 3, "questions": 0, "admitted": 2, "denied": 1, "amount": 3,
    });
    assert_eq!(sums, expected);
}

#[test]
fn a_run_is_explained_request_by_request_and_drawn_user_by_user() {
    let said = policy(&[SETTINGS, TABLE], &["run", "--requests", "requests.csv", "--explain"]);
    let said = text(&said.stdout);
    let expected = [
        "2023-11-14T22:13:21Z  ada  consume 1: denied, 0 of 2 left",
        "    said    model=small",
        "    passes  at 2023-11-14T22:13:50Z, in 29 s",
        "4 requests of 2 users: 3 admitted, 4 in all; 1 denied",
    ];
    let expected = expected.map(str::to_owned);
    assert!(shows(&expected, &said).is_ok(), "{said}");
    let drawn = text(&policy(&[SETTINGS, TABLE], &["run", "--requests", "requests.csv", "--draw"]).stdout);
    let rows = drawn.lines().filter(|line| line.contains('┤')).count();
    assert_eq!((rows, drawn.matches("denied ").count()), (12, 1), "{drawn}");
}

#[test]
fn a_bad_line_of_a_table_is_named_after_what_came_before_it() {
    let table = ("requests.csv", "user,at_us,cost\nada,1,1\nada,2,much\n");
    let output = policy(&[SETTINGS, table], &["run", "--requests", "requests.csv"]);
    assert!(!output.status.success());
    assert_eq!(text(&output.stdout).lines().count(), 1);
    assert!(text(&output.stderr).contains("line 3: \"much\" is not an amount"), "{}", text(&output.stderr));
}

#[test]
fn what_a_decision_costs_is_measured_in_three_cases() {
    let output = policy(&[SETTINGS], &["bench", "--json"]);
    let measured: Value = serde_json::from_slice(&output.stdout).unwrap();
    let cases = measured["decide"].as_array().unwrap();
    let names: Vec<&str> = cases.iter().map(|case| case["case"].as_str().unwrap()).collect();
    assert_eq!(names, ["first sight", "spending", "denied"]);
    assert!(
        cases.iter().all(|case| case["fuel_most"].as_u64().unwrap() > 0 && case["median_ns"].as_f64().unwrap() > 0.0)
    );
}

#[test]
fn a_step_that_finds_no_component_or_no_crate_says_what_makes_one() {
    let cellctl = Cellctl::new().unwrap();
    let missing =
        Command::new(cellctl.program()).args(["policy", "certify"]).current_dir(cellctl.folder()).output().unwrap();
    assert!(text(&missing.stderr).contains("`cellctl policy build` makes it"), "{}", text(&missing.stderr));
    let no_crate = run_in(cellctl.folder(), cellctl.program(), &["build"]);
    assert!(text(&no_crate.stderr).contains("`cellctl policy new NAME`"), "{}", text(&no_crate.stderr));
}

#[test]
fn a_machine_without_cargo_is_told_what_to_install() {
    let cellctl = Cellctl::new().unwrap();
    let new = run_in(cellctl.folder(), cellctl.program(), &["new", "night"]);
    assert!(new.status.success(), "{}", text(&new.stderr));
    let mut test = Command::new(cellctl.program());
    let test = test.args(["policy", "test", "night"]).current_dir(cellctl.folder()).env("PATH", cellctl.folder());
    let output = test.output().unwrap();
    assert!(!output.status.success() && text(&output.stderr).contains("https://rustup.rs"), "{}", text(&output.stderr));
}

/// Goal: the interface is for any language. Where there is no clang this is said, and nothing is shown.
#[test]
fn a_policy_in_c_is_built_checked_and_certified() {
    if ["clang", "wasm-ld"].iter().any(|program| Command::new(program).arg("--version").output().is_err()) {
        eprintln!("skipped: there is no clang and wasm-ld here (apt install clang lld)");
        return;
    }
    let cellctl = Cellctl::new().unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/policy-c");
    for name in ["policy.c", "cellar_policy.h", "settings.json"] {
        std::fs::copy(example.join(name), cellctl.folder().join(name)).unwrap();
    }
    let run = |arguments: &[&str]| {
        let mut command = Command::new(cellctl.program());
        let output = command.arg("policy").args(arguments).current_dir(cellctl.folder()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    };
    run(&["build"]);
    assert!(run(&["check", "--settings", "settings.json"]).contains("minute-budget 1.0.0   counts requests"));
    let report: Value = serde_json::from_str(&run(&["certify", "--cases", "100", "--json"])).unwrap();
    assert!(report["findings"].as_array().unwrap().iter().all(|finding| finding["verdict"] == "holds"), "{report}");
    std::fs::write(cellctl.folder().join("settings.json"), r#"{"limit": 0}"#).unwrap();
    let refused = Command::new(cellctl.program())
        .args(["policy", "check", "--settings", "settings.json"])
        .current_dir(cellctl.folder())
        .output()
        .unwrap();
    assert!(text(&refused.stderr).contains("/limit: must be 1 to 1099511627776"), "{}", text(&refused.stderr));
}
