//! Cells that are gone with their disks, laid down again from copies.

use crate::backup_faults::restored_though_killed;
use crate::support::{World, known, tokens};
use cellar_client::{Client, Credential, Decision};
use cellar_devstack::{Cellctl, Folders, Stack};
use cellar_model::UserId;
use cellar_model::wire::{Device, LogInBody};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub(crate) const LIMIT: u64 = 1_000_000_000;

/// One charge that a client was told of.
#[derive(Clone, Debug)]
pub(crate) struct Acknowledged {
    pub(crate) user: UserId,
    pub(crate) charge: String,
    pub(crate) key: String,
    pub(crate) tokens: u64,
}

impl Acknowledged {
    /// As `--check` reads it.
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.user.as_str(), self.charge)
    }
}

/// Clients that charge and remember what they were told.
pub(crate) struct Load {
    told: Arc<Mutex<Vec<Acknowledged>>>,
    stop: Arc<AtomicBool>,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    /// Two clients a user, on a cell that lives until the load's end: each charge is asked about until it is known,
    /// since one whose answer was lost may stand in the books all the same.
    pub(crate) fn begin(client: &Client, users: &[UserId]) -> Self {
        let (told, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let clients = users.iter().flat_map(|user| [user, user]).enumerate().map(|(n, user)| {
            let (client, user, told, stop) = (client.clone(), user.clone(), told.clone(), stop.clone());
            tokio::spawn(async move {
                for round in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let (key, cost) = (format!("load-{n}-{round}"), 1 + round % 7);
                    let charged = charge(&client, &user, &key, cost).await;
                    told.lock().unwrap().push(charged);
                }
            })
        });
        let clients = clients.collect();
        Self { told, stop, clients }
    }

    pub(crate) fn told(&self) -> Vec<Acknowledged> {
        self.told.lock().unwrap().clone()
    }

