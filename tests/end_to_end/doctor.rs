//! What operators ask at three in the morning: `doctor` names the cause of seven faults, `explain` says what became
//! of a request, `top` and `slo` read what all processes count.

use crate::machine::{self, process};
use crate::spender::Spender;
use crate::support::{World, sign_up_body};
use cellar_devstack::Cellctl;
use cellar_model::wire::ConsumeBody;
use cellar_model::{Amount, Cost, PolicyName, Unit, UserId};
use futures::future::join_all;
use serde_json::Value;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::time::Instant;

/// For a fault to be seen, or to have gone: a Redis that is back is gone back to within a minute.
const PATIENCE: Duration = Duration::from_secs(150);
const POLL: Duration = Duration::from_millis(500);
/// New users in a row who are taken although a cell would refuse them.
const SIGN_UPS: usize = 12;

/// What the doctor says, and the exit status it ends with.
fn doctor(cellctl: &Cellctl) -> (i32, Value) {
    let output = tokio::task::block_in_place(|| cellctl.run(&["doctor", "--json"]).unwrap());
    let said = serde_json::from_slice(&output.stdout);
    (output.status.code().unwrap(), said.unwrap_or_else(|error| panic!("{error}: {output:?}")))
}

async fn until(cellctl: &Cellctl, what: &str, wanted: impl Fn(&Value) -> bool) -> (i32, Value) {
    let until = Instant::now() + PATIENCE;
    loop {
        let (code, said) = doctor(cellctl);
        if wanted(&said) {
            let page = tokio::task::block_in_place(|| cellctl.run(&["doctor"]).unwrap());
            println!("--- {what}\n{}", String::from_utf8(page.stdout).unwrap());
            return (code, said);
        }
        assert!(Instant::now() < until, "{what}: {said:#}");
        tokio::time::sleep(POLL).await;
    }
}

async fn healthy(cellctl: &Cellctl) {
    let (code, said) = until(cellctl, "healthy", |said| said["status"] == "healthy").await;
    assert_eq!((code, said["causes"].as_array().unwrap().len()), (0, 0), "{said:#}");
}

/// The one cause of that kind, once it is there.
async fn named(cellctl: &Cellctl, kind: &str) -> (i32, Value) {
    let of = |said: &Value| said["causes"].as_array().unwrap().iter().find(|one| one["cause"] == kind).cloned();
    let (code, said) = until(cellctl, kind, |said| of(said).is_some()).await;
    let cause = of(&said).unwrap();
    assert!(cause["runbook"].as_str().unwrap().ends_with(&format!("runbooks/{kind}.md")), "{cause:#}");
    for told in ["hit", "title"] {
        assert!(!cause[told].as_str().unwrap().is_empty(), "{cause:#}");
    }
    assert!(!cause["next"].as_array().unwrap().is_empty() && code > 0, "{cause:#}");
    (code, cause)
}

/// Goal: each store that is stopped is named as the one cause, whoever has noticed what of it, with the process to
/// start and the users it hits; once it is back, nothing is said any more. New users are not placed where they would
/// be refused.
/// Method: a region of two cells; the stores of one of them are stopped one after another, then the directory.
#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_names_the_store_that_is_down_and_nothing_once_it_is_back() {
    let world = World::up(&["up", "--regions", "1", "--cells", "2"]);
    let cellctl = &world.cellctl;
    world.bucket_tier("doctored", 1_000).await;
    healthy(cellctl).await;
    for (role, kind) in [("redis-quota", "redis-away"), ("postgres", "postgres-away"), ("directory", "directory-away")]
    {
        let (name, cell) = stop(cellctl, role);
        let (_, cause) = named(cellctl, kind).await;
        assert_eq!(cause["process"], name.as_str(), "{cause:#}");
        assert!(cause["next"].as_array().unwrap().iter().any(|step| step == &format!("cellctl restart {name}")));
        let alone =
            |said: &Value| said["causes"].as_array().is_some_and(|all| all.len() == 1 && all[0]["cause"] == kind);
        until(cellctl, "one fault is one cause", alone).await;
        if let Some(cell) = cell {
            assert_eq!(cause["cells"], serde_json::json!([cell]));
            let hit = cause["hit"].as_str().unwrap();
            assert!(hit.contains(&format!("{cell} (50 % of region")), "{hit}");
        }
        if kind == "postgres-away" {
            sign_ups_are_taken(&world).await;
        }
        machine::restart(cellctl, &name);
        healthy(cellctl).await;
    }
}

/// Stops the first process of that role, and says of which cell it is.
fn stop(cellctl: &Cellctl, role: &str) -> (String, Option<String>) {
    let one = process(cellctl, role);
    tokio::task::block_in_place(|| cellctl.ok(&["stop", &one.name]).unwrap());
    (one.name, one.cell)
}

