//! A world by Terraform: `terraform/local` on real processes, and the rules of `terraform/modules/topology`
//! beside what routers say.

use crate::support::{World, known, sign_up, tokens};
use cellar_client::{Client, Credential, Decision};
use cellar_devstack::{Cellctl, Identity, Stack};
use cellar_model::UserId;
use serde_json::{Value, json};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// For a step of an apply to be seen, on a machine that also compiles.
const STEP_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(2);

/// A copy of the modules, with a state of its own.
struct Terraform {
    program: PathBuf,
    modules: PathBuf,
    root: PathBuf,
}

impl Terraform {
    /// None where there is no Terraform.
    fn new(cellctl: &Cellctl, root: &str) -> Option<Self> {
        let path = std::env::var_os("PATH")?;
        let mut programs = std::env::split_paths(&path).map(|folder| folder.join("terraform"));
        let Some(program) = programs.find(|program| program.is_file()) else {
            println!("terraform: not found, skipped");
            return None;
        };
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../terraform");
        let copy = cellctl.folder().join("terraform");
        std::fs::create_dir_all(&copy).unwrap();
        for folder in ["modules", "local"] {
            copy_files(&source.join(folder), &copy.join(folder));
        }
        Some(Self { program, modules: copy.join("modules"), root: copy.join(root) })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(format!("-chdir={}", self.root.display())).args(arguments).stdin(Stdio::null());
        // It asks nobody for a newer version or for a value, and follows nobody's own settings.
        for (name, value) in [("CHECKPOINT_DISABLE", "1"), ("TF_IN_AUTOMATION", "1"), ("TF_INPUT", "0")] {
            command.env(name, value);
        }
        command.env("TF_CLI_CONFIG_FILE", "/dev/null");
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert!(output.status.success(), "terraform {arguments:?}: {}{}", said[0], said[1]);
        said[0].clone()
    }

    fn apply(&self) -> String {
        self.ok(&["apply", "-auto-approve", "-no-color"])
    }

    /// Whether a plan has nothing to do.
    fn is_settled(&self) -> bool {
        self.run(&["plan", "-detailed-exitcode", "-no-color"]).status.code() == Some(0)
    }

    fn set(&self, variables: &Value) {
        std::fs::write(self.root.join("terraform.tfvars.json"), variables.to_string()).unwrap();
    }

    /// An apply that is killed, with the command it has started, as soon as `seen`.
    fn apply_killed(&self, seen: impl Fn() -> bool) {
        let mut command = self.command(&["apply", "-auto-approve", "-no-color"]);
        let mut apply = command.process_group(0).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let until = Instant::now() + STEP_MAX;
        while !seen() {
            assert_eq!(apply.try_wait().unwrap(), None, "it came to its end before it could be killed");
            assert!(Instant::now() < until, "the apply does not come so far");
            std::thread::sleep(POLL);
        }
        let killed = Command::new("sh").args(["-c", &format!("kill -KILL -{}", apply.id())]).status().unwrap();
        assert!(killed.success());
        apply.wait().unwrap();
    }
}

/// The files of a folder and those below, but for what Terraform has put there.
fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let name = entry.file_name();
        if entry.path().is_dir() && name != ".terraform" && name != ".cellar" {
            copy_files(&entry.path(), &to.join(name));
        } else if name.to_string_lossy().ends_with(".tf") {
            std::fs::copy(entry.path(), to.join(name)).unwrap();
        }
    }
}

/// The variables of `terraform/local`: these regions, on the stack of the test.
fn variables(cellctl: &Cellctl, regions: &Value) -> Value {
    json!({
        "stack": cellctl.stack(), "cellctl": cellctl.program(), "clock": "virtual", "regions": regions,
    })
}

fn region(name: &str, cells: &[(&str, &str)]) -> Value {
    let cells: Vec<Value> = cells.iter().map(|(name, state)| json!({ "name": name, "state": state })).collect();
    json!({ "name": name, "cells": cells })
}

/// The processes of the stack that run.
fn running(cellctl: &Cellctl) -> Vec<(String, Identity)> {
    let Ok(stack) = Stack::open(cellctl.stack()) else { return Vec::new() };
    let running = stack.state().processes.iter().filter(|process| process.is_running());
    running.filter_map(|process| Some((process.name.clone(), process.life?))).collect()
}

