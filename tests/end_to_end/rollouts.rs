//! Tiers that change under load: other state schemas, shadows, candidates, and all of it undone, while every
//! request is answered and no user's spend is forgotten or invented.

use crate::spender::Spender;
use crate::support::{T0, World, sign_up_body};
use cellar_model::wire::SignUpBody;
use cellar_model::{PolicyName, UserId};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Half of them in each region, and some on each side of every wave.
const USERS: usize = 24;
const SENDERS: usize = 6;
/// Between two checks of a sender: the machine also runs every server.
const PAUSE: Duration = Duration::from_millis(2);
const POLL: Duration = Duration::from_millis(20);
/// A change is with every cell after its next look at the catalog; a slow machine takes its time.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// One answer: all that a caller is told.
#[derive(Clone, Debug)]
struct Seen {
    user: usize,
    tokens: u64,
    asked: Instant,
    status: u16,
    fault: bool,
    body: Value,
}

impl Seen {
    fn slot(&self) -> &Value {
        &self.body["policies"][0]
    }

    /// Which settings decided it: each tier of these tests has limits of its own.
    fn limit(&self) -> u64 {
        self.slot()["limit"].as_u64().unwrap_or(0)
    }
}

/// Checks of all users through all doors, until it is told to end.
struct Load {
    users: Vec<UserId>,
    log: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
    senders: Vec<JoinHandle<()>>,
}

impl Load {
    /// A check of user `n` costs `tokens(n)`.
    fn start(world: &World, users: &[UserId], tokens: fn(usize) -> u64) -> Self {
        static ASKED: AtomicU64 = AtomicU64::new(0);
        let (log, stop) = (Arc::<Mutex<Vec<Seen>>>::default(), Arc::<AtomicBool>::default());
        let http = reqwest::Client::builder().timeout(Duration::from_secs(5)).no_proxy().build().unwrap();
        let sender = |first: usize| {
            let (http, key, url) =
                (http.clone(), world.service_key.clone(), world.urls[first % world.urls.len()].clone());
            let (users, log, stop) = (users.to_vec(), log.clone(), stop.clone());
            tokio::spawn(async move {
                for n in first.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let user = n % users.len();
                    let (tokens, number) = (tokens(user), ASKED.fetch_add(1, Ordering::Relaxed));
                    let body = json!({
                        "user_id": users[user], "cost": {"requests": 0, "tokens": tokens}, "at_us": T0 + number,
                    });
                    let request = http.post(format!("{url}/v1/internal/quota/consume")).bearer_auth(&key);
                    let request = request.header("idempotency-key", format!("\"load-{number}\"")).json(&body);
                    let asked = Instant::now();
                    let seen = match request.send().await {
                        Ok(answer) => {
                            let (status, fault) =
                                (answer.status().as_u16(), answer.headers().contains_key("cellar-policy-fault"));
                            let body = answer.json().await.unwrap_or(Value::Null);
                            Seen { user, tokens, asked, status, fault, body }
                        }
                        Err(error) => {
                            Seen { user, tokens, asked, status: 0, fault: false, body: json!(error.to_string()) }
                        }
                    };
                    log.lock().unwrap().push(seen);
                    tokio::time::sleep(PAUSE).await;
                }
            })
        };
        let senders = (0..SENDERS).map(sender).collect();
        Self { users: users.to_vec(), log, stop, senders }
    }

    /// Until the last answer to each user of a check sent from now on is one that is looked for.
    async fn until(&self, what: &str, is: impl Fn(&Seen) -> bool) {
        let (since, until) = (Instant::now(), Instant::now() + WAIT_MAX);
        loop {
            let last: Vec<Option<Seen>> = {
                let log = self.log.lock().unwrap();
                let of = |user| log.iter().rev().find(|seen| seen.user == user && seen.asked >= since).cloned();
                (0..self.users.len()).map(of).collect()
            };
            if last.iter().all(|seen| seen.as_ref().is_some_and(&is)) {
                return;
            }
            let other: Vec<_> = last.iter().filter(|seen| !seen.as_ref().is_some_and(&is)).take(3).collect();
            assert!(Instant::now() < until, "not all users see {what}: {other:?}");
            tokio::time::sleep(POLL).await;
        }
    }

    async fn stop(self) -> Vec<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        for sender in self.senders {
            sender.await.unwrap();
        }
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

