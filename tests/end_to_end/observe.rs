//! `up --observe`: Prometheus beside a real stack, with the rules that ship.

use crate::machine::{process, restart};
use crate::support::World;
use cellar_devstack::{Cellctl, Stack};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// Two scrapes for a rate, and twice the half minute between evaluations, on a machine that also compiles.
const SEEN_MAX: Duration = Duration::from_secs(180);
const POLL: Duration = Duration::from_millis(500);

fn on_path(program: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|folder| folder.join(program).is_file())
}

/// What Prometheus answers, once `enough` says that it has seen enough.
async fn answer(url: &str, path: &str, enough: impl Fn(&Value) -> bool) -> Value {
    let until = Instant::now() + SEEN_MAX;
    loop {
        let asked = reqwest::get(format!("{url}/api/v1/{path}")).await.unwrap();
        let document: Value = asked.json().await.unwrap();
        if enough(&document["data"]) {
            return document["data"].clone();
        }
        assert!(Instant::now() < until, "{path}: {document:#}");
        tokio::time::sleep(POLL).await;
    }
}

fn result(data: &Value) -> &Vec<Value> {
    data["result"].as_array().unwrap()
}

/// Goal: the rules that ship are about series that there are, with the labels they count on.
/// Method: a router and a cell, checks and profile reads, and Prometheus asked what it makes of them.
#[tokio::test(flavor = "multi_thread")]
async fn the_rules_that_ship_evaluate_on_a_real_stack() {
    if !on_path("prometheus") {
        println!("prometheus: not found, skipped; `scripts/setup observe` installs it");
        return;
    }
    let world = World::up(&["up", "--regions", "1", "--cells", "1", "--observe"]);
    let prometheus = process(&world.cellctl, "prometheus");
    assert!(prometheus.is_running());
    let url = prometheus.url.clone();

    let user = world.user("watched@example.org", "pro").await;
    let reading = tokio::spawn(read_on(world.urls[0].clone(), world.service_key.clone(), user.as_str().to_owned()));
    let both = |data: &Value| result(data).len() == 2 && result(data).iter().all(|one| one["value"][1] == "1");
    let targets = answer(&url, "query?query=up", both).await;
    let mut labels: Vec<_> = result(&targets).iter().map(|one| one["metric"].clone()).collect();
    labels.sort_by_key(|one| one["job"].to_string());
    let words = |of: &Value, names: [&str; 3]| names.map(|name| of[name].as_str().unwrap_or_default().to_owned());
    assert_eq!(words(&labels[0], ["job", "region", "cell"]), ["cellar-cell", "eu", "eu-1"]);
    assert_eq!(words(&labels[1], ["job", "region", "router"]), ["cellar-router", "eu", "eu-router"]);

    let evaluated = |data: &Value| rules(data).iter().all(|rule| rule["health"] != "unknown");
    let rules = rules(&answer(&url, "rules", evaluated).await);
    let unwell: Vec<_> = rules.iter().filter(|rule| rule["health"] != "ok").collect();
    assert!(unwell.is_empty(), "{unwell:#?}");
    let alerts = rules.iter().filter(|rule| rule["type"] == "alerting").count();
    assert!(alerts > 0 && alerts < rules.len(), "{alerts} alerts of {} rules", rules.len());

    let ratios = answer(&url, "query?query=cache_hit_ratio", |data| !result(data).is_empty()).await;
    for ratio in result(&ratios) {
        let value: f64 = ratio["value"][1].as_str().unwrap().parse().unwrap();
        assert!((0.0..=1.0).contains(&value), "{ratio}");
        assert_eq!(words(&ratio["metric"], ["region", "cell", "__name__"]), ["eu", "eu-1", "cache_hit_ratio"]);
    }
    answer(&url, "query?query=db_connection_pool_saturation", |data| !result(data).is_empty()).await;
    answer(&url, "query?query=cellar:slo_bad:ratio_rate1h", |data| !result(data).is_empty()).await;
    reading.abort();
}

/// All rules of all groups.
fn rules(data: &Value) -> Vec<Value> {
    let groups = data["groups"].as_array().unwrap();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

/// A person who looks at his profile ten times a second.
async fn read_on(url: String, key: String, user: String) {
    let http = reqwest::Client::new();
    loop {
        let asked = http.get(format!("{url}/v1/user/profile")).bearer_auth(&key).header("cellar-user", &user);
        // What it is answered is for Prometheus to see.
        let _ = asked.send().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_a_stack_is_one_of_its_processes_and_comes_up_with_it() {
    if !on_path("prometheus") {
        println!("prometheus: not found, skipped; `scripts/setup observe` installs it");
        return;
    }
    let mut cellctl = Cellctl::up(&["cell", "up", "--observe"]).unwrap();
    let first = process(&cellctl, "prometheus");
    let shown = cellctl.ok(&["status"]).unwrap();
    assert!(shown.contains("prometheus") && shown.contains(&first.url), "{shown}");

    cellctl.ok(&["stop", "prometheus"]).unwrap();
    assert!(!process(&cellctl, "prometheus").is_running());
    assert!(process(&cellctl, "cell").is_running(), "nothing of the stack needs it");
    restart(&cellctl, "prometheus");
    assert!(process(&cellctl, "prometheus").is_running());

    cellctl.ok(&["down"]).unwrap();
    assert!(!process(&cellctl, "prometheus").is_running());
    cellctl.keep(&["cell", "up"]).unwrap();
    let again = process(&cellctl, "prometheus");
    assert!(again.is_running(), "it was not said again, and is watched again");
    assert_eq!(again.url, first.url);
    cellctl.ok(&["down", "--delete"]).unwrap();
    assert!(Stack::open(cellctl.stack()).is_err() && !cellctl.stack().join("observed").exists());
}

/// Method: a search path that has everything but Prometheus.
#[tokio::test(flavor = "multi_thread")]
async fn a_stack_comes_up_without_prometheus_and_says_what_to_install() {
    let mut cellctl = Cellctl::new().unwrap();
    let programs = cellctl.folder().join("programs");
    std::fs::create_dir(&programs).unwrap();
    for folder in std::env::split_paths(&std::env::var_os("PATH").unwrap()) {
        link_all_but(&folder, "prometheus", &programs);
    }
    cellctl.environment("PATH", programs.to_str().unwrap());
    cellctl.keep(&["cell", "up", "--observe"]).unwrap();
    let said = std::fs::read_to_string(cellctl.folder().join("up.log")).unwrap();
    assert!(said.contains("prometheus is not installed") && said.contains("scripts/setup observe"), "{said}");
    let status = cellctl.status().unwrap();
    assert_eq!(status["state"], "up");
    let processes = status["processes"].as_array().unwrap();
    assert!(processes.iter().all(|one| one["role"] != "prometheus"), "{processes:#?}");
}

fn link_all_but(from: &Path, left_out: &str, to: &Path) {
    for program in std::fs::read_dir(from).into_iter().flatten().flatten() {
        if program.file_name() != left_out {
            // The first of a name on the path is there already.
            let _ = std::os::unix::fs::symlink(program.path(), to.join(program.file_name()));
        }
    }
}