fn runs(cellctl: &Cellctl, name: &str) -> bool {
    running(cellctl).iter().any(|(running, _)| running == name)
}

/// Signs up a user in each region that has none yet, and charges every user through every router that runs.
async fn traffic(world: &World, users: &mut Vec<(String, UserId)>) {
    let status = world.cellctl.status().unwrap();
    for region in status["regions"].as_array().unwrap() {
        let (name, url) = (region["name"].as_str().unwrap(), region["router_url"].as_str().unwrap());
        if !runs(&world.cellctl, &format!("{name}-router")) {
            continue;
        }
        let door = Client::new([url], Credential::new(world.service_key.clone())).unwrap();
        if !users.iter().any(|(region, _)| region == name) {
            let signed_up = sign_up(&door, &format!("{name}@example.org"), "free").await;
            assert_eq!(signed_up.region.to_string(), name);
            users.push((name.to_owned(), signed_up.user_id));
        }
        for (_, user) in users.iter() {
            let charged = known(&door, &tokens(user, 1, None)).await;
            assert!(matches!(charged, Decision::Allowed(_)), "{charged:?}");
        }
    }
}

/// Goal: Terraform brings a world up, changes it under traffic and takes it down; an apply that was killed half
/// way is finished by the next; and whoever lives in the world is served all along.
/// Method: two regions; then a pending cell and a third region; then that cell goes. Both larger applies are
/// killed, with all they started, while processes are being started.
#[tokio::test(flavor = "multi_thread")]
async fn terraform_brings_a_world_up_changes_it_and_takes_it_down() {
    let cellctl = Cellctl::new().unwrap();
    let Some(terraform) = Terraform::new(&cellctl, "local") else { return };
    terraform.ok(&["init", "-no-color"]);
    let (eu, us) = (region("eu", &[("eu-1", "open")]), region("us", &[("us-1", "open")]));
    terraform.set(&variables(&cellctl, &json!([eu, us])));
    terraform.apply_killed(|| runs(&cellctl, "eu-1-postgres"));
    terraform.apply();
    assert!(terraform.is_settled());
    let world = World::of(cellctl);
    let mut users = Vec::new();
    traffic(&world, &mut users).await;
    let before = running(&world.cellctl);
    assert_eq!(before.len(), 11);

    let grown = region("eu", &[("eu-1", "open"), ("eu-2", "pending")]);
    terraform.set(&variables(&world.cellctl, &json!([grown, us, region("ap", &[("ap-1", "open")])])));
    terraform.apply_killed(|| runs(&world.cellctl, "ap-1-redis-quota"));
    assert!(!runs(&world.cellctl, "ap-router"));
    traffic(&world, &mut users).await;
    terraform.apply();
    assert!(terraform.is_settled());
    traffic(&world, &mut users).await;
    let now = running(&world.cellctl);
    assert_eq!(now.len(), 20, "{now:?}");
    assert!(before.iter().all(|process| now.contains(process)), "what was there goes on");
    let (topology, counted) = shown(&world);
    assert_eq!(
        (topology.pointer("/regions/0/cells/1/state"), &topology["revision"]),
        (Some(&json!("pending")), &json!(2))
    );
    assert_eq!(counted, json!({ "eu-1": 1, "eu-2": 0, "us-1": 1, "ap-1": 1 }));

    // What would leave users without a home is refused by the plan, where it is told of them, and by the apply.
    let without_us = json!([grown, region("ap", &[("ap-1", "open")])]);
    let mut told = variables(&world.cellctl, &without_us);
    told["current"] = json!({ "document": topology, "users": counted });
    terraform.set(&told);
    let refused = terraform.run(&["plan", "-no-color"]);
    let said = String::from_utf8_lossy(&refused.stderr).replace('\n', " ");
    assert!(!refused.status.success() && said.contains("Region us would leave with 1 users"), "{said}");
    terraform.set(&variables(&world.cellctl, &without_us));
    assert!(!terraform.run(&["apply", "-auto-approve", "-no-color"]).status.success());
    assert_eq!(running(&world.cellctl), now);

    terraform.set(&variables(&world.cellctl, &json!([eu, us, region("ap", &[("ap-1", "open")])])));
    terraform.apply();
    assert!(terraform.is_settled());
    assert_eq!(running(&world.cellctl).len(), 16);
    traffic(&world, &mut users).await;

    let lives = running(&world.cellctl);
    terraform.ok(&["destroy", "-auto-approve", "-no-color"]);
    assert!(!world.cellctl.stack().exists() && lives.iter().all(|(_, life)| !life.is_alive()));
    // Nothing is left to do, and doing it again does nothing.
    terraform.ok(&["destroy", "-auto-approve", "-no-color"]);
}