/// Every request was admitted, and in the order of each user's versions what is left is what the tier gives
/// less what he has been charged so far, whichever version of the policy said so.
fn assert_unbroken(log: &[Seen], users: usize) -> Vec<u64> {
    let failed: Vec<&Seen> = log.iter().filter(|seen| seen.status != 200).take(3).collect();
    assert!(failed.is_empty(), "{failed:?}");
    let of_user = |user: usize| {
        let mut his: Vec<&Seen> = log.iter().filter(|seen| seen.user == user).collect();
        // Of one commit, the one that was decided first has more left.
        his.sort_by_key(|seen| {
            (seen.body["version"].as_u64(), seen.limit() - seen.slot()["remaining"].as_u64().unwrap())
        });
        let mut spent = 0;
        for seen in his {
            spent += seen.tokens;
            assert_eq!(seen.limit() - seen.slot()["remaining"].as_u64().unwrap(), spent, "user {user}: {seen:?}");
        }
        spent
    };
    (0..users).map(of_user).collect()
}

fn slot(table: &str, slot: &str, used: &str, limit: u64, mode: &str) -> String {
    format!(
        "[[{table}]]\nslot = \"{slot}\"\nuse = \"{used}\"\nunit = \"tokens\"\nmode = \"{mode}\"\n\
         settings = {{ limit = {limit} }}\n"
    )
}

fn monthly(used: &str, limit: u64) -> String {
    format!("name = \"metered\"\n{}", slot("policy", "monthly", used, limit, "enforce"))
}

async fn publish(world: &World, spender: Spender) {
    let name = PolicyName::new(Spender::NAME).unwrap();
    world.publish(&name, spender.version.parse().unwrap(), spender.component()).await;
}

/// Puts a tier file in force by the command line. Cells learn of a new version by their next look at the
/// catalog: until then they say that there is none.
async fn apply(world: &World, text: &str) {
    let file = world.cellctl.folder().join("tier.toml");
    std::fs::write(&file, text).unwrap();
    let until = Instant::now() + WAIT_MAX;
    loop {
        let output = world.cellctl.run(&["tier", "apply", file.to_str().unwrap(), "--yes"]).unwrap();
        if output.status.success() {
            return;
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("there is no policy") && Instant::now() < until, "{said}");
        tokio::time::sleep(POLL).await;
    }
}

fn json_of(world: &World, arguments: &[&str]) -> Value {
    serde_json::from_str(&world.cellctl.ok(arguments).unwrap()).unwrap()
}

/// The first half at home in one region, the second in the other.
async fn users(world: &World, tier: &str) -> Vec<UserId> {
    let mut users = Vec::new();
    for n in 0..USERS {
        let region = if n < USERS / 2 { "eu" } else { "us" };
        let email = format!("{tier}-{n}@example.org");
        let body = SignUpBody { region: Some(region.parse().unwrap()), ..sign_up_body(&email, tier) };
        let until = Instant::now() + WAIT_MAX;
        users.push(loop {
            // Each cell learns of the tier by itself.
            match world.client.sign_up(&body, Some(&email)).await {
                Ok(signed_up) => break signed_up.user_id,
                Err(error) => assert!(error.status() == Some(422) && Instant::now() < until, "{error}"),
            }
            tokio::time::sleep(POLL).await;
        });
    }
    users
}

/// The metrics of every cell, one after the other.
async fn metrics(world: &World) -> String {
    let stack = cellar_devstack::Stack::open(world.cellctl.stack()).unwrap();
    let mut all = String::new();
    for cell in stack.state().processes.iter().filter(|process| process.role.label() == "cell") {
        let url = format!("{}/metrics", cell.admin_url.as_deref().unwrap());
        all += &reqwest::get(url).await.unwrap().text().await.unwrap();
    }
    all
}