/// Once the router has heard of it, new users go to the other cell.
async fn sign_ups_are_taken(world: &World) {
    let (until, mut taken) = (Instant::now() + PATIENCE, 0);
    for n in 0.. {
        let email = format!("new-{n}@example.org");
        let signed_up = world.client.sign_up(&sign_up_body(&email, "doctored"), Some(&email)).await;
        taken = if signed_up.is_ok() { taken + 1 } else { 0 };
        if taken == SIGN_UPS {
            return;
        }
        assert!(Instant::now() < until, "new users are still placed where they are refused");
    }
}

/// Goal: what is wrong with a cell and with no process of it is named too: its clock, its disk, a policy, its load.
/// Method: one cell whose clock is set wrong, whose disk is filled up, whose policy traps, and which is asked more
/// than it can decide; and back.
#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_names_a_wrong_clock_a_full_disk_a_policy_that_faults_and_an_overload() {
    let mut cellctl = Cellctl::new().unwrap();
    let (skew, disk) = (cellctl.folder().join("skew"), SmallDisk::new());
    std::fs::write(&skew, "0").unwrap();
    cellctl.environment("CELLAR_CELL__CLOCK_SKEW_FILE", &skew.display().to_string());
    if let Some(disk) = &disk {
        cellctl.environment("CELLAR_CELL__DATA_DIR", &disk.at().join("cell").display().to_string());
    }
    cellctl.keep(&["cell", "up"]).unwrap();
    let world = World::of(cellctl);
    let cellctl = &world.cellctl;
    healthy(cellctl).await;

    std::fs::write(&skew, "3600000").unwrap();
    let (code, _) = named(cellctl, "clock-disputed").await;
    assert_eq!(code, 1, "policy time goes on without it: nobody is refused");
    std::fs::write(&skew, "0").unwrap();
    healthy(cellctl).await;

    if let Some(disk) = &disk {
        disk.fill();
        let (code, cause) = named(cellctl, "disk-full").await;
        assert_eq!((code, cause["failing"].as_bool()), (1, Some(false)), "{cause:#}");
        disk.make_room();
        healthy(cellctl).await;
    }

    let trap = "(if (i64.eq (local.get $limit) (i64.const 666)) (then unreachable))";
    let spender = Spender { harm: trap, ..Spender::ONE };
    let name = PolicyName::new(Spender::NAME).unwrap();
    world.publish(&name, spender.version.parse().unwrap(), spender.component()).await;
    let used = "[[policy]]\nslot = \"monthly\"\nuse = \"spender@1\"\nunit = \"tokens\"\nsettings = { limit = 666 }\n";
    world.tier(&format!("name = \"trapping\"\n{used}")).await;
    let trapped = world.user("trapped@example.org", "trapping").await;
    ask(&world, &trapped, 1, "trapped").await;
    let (code, cause) = named(cellctl, "policy-faulting").await;
    let seen = cause["seen"][0]["what"].as_str().unwrap();
    assert!(code == 2 && seen.contains("trapping/monthly") && seen.contains("denied"), "{cause:#}");

    world.bucket_tier("hot", 1_000_000_000).await;
    let hot = world.user("hot@example.org", "hot").await;
    let until = Instant::now() + PATIENCE;
    // As many at once as one shard's line does not take.
    while doctor(cellctl).1["causes"].as_array().unwrap().iter().all(|cause| cause["cause"] != "overloaded") {
        assert!(Instant::now() < until, "it decides whatever it is asked");
        let check = ConsumeBody { user_id: Some(hot.clone()), ..ConsumeBody::default() };
        join_all((0..24).map(|_| world.client.consume_batch(vec![check.clone(); 1_000]))).await;
    }
    let (code, cause) = named(cellctl, "overloaded").await;
    assert!(code == 2 && cause["failing"] == true, "{cause:#}");
    healthy(cellctl).await;
}

/// A disk of its own that can be filled up; none where none can be mounted.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=96m", "cellar-test"]).arg(folder.path());
        let mounted = mount.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
        if !mounted {
            println!("no disk can be mounted here: that one is full is not tried");
        }
        mounted.then_some(Self(folder))
    }

    fn at(&self) -> &Path {
        self.0.path()
    }

    /// To the last byte.
    fn fill(&self) {
        let mut filler = File::create(self.at().join("filler")).unwrap();
        while filler.write_all(&[0; 4096]).is_ok() {}
    }

    fn make_room(&self) {
        std::fs::remove_file(self.at().join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-l"]).arg(self.at()).status();
    }
}

/// A check of so many tokens under a request id; its status.
async fn ask(world: &World, user: &UserId, tokens: u64, request_id: &str) -> u16 {
    let amount = |amount| Amount::new(amount).unwrap();
    let cost = Cost::of([(Unit::requests(), amount(0)), (Unit::tokens(), amount(tokens))]).unwrap();
    let body = ConsumeBody { user_id: Some(user.clone()), cost: Some(cost), ..ConsumeBody::default() };
    let url = format!("{}/v1/internal/quota/consume", world.urls[0]);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = http.post(url).bearer_auth(&world.service_key).header("cellar-request-id", request_id);
    request.json(&body).send().await.unwrap().status().as_u16()
}