    /// Until so many charges more have been acknowledged.
    pub(crate) async fn more(&self, charges: usize) {
        let (wanted, until) = (self.told().len() + charges, Instant::now() + Duration::from_secs(60));
        while self.told().len() < wanted {
            assert!(Instant::now() < until, "the load stands still");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn end(self) -> Vec<Acknowledged> {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.await.unwrap();
        }
        let told = self.told.lock().unwrap();
        told.clone()
    }
}

fn laptop() -> Device {
    Device { name: "laptop".into(), platform: "linux".into() }
}

fn acknowledged(user: &UserId, key: &str, tokens: u64, answer: &Decision) -> Acknowledged {
    let Decision::Allowed(answer) = answer else { panic!("{answer:?}") };
    let charge = answer.charge_id.clone().unwrap();
    Acknowledged { user: user.clone(), charge, key: key.to_owned(), tokens }
}

pub(crate) async fn charge(client: &Client, user: &UserId, key: &str, cost: u64) -> Acknowledged {
    acknowledged(user, key, cost, &known(client, &tokens(user, cost, Some(key))).await)
}

/// Ends the processes of a stack, or of one of its cells, as a machine does that burns, and deletes their data.
pub(crate) async fn destroy(cellctl: &Cellctl, cell: Option<&str>) {
    let mut stack = Stack::open(cellctl.stack()).unwrap();
    let processes = stack.state().processes.clone();
    let lost = processes.iter().filter(|process| cell.is_none() || process.cell.as_deref() == cell);
    for process in lost {
        stack.kill9(&process.name).await.unwrap();
        std::fs::remove_dir_all(process.launch.log.parent().unwrap()).unwrap();
    }
    if cell.is_none() {
        let _ = std::fs::remove_dir_all(Folders::of(cellctl.stack()).unwrap().data);
    }
}

pub(crate) fn run(cellctl: &Cellctl, arguments: &[&str]) -> String {
    tokio::task::block_in_place(|| cellctl.ok(arguments).unwrap())
}

pub(crate) fn json(cellctl: &Cellctl, arguments: &[&str]) -> Value {
    serde_json::from_str(&run(cellctl, arguments)).unwrap()
}

/// What a command says that refuses.
pub(crate) fn refused(cellctl: &Cellctl, arguments: &[&str]) -> String {
    let output = tokio::task::block_in_place(|| cellctl.run(arguments).unwrap());
    assert!(!output.status.success(), "{arguments:?}");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

pub(crate) fn path(folder: &Path, name: &str) -> (PathBuf, String) {
    let path = folder.join(name);
    let text = path.display().to_string();
    (path, text)
}

pub(crate) fn agrees(restored: &Value) {
    assert_eq!(restored["audit"]["mismatches"], serde_json::json!([]), "{restored}");
    assert_eq!(restored["audit"]["disagreements"], serde_json::json!([]), "{restored}");
}

pub(crate) fn texts(list: &Value) -> BTreeSet<String> {
    list.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

fn sums<'a>(charges: impl Iterator<Item = &'a Acknowledged>) -> BTreeMap<UserId, u64> {
    let mut sums = BTreeMap::new();
    for charge in charges {
        *sums.entry(charge.user.clone()).or_default() += charge.tokens;
    }
    sums
}

/// Goal: what a backup under load promises, after the cell has burnt down: everything acknowledged before the
/// backup began is there, what is missing is what is said to be missing, and no name is given out twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_cell_that_burnt_down_has_every_charge_from_before_its_backup_and_names_the_others() {
    let world = World::cell();
    world.bucket_tier("big", LIMIT).await;
    let mut users = Vec::new();
    for n in 0..6 {
        users.push(world.user(&format!("u{n}@example.org"), "big").await);
    }
    let log_in = LogInBody { user_id: Some(users[0].clone()), email: None, password: None, device: laptop() };
    let session = world.client.log_in(&log_in).await.unwrap().session_token;
    let load = Load::begin(&world.client, &users);
    load.more(500).await;
    let folder = tempfile::tempdir().unwrap();
    let (_, dir) = path(folder.path(), "backup");
    for _ in 0..2 {
        let before = load.told();
        let taken = json(&world.cellctl, &["cell", "backup", &dir, "--json"]);
        assert_eq!(taken["cell"], "local-1", "{taken}");
        load.more(200).await;
        // The second one adds what the first has not.
        assert!(before.len() < load.told().len());
    }
    let before = load.told();
    run(&world.cellctl, &["cell", "backup", &dir]);
    load.more(200).await;
    let told = load.end().await;
    destroy(&world.cellctl, None).await;

    let (list, check) = path(folder.path(), "acknowledged");
    std::fs::write(&list, told.iter().map(|charge| charge.line() + "\n").collect::<String>()).unwrap();
    let other = Cellctl::new().unwrap();
    let restored = json(&other, &["cell", "restore", &dir, "--yes", "--json", "--check", &check]);
    agrees(&restored);
    assert_eq!(restored["lost"]["checked"], told.len());
    let gone = texts(&restored["lost"]["gone"]);
    let missed: Vec<String> = before.iter().map(Acknowledged::line).filter(|line| gone.contains(line)).collect();
    assert!(missed.is_empty(), "acknowledged before the backup, and not there: {missed:?}");
    assert!(!gone.is_empty() && gone.len() < told.len(), "{} of {}", gone.len(), told.len());

    let again = World::of(other);
    for (user, sum) in sums(told.iter().filter(|charge| !gone.contains(&charge.line()))) {
        assert_eq!(again.books(None, &user, "tokens").await, (sum, sum, sum), "{user:?}");
    }
    let session = again.client.with_credential(Credential::new(session));
    assert_eq!(session.sessions().await.unwrap().sessions.len(), 1);
    names_are_given_out_once(&again.client, &told, &gone).await;
}

/// A repeat of a key that is there gets its first answer; one that is gone is decided anew, under a name that
/// nothing had before.
async fn names_are_given_out_once(client: &Client, told: &[Acknowledged], gone: &BTreeSet<String>) {
    let names: BTreeSet<String> = told.iter().map(Acknowledged::line).collect();
    let highest = told.iter().map(fence).max().unwrap();
    let (lost, kept): (Vec<_>, Vec<_>) = told.iter().partition(|charge| gone.contains(&charge.line()));
    for charged in kept.iter().rev().take(20).chain(kept.iter().take(20)) {
        let repeat = charge(client, &charged.user, &charged.key, charged.tokens).await;
        assert_eq!(repeat.charge, charged.charge);
    }
    for charged in lost.iter().take(20) {
        let anew = charge(client, &charged.user, &charged.key, charged.tokens).await;
        assert!(!names.contains(&anew.line()), "{anew:?}");
        assert!(fence(&anew) >= highest + 1_000, "{anew:?}");
    }
}

/// A charge's name is of the form `c<epoch>-<fence>-<version>-<place>`.
fn fence(charge: &Acknowledged) -> u64 {
    charge.charge.split('-').nth(1).unwrap().parse().unwrap()
}

/// Goal: a time between two backups is restored, the list of later charges is exactly those, and what cannot be
/// restored is refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_time_is_restored_with_the_exact_list_of_what_came_later_and_the_rest_is_refused() {
    let world = World::cell();
    world.bucket_tier("big", LIMIT).await;
    let user = world.user("u@example.org", "big").await;
    let folder = tempfile::tempdir().unwrap();
    let (at, dir) = path(folder.path(), "backup");
    let charged = async |phase: &str, charges: usize| {
        let mut told = Vec::new();
        for n in 0..charges {
            told.push(charge(&world.client, &user, &format!("{phase}-{n}"), 3).await);
        }
        // Until all of them are in the ledger: then a backup has them there.
        world.books(None, &user, "tokens").await;
        told
    };
    let early = charged("early", 20).await;
    run(&world.cellctl, &["cell", "backup", &dir]);
    let first = json(&world.cellctl, &["cell", "backup", &dir, "--json"]);
    let late = charged("late", 15).await;
    let newcomer = world.user("newcomer@example.org", "big").await;
    run(&world.cellctl, &["cell", "backup", &dir]);
    run(&world.cellctl, &["cell", "backup", "verify", &dir]);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let to = text(&first["to"]);