/// Goal: a tier's policy is replaced by one of another state schema and back, watched as a shadow, let out to
/// half of the users, to all, and undone, while every request is answered and every unit stays accounted for.
/// Method: constant load through two routers; each step has a limit of its own, by which answers show who
/// decided them.
#[tokio::test(flavor = "multi_thread")]
async fn a_tier_is_migrated_tried_let_out_and_undone_under_load_and_no_request_fails() {
    let world = World::two_regions();
    publish(&world, Spender::ONE).await;
    publish(&world, Spender::TWO).await;
    apply(&world, &monthly("spender@1", 1_000_000)).await;
    let users = users(&world, "metered").await;
    let load = Load::start(&world, &users, |n| 1 + n as u64 % 3);
    load.until("the first version", |seen| seen.limit() == 1_000_000).await;

    apply(&world, &monthly("spender@2", 2_000_000)).await;
    load.until("the second version", |seen| seen.limit() == 2_000_000).await;
    apply(&world, &monthly("spender@1", 3_000_000)).await;
    load.until("the first version again", |seen| seen.limit() == 3_000_000).await;

    // A shadow that sees nothing left where the tier has plenty.
    let shadow = slot("policy", "trial", "spender@2", 1, "shadow");
    apply(&world, &(monthly("spender@1", 4_000_000) + &shadow)).await;
    load.until("the tier with a shadow", |seen| seen.limit() == 4_000_000).await;
    let shown = json_of(&world, &["tier", "shadow", "metered", "--json"]);
    let sum =
        |member: &str| shown["cells"].as_array().unwrap().iter().map(|row| row[member].as_u64().unwrap()).sum::<u64>();
    assert_eq!((shown["cells"].as_array().unwrap().len(), sum("fault"), sum("would_admit")), (2, 0, 0), "{shown}");
    assert!(sum("would_deny") >= USERS as u64 / 2, "{shown}");

    let rollout =
        format!("[rollout]\npercent = 0\n{}", slot("rollout.policy", "monthly", "spender@2", 6_000_000, "enforce"));
    apply(&world, &(monthly("spender@1", 5_000_000) + &rollout)).await;
    load.until("a candidate that decides nobody", |seen| seen.limit() == 5_000_000).await;
    world.cellctl.ok(&["tier", "promote", "metered", "--to", "50", "--yes"]).unwrap();
    let half = "50".parse().unwrap();
    let side = |seen: &Seen| if users[seen.user].wave().is_in(half) { 6_000_000 } else { 5_000_000 };
    load.until("half of the users with the candidate", |seen| seen.limit() == side(seen)).await;
    let inside = users.iter().filter(|user| user.wave().is_in(half)).count();
    assert!(inside > 0 && inside < USERS, "{inside} of {USERS}");
    world.cellctl.ok(&["tier", "hold", "metered", "--yes"]).unwrap();
    load.until("a candidate that is held", |seen| seen.limit() == 5_000_000).await;
    world.cellctl.ok(&["tier", "promote", "metered", "--all", "--yes"]).unwrap();
    load.until("the candidate as the tier", |seen| seen.limit() == 6_000_000).await;
    world.cellctl.ok(&["tier", "rollback", "metered", "--yes"]).unwrap();
    load.until("the tier before the candidate", |seen| seen.limit() == 4_000_000).await;

    let log = load.stop().await;
    let spent = assert_unbroken(&log, users.len());
    for (user, spent) in users.iter().zip(spent).step_by(7) {
        let cell = if user.as_str().starts_with("eu") { "eu-1" } else { "us-1" };
        assert_eq!(world.books(Some(cell), user, "tokens").await, (spent, spent, spent));
    }
    assert_eq!(json_of(&world, &["audit", "--json"])["mismatches"], json!([]));
    let history = json_of(&world, &["tier", "history", "metered", "--json"]);
    let revisions: Vec<u64> =
        history.as_array().unwrap().iter().map(|tier| tier["revision"].as_u64().unwrap()).collect();
    assert_eq!(revisions, (1..=9).rev().collect::<Vec<u64>>());
    println!("{} requests, none failed", log.len());
}

