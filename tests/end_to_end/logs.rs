//! Log lines: whose they are, how many, and what happens when nobody takes them.

use crate::served::{Came, DOORS};
use crate::support::World;
use cellar_devstack::{Cellctl, Stack};
use serde_json::Value;
use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tokio::time::Instant;

/// A program of the stack, as `status --json` has it.
fn process(world: &World, role: &str) -> Value {
    let status = world.cellctl.status().unwrap();
    status["processes"].as_array().unwrap().iter().find(|process| process["role"] == role).unwrap().clone()
}

fn text(process: &Value, member: &str) -> String {
    process[member].as_str().unwrap().to_owned()
}

/// Waits for a line of the program's log that is such.
async fn line(process: &Value, such: impl Fn(&str) -> bool) -> String {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let log = std::fs::read(text(process, "log")).unwrap();
        if let Some(line) = String::from_utf8_lossy(&log).lines().find(|line| such(line)) {
            return line.to_owned();
        }
        assert!(Instant::now() < until, "no such line in the log of {}", process["name"]);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Goal: the lines of a running program can be made more and fewer, by an operator and by nobody else, and a filter
/// that says nothing is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_programs_log_level_is_changed_while_it_runs() {
    let world = World::up(DOORS[1]);
    for role in ["router", "cell"] {
        let process = process(&world, role);
        let name = text(&process, "name");
        let cellctl = |filter: &[&str]| world.cellctl.run(&[&["log-level", &name], filter].concat()).unwrap();
        assert_eq!(String::from_utf8_lossy(&cellctl(&[]).stdout).trim(), "info");
        let log = std::fs::read_to_string(text(&process, "log")).unwrap();
        assert!(!log.contains("DEBUG"), "{log}");
        assert!(cellctl(&["info,sqlx=debug"]).status.success());
        line(&process, |line| line.contains("DEBUG")).await;
        assert_eq!(String::from_utf8_lossy(&cellctl(&[]).stdout).trim(), "info,sqlx=debug");
        for bad in ["loud", "sqlx=loud", "info,,"] {
            let refused = cellctl(&[bad]);
            assert!(!refused.status.success(), "{bad}");
            let said = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert!(said.contains("level") || said.contains("filter"), "{said}");
        }
        assert_eq!(String::from_utf8_lossy(&cellctl(&[]).stdout).trim(), "info,sqlx=debug");
        assert!(cellctl(&["off"]).status.success());
        let url = format!("{}/log-level", text(&process, "admin_url"));
        let anybody = Came::of(reqwest::Client::new().put(&url).body("trace")).await;
        assert_eq!(anybody.status, 401);
        let bad = reqwest::Client::new().put(&url).bearer_auth(operator_key(&world)).body("loud");
        let bad = Came::of(bad).await;
        assert_eq!(bad.status, 422);
        assert!(bad.text.contains("loud"), "{}", bad.text);
    }
}

fn operator_key(world: &World) -> String {
    world.cellctl.status().unwrap()["operator_key"].as_str().unwrap().to_owned()
}

/// Goal: what a caller calls his request is what its answer, and its lines in the router's and the cell's logs, call
/// it; a request without a name gets one.
#[tokio::test(flavor = "multi_thread")]
async fn a_requests_id_is_in_its_answer_and_in_its_lines_at_router_and_cell() {
    for json in ["false", "true"] {
        let mut cellctl = Cellctl::new().unwrap();
        // Every statement that is sent to Postgres is a line then.
        cellctl.environment("CELLAR_LOG", "info,sqlx=debug");
        cellctl.environment("CELLAR_ROUTER__LOG_JSON", json);
        cellctl.environment("CELLAR_CELL__LOG_JSON", json);
        cellctl.keep(DOORS[1]).unwrap();
        let world = World::of(cellctl);
        let user = world.user("lines@example.org", "free").await;
        let (http, url) = (reqwest::Client::new(), world.urls[0].clone());
        // The directory says whose an e-mail is, which no router remembers yet: a statement of the router's.
        let by_email =
            http.put(format!("{url}/v1/internal/users/lines@example.org/tier")).bearer_auth(&world.service_key);
        let by_email = by_email.header("x-request-id", "job-of-lines").json(&serde_json::json!({"tier": "free"}));
        let came = Came::of(by_email).await;
        assert_eq!((came.status / 100, came.header("cellar-request-id")), (2, "job-of-lines"), "{}", came.text);
        for role in ["router", "cell"] {
            let line = line(&process(&world, role), |line| line.contains("job-of-lines")).await;
            if json == "true" {
                let line: Value = serde_json::from_str(&line).unwrap();
                assert_eq!(line["request_id"], "job-of-lines");
            } else {
                assert!(line.contains(" request_id=job-of-lines"), "{line}");
            }
        }
        let profile = || http.get(format!("{url}/v1/user/profile")).bearer_auth(&world.service_key);
        let profile = || profile().header("cellar-user", user.as_str());
        let (first, second) = (Came::of(profile()).await, Came::of(profile()).await);
        assert_eq!(first.header("cellar-request-id").len(), 32);
        assert_ne!(first.header("cellar-request-id"), second.header("cellar-request-id"));
        // One that would not fit into a line is not taken.
        let odd = Came::of(profile().header("x-request-id", "a b=\"c\"")).await;
        assert_eq!(odd.header("cellar-request-id").len(), 32);
    }
}

/// A router that is started again with another standard error.
struct Router {
    child: Child,
}

impl Drop for Router {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Goal: a program whose log cannot be written serves, and counts the lines that are lost.
/// Method: a router whose standard error is a full disk, a pipe that nobody reads any more, and one that is full.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_written_costs_lines_and_nothing_else() {
    let world = World::up(DOORS[1]);
    let user = world.user("full@example.org", "free").await;
    let router = process(&world, "router");
    let launch = {
        let stack = Stack::open(world.cellctl.stack()).unwrap();
        let entry = stack.state().processes.iter().find(|one| one.name == text(&router, "name")).unwrap().clone();
        entry.launch
    };
    world.cellctl.ok(&["stop", &text(&router, "name")]).unwrap();
    let (read, write) = std::io::pipe().unwrap();
    let (unread, full) = std::io::pipe().unwrap();
    drop(read);
    let full_disk = File::options().write(true).open("/dev/full").unwrap();
    let outputs = [Stdio::from(full_disk), Stdio::from(write), Stdio::from(full)];
    for output in outputs {
        let mut command = Command::new(&launch.program);
        // Lines enough to fill a pipe and the queue before it.
        command.args(&launch.arguments).env("CELLAR_LOG", "trace").stdout(Stdio::null()).stderr(output);
        let _router = Router { child: command.spawn().unwrap() };
        let (http, until) = (reqwest::Client::new(), Instant::now() + Duration::from_secs(120));
        let mut served = 0;
        loop {
            let profile = http.get(format!("{}/v1/user/profile", world.urls[0])).bearer_auth(&world.service_key);
            let answer = profile.header("cellar-user", user.as_str()).send().await;
            served += usize::from(answer.is_ok_and(|answer| answer.status() == 200));
            let metrics = http.get(format!("{}/metrics", text(&router, "admin_url"))).send().await;
            let metrics = match metrics {
                Ok(metrics) => metrics.text().await.unwrap(),
                Err(_) => String::new(),
            };
            let lost = metrics.lines().find_map(|line| line.strip_prefix("cellar_log_lines_lost_total "));
            if served > 20 && lost.is_some_and(|lost| lost != "0") {
                break;
            }
            assert!(Instant::now() < until, "{served} answers, lines lost: {lost:?}");
        }
    }
    drop(unread);
}