fn explain(cellctl: &Cellctl, request_id: &str) -> (i32, Value) {
    let output = tokio::task::block_in_place(|| cellctl.run(&["explain", request_id, "--json"]).unwrap());
    let page = tokio::task::block_in_place(|| cellctl.run(&["explain", request_id]).unwrap());
    println!("--- explain {request_id}\n{}", String::from_utf8(page.stdout).unwrap());
    assert_eq!(page.status.code(), output.status.code());
    (output.status.code().unwrap(), serde_json::from_slice(&output.stdout).unwrap())
}

fn decisions(said: &Value) -> Vec<&Value> {
    let processes = said["processes"].as_array().unwrap().iter();
    processes.flat_map(|process| process["decisions"].as_array().unwrap()).collect()
}

/// Goal: of any request one is told what decided it, on which state, what bound, and where its time went; of one that
/// nobody remembers, that it is so.
/// Method: through a router, an allowed and a denied check by their request ids, a batch under one id, and ids that
/// were never sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_explained_by_its_id_and_one_that_is_not_remembered_is_said_to_be_so() {
    let world = World::up(&["up", "--regions", "1", "--cells", "2"]);
    let cellctl = &world.cellctl;
    let (code, said) = explain(cellctl, "before-any");
    assert_eq!((code, &said["found"]), (1, &Value::Bool(false)));
    world.bucket_tier("explained", 100).await;
    let user = world.user("explained@example.org", "explained").await;
    assert_eq!(ask(&world, &user, 30, "r-first").await, 200);
    assert_eq!(ask(&world, &user, 25, "r-second").await, 200);
    assert_eq!(ask(&world, &user, 60, "r-denied").await, 429);

    for (id, verdict, before, after, bound) in [
        ("r-first", "allowed", 100, 70, false),
        ("r-second", "allowed", 70, 45, false),
        ("r-denied", "denied", 45, 45, true),
    ] {
        let (code, said) = explain(cellctl, id);
        let found = decisions(&said);
        assert_eq!((code, found.len()), (0, 1), "{said:#}");
        let (one, policy) = (found[0], &found[0]["decided"]["policies"][0]);
        assert_eq!((&one["verdict"], &one["operation"]), (&verdict.into(), &"consume".into()));
        assert_eq!(one["decided"]["tier"], "explained");
        assert_eq!(
            (&policy["slot"], &policy["limit"], &policy["bound"]),
            (&"monthly".into(), &100.into(), &bound.into())
        );
        assert_eq!(
            (&policy["remaining_before"], &policy["remaining_after"]),
            (&before.into(), &after.into()),
            "{one:#}"
        );
        assert!(policy["policy"].as_str().unwrap().starts_with("monthly-bucket ") && one["commit_us"].is_u64());
        // The id of the user is in no answer as a whole.
        assert!(!said.to_string().contains(user.as_str()), "{said}");
    }
    let (code, said) = explain(cellctl, "never-sent");
    assert_eq!((code, said["found"].as_bool()), (1, Some(false)));
    assert!(said["processes"].as_array().unwrap().iter().any(|process| process["reaches_s"].is_f64()), "{said:#}");

    let output = tokio::task::block_in_place(|| cellctl.ok(&["top", "--once"]).unwrap());
    println!("--- top\n{output}");
    for named in ["eu-router", "eu-1-0", "shard eu-2/0", "redis", "no condition is in force"] {
        assert!(output.contains(named), "{named} is not in {output}");
    }
    let refused = cellctl.run(&["top"]).unwrap();
    assert!(!refused.status.success() && String::from_utf8(refused.stderr).unwrap().contains("--once"));
    let frame: Value = serde_json::from_str(&cellctl.ok(&["top", "--json"]).unwrap()).unwrap();
    assert_eq!(
        (frame["cells"].as_array().unwrap().len(), frame["doors"].as_array().unwrap().len()),
        (2, 1),
        "{frame:#}"
    );

    // Whether it was in time is the machine's affair: that all was answered is ours.
    let slo = tokio::task::block_in_place(|| cellctl.run(&["slo", "--since", "1h", "--json"]).unwrap());
    let slo: Value = serde_json::from_slice(&slo.stdout).unwrap();
    println!("--- slo\n{}", String::from_utf8(cellctl.run(&["slo"]).unwrap().stdout).unwrap());
    assert_eq!(slo["whole_period"], false, "no Prometheus was asked");
    let answered = &slo["promises"][0];
    assert!(answered["bad"] == 0.0 && answered["all"].as_f64().unwrap() >= 3.0 && answered["met"] == true, "{slo:#}");
}