/// Goal: a cell that the candidate fails in goes back to the current policies by itself, at once and for as long
/// as the revision stands, and the other cell decides by it on.
/// Method: the candidate traps on a cost of 7, which only users of the first region have.
#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_faults_is_stopped_in_that_cell_and_stays_stopped_over_a_restart() {
    let world = World::two_regions();
    publish(&world, Spender::ONE).await;
    let trap = "(if (i64.eq (local.get $cost) (i64.const 7)) (then unreachable))";
    publish(&world, Spender { harm: trap, ..Spender::TWO }).await;
    let current = format!("on_fault = \"allow\"\n{}", slot("policy", "monthly", "spender@1", 1_000_000, "enforce"));
    let rollout =
        format!("[rollout]\npercent = 100\n{}", slot("rollout.policy", "monthly", "spender@2", 2_000_000, "enforce"));
    apply(&world, &format!("name = \"metered\"\n{current}")).await;
    let users = users(&world, "metered").await;
    let load = Load::start(&world, &users, |n| if n < USERS / 2 { 7 } else { 1 });
    load.until("the tier", |seen| seen.limit() == 1_000_000).await;
    apply(&world, &format!("name = \"metered\"\n{current}{rollout}")).await;
    let until = Instant::now() + WAIT_MAX;
    loop {
        let counted = metrics(&world).await;
        let stops = counted.lines().filter(|line| line.starts_with("cellar_rollout_stopped{tier=\"metered\"}"));
        let stops: Vec<bool> = stops.map(|line| line.ends_with(" 1")).collect();
        // Both cells have the candidate, and one has stopped it.
        if stops.len() == 2 && stops.contains(&true) {
            assert!(stops.contains(&false));
            break;
        }
        assert!(Instant::now() < until, "{stops:?}");
        tokio::time::sleep(POLL).await;
    }
    let stopped = |seen: &Seen| seen.limit() == if seen.user < USERS / 2 { 1_000_000 } else { 2_000_000 };
    load.until("the candidate stopped in one cell", |seen| stopped(seen) && !seen.fault).await;
    assert!(world.cellctl.ok(&["tier", "show", "metered"]).unwrap().contains("# eu-1: STOPPED here: "));
    let log = load.stop().await;
    assert!(log.iter().all(|seen| seen.status == 200), "a fault allows");
    let faults = log.iter().filter(|seen| seen.fault).count();
    // Three, and what the cell had under way.
    assert!((3..=3 + SENDERS).contains(&faults), "{faults}");

    let stack = cellar_devstack::Stack::open(world.cellctl.stack()).unwrap();
    let is_the_cell = |process: &&cellar_devstack::ProcessEntry| {
        process.role.label() == "cell" && process.cell.as_deref() == Some("eu-1")
    };
    let cell = stack.state().processes.iter().find(is_the_cell).unwrap().name.clone();
    world.cellctl.ok(&["restart", &cell]).unwrap();
    let load = Load::start(&world, &users[..USERS / 2], |_| 7);
    load.until("the candidate stopped after a restart", |seen| seen.status == 200 && seen.limit() == 1_000_000).await;
    assert!(load.stop().await.iter().all(|seen| !seen.fault), "nobody met the candidate again");
}

/// Goal: `diff` says what `apply` would change, `rollback` names what it goes back to, and a change that could
/// not be undone is refused with a sentence.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_shown_before_it_is_made_and_one_that_cannot_be_undone_is_refused() {
    let world = World::cell();
    publish(&world, Spender { migrates: false, ..Spender::ONE }).await;
    publish(&world, Spender::TWO).await;
    let file = world.cellctl.folder().join("tier.toml");
    let path = file.to_str().unwrap();
    let diff = |text: &str, json: bool| {
        std::fs::write(&file, text).unwrap();
        let arguments: &[&str] = if json { &["tier", "diff", path, "--json"] } else { &["tier", "diff", path] };
        let output = world.cellctl.run(arguments).unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    apply(&world, &monthly("spender@1", 100)).await;
    assert_eq!(diff(&monthly("spender@1", 100), false), (Some(0), String::new()));
    let (status, said) = diff(&monthly("spender@1", 200), false);
    assert_eq!((status, said.trim()), (Some(1), "~ /policy/0/settings/limit: 100 -> 200"));
    let (status, said) = diff(&monthly("spender@2", 100), true);
    let shown: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((status, &shown["changes"][0]["pointer"]), (Some(1), &json!("/policy/0/use")));
    let problem = &shown["problems"][0];
    assert_eq!(problem["pointer"], "/policy/0/use");
    let expected = "spender 1.0.0 cannot read the states of spender 2.0.0, so the change could not be undone";
    assert!(problem["message"].as_str().unwrap().starts_with(expected), "{problem}");
    let output = world.cellctl.run(&["tier", "apply", path, "--yes"]).unwrap();
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains(expected));
    let missing = world.cellctl.run(&["tier", "diff", "/nowhere.toml"]).unwrap();
    assert_eq!(missing.status.code(), Some(2));

    apply(&world, &monthly("spender@1", 200)).await;
    let said = world.cellctl.ok(&["tier", "rollback", "metered", "--yes"]).unwrap();
    assert!(said.contains("back to revision 1") && said.contains("/policy/0/settings/limit: 200 -> 100"), "{said}");
    assert_eq!(json_of(&world, &["tier", "show", "metered", "--json"])[0]["revision"], 3);
    let output = world.cellctl.run(&["tier", "rollback", "metered", "--to", "9", "--yes"]).unwrap();
    assert!(
        !output.status.success()
            && String::from_utf8_lossy(&output.stderr).contains("revision 9 is not among the last 3")
    );
    for command in [["tier", "promote", "metered", "--yes"], ["tier", "hold", "metered", "--yes"]] {
        let output = world.cellctl.run(&command).unwrap();
        assert!(String::from_utf8_lossy(&output.stderr).contains("tier metered has no candidate"));
    }
}