/// What `topology show --json` says: the document, and the users.
fn shown(world: &World) -> (Value, Value) {
    let mut shown: Value = serde_json::from_str(&world.cellctl.ok(&["topology", "show", "--json"]).unwrap()).unwrap();
    (shown["document"].take(), shown["users"].take())
}

/// Goal: wherever an apply is killed, the next one finishes it, and the world is whole.
/// Method: a kill at each process that is started, of a new world and of one that grows.
#[tokio::test(flavor = "multi_thread")]
async fn an_apply_that_is_killed_at_any_process_is_finished_by_the_next() {
    if std::env::var_os("CELLAR_TEST_FULL").is_none() {
        return;
    }
    let first = ["directory", "us-1-redis-quota", "us-1-redis-cache", "eu-1-0", "eu-router"];
    let later = ["eu-2-redis-quota", "eu-2-postgres", "eu-2-0", "ap-1-0", "ap-router"];
    for (n, (at_first, at_later)) in first.iter().zip(later).enumerate() {
        let cellctl = Cellctl::new().unwrap();
        let Some(terraform) = Terraform::new(&cellctl, "local") else { return };
        terraform.ok(&["init", "-no-color"]);
        let us = region("us", &[("us-1", "open")]);
        terraform.set(&variables(&cellctl, &json!([region("eu", &[("eu-1", "open")]), us])));
        terraform.apply_killed(|| runs(&cellctl, at_first));
        terraform.apply();
        let world = World::of(cellctl);
        let mut users = Vec::new();
        traffic(&world, &mut users).await;
        let eu = region("eu", &[("eu-1", "open"), ("eu-2", "pending")]);
        terraform.set(&variables(&world.cellctl, &json!([eu, us, region("ap", &[("ap-1", "open")])])));
        terraform.apply_killed(|| runs(&world.cellctl, at_later));
        terraform.apply();
        assert!(terraform.is_settled());
        traffic(&world, &mut users).await;
        assert_eq!(running(&world.cellctl).len(), 20, "case {n}");
        terraform.ok(&["destroy", "-auto-approve", "-no-color"]);
        assert!(!world.cellctl.stack().exists());
    }
}

/// Goal: the module refuses what routers refuse and nothing else.
/// Method: documents that are changed in one way each, made by the module, and judged by `topology diff`.
#[tokio::test(flavor = "multi_thread")]
async fn the_module_refuses_what_routers_refuse_and_nothing_else() {
    let mut cellctl = Cellctl::new().unwrap();
    let Some(terraform) = Terraform::new(&cellctl, "cases") else { return };
    cellctl.keep(&["up", "--regions", "2", "--cells", "2", "--clock", "virtual"]).unwrap();
    let world = World::of(cellctl);
    for n in 0..8 {
        world.user(&format!("user-{n}@example.org"), "free").await;
    }
    let (document, users) = shown(&world);
    let cases = cases(&document);
    std::fs::create_dir_all(&terraform.root).unwrap();
    std::fs::write(terraform.root.join("main.tf"), CASES).unwrap();
    terraform.set(&json!({ "cases": cases, "current": { "document": document, "users": users } }));
    terraform.ok(&["init", "-no-color"]);
    terraform.apply();
    let made: Value = serde_json::from_str(&terraform.ok(&["output", "-json", "cases"])).unwrap();
    let file = terraform.modules.join("document.json");
    for (name, case) in cases.as_object().unwrap() {
        let (document, refused) = (&made[name]["document"], made[name]["refused"].as_array().unwrap());
        std::fs::write(&file, document.to_string()).unwrap();
        let judged = world.cellctl.run(&["topology", "diff", file.to_str().unwrap()]).unwrap();
        let said = String::from_utf8_lossy(&[judged.stdout, judged.stderr].concat()).into_owned();
        assert_eq!(refused.is_empty(), judged.status.success(), "{name}: the module says {refused:?}, routers {said}");
        assert_eq!(refused.is_empty(), case["good"].as_bool().unwrap(), "{name}: {refused:?}");
        let unchanged = made[name]["changed"] == json!(false);
        assert_eq!(unchanged, name == "nothing", "{name}");
        assert_eq!(document["revision"], json!(if unchanged { 1 } else { 2 }), "{name}");
    }
}

