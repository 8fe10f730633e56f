//! The stack itself, as a person meets it.

use crate::machine;
use crate::support::World;
use cellar_devstack::{Cellctl, Stack};
use serde_json::Value;

/// Goal: the verdicts of a trace are the same each time, and the books agree each time.
#[tokio::test(flavor = "multi_thread")]
async fn a_trace_played_twice_gives_the_same_verdicts_and_books_that_agree() {
    let world = World::up(&["up", "--regions", "2", "--cells", "2", "--clock", "virtual"]);
    let file = world.cellctl.folder().join("trace.csv");
    let file = file.to_str().unwrap();
    world.cellctl.ok(&["trace", "generate", "--requests", "2000", "--out", file]).unwrap();
    let play = || -> Value {
        let text = world.cellctl.ok(&["trace", "play", file, "--users", "100", "--json"]).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let (first, second) = (play(), play());
    assert_eq!(first["tiers"], second["tiers"]);
    assert_eq!(first["total"]["requests"], 2_000);
    assert_eq!(first["books"]["mismatches"], serde_json::json!([]));
    assert_eq!(second["books"]["mismatches"], serde_json::json!([]));
    let out = world.cellctl.folder().join("ledger");
    let said = world.cellctl.ok(&["ledger", "export", "--month", "2023-11", "--out", out.to_str().unwrap()]).unwrap();
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 4, "a file a cell: {said}");
    assert!(world.cellctl.ok(&["ledger", "list"]).unwrap().contains("2023-12"), "the next month is made ahead");
    let audit: Value = serde_json::from_str(&world.cellctl.ok(&["audit", "--json"]).unwrap()).unwrap();
    assert_eq!((audit["users"].as_u64(), &audit["mismatches"]), (Some(200), &serde_json::json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_up_says_that_one_is_up_and_a_stopped_process_is_dead_until_restarted() {
    let world = World::cell();
    let again = world.cellctl.run(&["cell", "up", "--detach", "--clock", "virtual"]).unwrap();
    assert!(!again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("is up"));

    let state = |role: &str| {
        let status = world.cellctl.status().unwrap();
        let processes = status["processes"].as_array().unwrap().clone();
        let process = processes.into_iter().find(|process| process["role"] == role).unwrap();
        (process["state"].as_str().unwrap().to_owned(), process["url"].clone())
    };
    let (running, url) = state("redis-cache");
    assert_eq!(running, "running");
    world.cellctl.ok(&["stop", "redis-cache"]).unwrap();
    assert_eq!(state("redis-cache").0, "dead");
    world.cellctl.ok(&["restart", "redis-cache"]).unwrap();
    assert_eq!(state("redis-cache"), ("running".to_owned(), url));
}

/// Goal: a trace is played to its end while the directory's server is dead.
/// Method: while every quota Redis stands still, its users sign up and none of its checks can be admitted;
/// then the directory dies, and the Redises go on. So every admission of the play is without a directory.
#[tokio::test(flavor = "multi_thread")]
async fn a_trace_goes_on_while_the_directory_is_dead_and_its_books_agree() {
    let world = World::up(&["up", "--regions", "2", "--cells", "1", "--clock", "virtual"]);
    let file = world.cellctl.folder().join("trace.csv");
    let file = file.to_str().unwrap();
    world.cellctl.ok(&["trace", "generate", "--requests", "2000", "--out", file]).unwrap();
    let redises = machine::paused(&world.cellctl, "redis-quota");
    let play = std::thread::scope(|scope| {
        let play = scope.spawn(|| world.cellctl.ok(&["trace", "play", file, "--users", "50", "--json"]));
        // Its first check is sent once the last of its users is signed up.
        let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while put_off(&world) == 0 {
            assert!(!play.is_finished() && std::time::Instant::now() < until, "the play does not begin");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        world.cellctl.ok(&["stop", "directory"]).unwrap();
        drop(redises);
        play.join().unwrap()
    });
    let report: Value = serde_json::from_str(&play.unwrap()).unwrap();
    assert_eq!(report["total"]["requests"], 2_000);
    assert_eq!(report["books"]["mismatches"], serde_json::json!([]));
}

/// Checks that routers have answered with 503 so far, as their metrics count them.
pub(crate) fn put_off(world: &World) -> u64 {
    let stack = Stack::open(world.cellctl.stack()).unwrap();
    let routers = stack.state().processes.iter().filter(|process| process.role.label() == "router");
    let counts = routers
        .map(|router| machine::counted(router, "cellar_requests_total{route=\"consume\",status=\"503\"}").unwrap_or(0));
    counts.sum()
}

#[test]
fn a_command_whose_reader_has_seen_enough_ends_quietly() {
    let cellctl = Cellctl::up(&["cell", "up"]).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = std::process::Command::new(cellctl.program());
    command.args(["status", "--json", "--stack"]).arg(cellctl.stack()).stdout(writer);
    let output = command.output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(141), Vec::new()));
}

#[test]
fn a_folder_that_cannot_be_written_is_one_clear_line() {
    let cellctl = Cellctl::new().unwrap();
    std::fs::write(cellctl.stack(), "a file where the folder should be").unwrap();
    let output = cellctl.run(&["cell", "up", "--detach"]).unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("cannot write to"), "{said}");
    std::fs::remove_file(cellctl.stack()).unwrap();
}

/// What a command says that has to fail.
fn refusal(command: &mut std::process::Command) -> String {
    let output = command.stdin(std::process::Stdio::null()).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_program_that_is_missing_is_named_with_what_brings_it() {
    let cellctl = Cellctl::new().unwrap();
    let up = |program: &std::path::Path| {
        let mut command = std::process::Command::new(program);
        command.args(["cell", "up", "--detach", "--stack"]).arg(cellctl.stack());
        command
    };
    let said = refusal(up(cellctl.program()).env("PATH", "/nowhere"));
    assert!(said.contains("redis-server is not installed: run `make setup`"), "{said}");

    let alone = cellctl.folder().join("cellctl");
    std::fs::copy(cellctl.program(), &alone).unwrap();
    let said = refusal(&mut up(&alone));
    assert!(said.contains("is not built: run `make build`"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_is_one_clear_line() {
    let world = World::cell();
    let address = world.urls[0].trim_start_matches("http://").to_owned();
    world.cellctl.ok(&["down"]).unwrap();
    let _taken = std::net::TcpListener::bind(&address).unwrap();
    let mut again = std::process::Command::new(world.cellctl.program());
    let said = refusal(again.args(["cell", "up", "--detach", "--stack"]).arg(world.cellctl.stack()));
    let port = address.rsplit(':').next().unwrap();
    assert!(said.contains(&format!("port {port} is taken by another program: local-1-0 cannot start")), "{said}");
}