    let said = refused(&world.cellctl, &["cell", "restore", &dir, "--yes"]);
    assert!(said.contains("holds a stack"), "{said}");
    let (odd, check) = path(folder.path(), "odd");
    std::fs::write(&odd, "ada c1-2-3-0\nnobody\n").unwrap();
    let said = refused(&Cellctl::new().unwrap(), &["cell", "restore", &dir, "--yes", "--check", &check]);
    assert!(said.contains("odd:2: not `user charge_id`"), "{said}");
    refusals(&at, &dir);
    destroy(&world.cellctl, None).await;

    let other = Cellctl::new().unwrap();
    let restored = json(&other, &["cell", "restore", &dir, "--yes", "--json", "--to-time", &to]);
    agrees(&restored);
    let list = std::fs::read_to_string(restored["lost"]["later_charges_file"].as_str().unwrap()).unwrap();
    let listed: BTreeSet<String> = list
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|charge| format!("{} {}", text(&charge["user_id"]), text(&charge["charge_id"])))
        .collect();
    assert_eq!(listed, late.iter().map(Acknowledged::line).collect());
    assert_eq!(restored["lost"]["later_charges"], late.len());
    assert_eq!(texts(&restored["lost"]["unknown_users"]), [newcomer.as_str().to_owned()].into());
    let past = World::of(other);
    let sum = sums(early.iter())[&user];
    assert_eq!(past.books(None, &user, "tokens").await, (sum, sum, sum));
    let told: Vec<_> = early.into_iter().chain(late).collect();
    names_are_given_out_once(&past.client, &told, &listed).await;
}

/// Everything that is no backup of this cell, for these programs, undamaged.
fn refusals(at: &Path, dir: &str) {
    let other = Cellctl::new().unwrap();
    let restore = |more: &[&str]| refused(&other, &[&["cell", "restore", dir, "--yes"], more].concat());
    for (more, said) in [
        (["--cell", "eu-7"], "is a backup of cell local-1"),
        (["--to-time", "2020-01-01T00:00:00Z"], "is not in this backup"),
        (["--to-time", "2100-01-01T00:00:00Z"], "is not in this backup"),
        (["--to-time", "yesterday"], "is not a time"),
    ] {
        let refused = restore(&more);
        assert!(refused.contains(said), "{refused}");
    }
    let document = std::fs::read_to_string(at.join("manifest.json")).unwrap();
    for (from, to, said) in [
        ("\"format\": 1", "\"format\": 2", "has format 2"),
        ("\"cell\": \"local-1\"", "\"cell\": \"local-2\"", "is damaged"),
    ] {
        assert!(document.contains(from));
        std::fs::write(at.join("manifest.json"), document.replacen(from, to, 1)).unwrap();
        let refused = restore(&[]);
        assert!(refused.contains(said), "{refused}");
    }
    std::fs::write(at.join("manifest.json"), document).unwrap();
    // One bit of the log.
    let segments = std::fs::read_dir(at.join("full-1/wal")).unwrap().map(|entry| entry.unwrap().path());
    let segment = segments.min().unwrap();
    let held = std::fs::read(&segment).unwrap();
    let mut bytes = held.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let refused = restore(&[]);
    assert!(refused.contains("another content"), "{refused}");
    std::fs::write(&segment, held).unwrap();
}