/// The module once a case.
const CASES: &str = r#"
variable "cases" { type = any }
variable "current" { type = any }
module "topology" {
  source         = "../modules/topology"
  for_each       = var.cases
  regions        = each.value.regions
  default_region = each.value.default_region
  plan           = each.value.plan
  current        = var.current
  directory      = "postgres"
  refuse         = false
}
output "cases" { value = module.topology }
"#;

/// Changes of a document of two regions of two open cells: by name, what the module is told, and whether it may be.
fn cases(held: &Value) -> Value {
    let mut cases = serde_json::Map::new();
    let mut case = |name: &str, good: bool, plan: Option<&str>, change: &dyn Fn(&mut Value)| {
        let mut wanted = held.clone();
        change(&mut wanted);
        let (regions, default_region) = (&wanted["regions"], &wanted["default_region"]);
        let told = json!({ "regions": regions, "default_region": default_region, "plan": plan, "good": good });
        cases.insert(name.to_owned(), told);
    };
    let cell = |document: &Value, region: usize, n: usize| document["regions"][region]["cells"][n].clone();
    let set = |key: &'static str, value: Value| {
        move |document: &mut Value| document["regions"][0]["cells"][0][key] = value.clone()
    };
    let join = move |state: &'static str| {
        move |document: &mut Value| {
            let mut new = cell(document, 0, 1);
            (new["name"], new["state"]) = (json!("eu-9"), json!(state));
            document["regions"][0]["cells"].as_array_mut().unwrap().push(new);
        }
    };
    let leave = |document: &mut Value| drop(document["regions"][0]["cells"].as_array_mut().unwrap().remove(0));
    case("nothing", true, None, &|_| {});
    case("full", true, None, &set("state", json!("full")));
    case("draining", true, None, &set("state", json!("draining")));
    case("later life", true, None, &set("incarnation", json!(2)));
    case("weight", false, None, &set("weight", json!(64)));
    case("weight by plan", true, Some("rebalance"), &set("weight", json!(64)));
    case("weight too high by plan", false, Some("rebalance"), &set("weight", json!(5_000)));
    case("shards by plan", false, Some("more"), &set("shards", json!(8)));
    case("no shards", false, None, &set("shards", json!(0)));
    case("earlier life by plan", false, Some("back"), &set("incarnation", json!(0)));
    case("off the ring", false, None, &set("state", json!("pending")));
    case("a pending cell", true, None, &join("pending"));
    case("an open cell", false, None, &join("open"));
    case("an open cell by plan", true, Some("join"), &join("open"));
    case("a cell that leaves", false, None, &leave);
    case("a cell that leaves by plan", false, Some("leave"), &leave);
    case("a region of its own", true, None, &|document| {
        let mut new = document["regions"][0].clone();
        new["name"] = json!("ap");
        for (n, cell) in new["cells"].as_array_mut().unwrap().iter_mut().enumerate() {
            cell["name"] = json!(format!("ap-{n}"));
        }
        document["regions"].as_array_mut().unwrap().push(new);
    });
    case("a region that leaves", false, Some("leave"), &|document| {
        document["regions"].as_array_mut().unwrap().truncate(1);
    });
    case("a cell of another region", false, Some("move"), &move |document| {
        let moved = document["regions"][1]["cells"].as_array_mut().unwrap().remove(0);
        document["regions"][0]["cells"].as_array_mut().unwrap().push(moved);
    });
    case("a doubled cell", false, None, &move |document| {
        let doubled = cell(document, 0, 0);
        document["regions"][1]["cells"].as_array_mut().unwrap().push(doubled);
    });
    case("another default region", false, None, &|document| document["default_region"] = json!("us"));
    case("another default region by plan", true, Some("us"), &|document| document["default_region"] = json!("us"));
    case("a default region that is not there", false, Some("mars"), &|document| {
        document["default_region"] = json!("mars")
    });
    Value::Object(cases)
}