/// Goal: in a world of two cells of two processes each, the one that burnt down is laid down in its place from a
/// backup under load, however often the command is killed, and its users are served through the router again; a user
/// who signed up after the backup is named, and the other cell saw nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_cell_of_a_world_is_restored_in_its_place_and_its_users_are_routed_to_it() {
    let world = World::up(&["up", "--regions", "1", "--cells", "2", "--instances", "2", "--clock", "virtual"]);
    world.bucket_tier("big", LIMIT).await;
    let mut users: BTreeMap<String, Vec<UserId>> = BTreeMap::new();
    let mut n = 0;
    let mut sign_up = async |users: &mut BTreeMap<String, Vec<UserId>>| {
        n += 1;
        let user = world.user(&format!("u{n}@example.org"), "big").await;
        let home = json(&world.cellctl, &["user", "where", user.as_str(), "--json"]);
        users.entry(home["cell"].as_str().unwrap().to_owned()).or_default().push(user);
    };
    while users.get("eu-1").is_none_or(|users| users.len() < 2) || users.get("eu-2").is_none_or(Vec::is_empty) {
        sign_up(&mut users).await;
    }
    let mut told = Vec::new();
    for user in users.values().flatten() {
        told.push(charge(&world.client, user, "before", 5).await);
    }
    let folder = tempfile::tempdir().unwrap();
    let (_, dir) = path(folder.path(), "backup");
    let said = refused(&world.cellctl, &["cell", "backup", &dir]);
    assert!(said.contains("--cell"), "{said}");
    let load = Load::begin(&world.client, &users["eu-1"]);
    load.more(100).await;
    told.extend(load.told());
    run(&world.cellctl, &["cell", "backup", &dir, "--cell", "eu-1"]);
    load.more(100).await;
    let all = load.end().await;
    let mut late = BTreeMap::new();
    while !late.contains_key("eu-1") {
        sign_up(&mut late).await;
    }
    let said = refused(&world.cellctl, &["cell", "restore", &dir, "--yes"]);
    assert!(said.contains("runs"), "{said}");
    destroy(&world.cellctl, Some("eu-1")).await;
    charge(&world.client, &users["eu-2"][0], "meanwhile", 7).await;

    let (list, check) = path(folder.path(), "acknowledged");
    std::fs::write(&list, all.iter().map(|charge| charge.line() + "\n").collect::<String>()).unwrap();
    let restored = restored_though_killed(&world.cellctl, &[&dir, "--check", &check]).await;
    agrees(&restored);
    let gone = texts(&restored["lost"]["gone"]);
    assert!(told.iter().all(|charge| !gone.contains(&charge.line())), "acknowledged before the backup, and not there");
    let newcomers: BTreeSet<String> = late["eu-1"].iter().map(|user| user.as_str().to_owned()).collect();
    assert_eq!(texts(&restored["lost"]["unknown_users"]), newcomers);
    assert!(restored["lost"]["incarnation"].as_u64() >= Some(2), "{restored}");
    for charged in &told {
        let repeat = charge(&world.client, &charged.user, &charged.key, charged.tokens).await;
        assert_eq!(repeat.charge, charged.charge);
    }
    let user = &users["eu-1"][0];
    charge(&world.client, user, "after", 5).await;
    let there = sums(all.iter().filter(|charge| !gone.contains(&charge.line())))[user] + 10;
    assert_eq!(world.books(Some("eu-1"), user, "tokens").await, (there, there, there));
    let shown = run(&world.cellctl, &["topology", "show"]);
    let incarnation = &restored["lost"]["incarnation"];
    assert!(shown.replace(' ', "").contains(&format!("\"incarnation\":{incarnation}")), "{shown}");
}
