//! E-mails: one user each, whoever asks at once and whatever stops half way.

use crate::faults::kill9;
use crate::machine::Paused;
use crate::support::{World, sign_up_body};
use cellar_client::{ClientError, Credential};
use cellar_devstack::Stack;
use cellar_model::wire::{Device, LogInBody, SignUpBody, SignedUp};
use cellar_model::{CellName, UserId};
use futures::future::join_all;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// For the reaper to come by: it looks twice, ten seconds apart, on a slow machine.
const SETTLED_MAX: Duration = Duration::from_secs(120);

pub(crate) fn person(email: &str, password: Option<&str>) -> SignUpBody {
    SignUpBody { password: password.map(str::to_owned), ..sign_up_body(email, "free") }
}

/// Repeats under its key until the answer is known.
pub(crate) async fn known(world: &World, body: &SignUpBody, key: &str) -> Result<SignedUp, ClientError> {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        match world.client.sign_up(body, Some(key)).await {
            Err(error) if error.is_unknown() && Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            answer => return answer,
        }
    }
}

/// What `cellctl directory audit` finds, and whether it says so with its exit status.
pub(crate) fn audit(world: &World) -> Value {
    let output = world.cellctl.run(&["directory", "audit", "--json"]).unwrap();
    let audit: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.success(), audit["disagreements"] == json!([]), "{audit}");
    audit
}

pub(crate) fn assert_clean(audit: &Value) {
    assert_eq!((&audit["disagreements"], &audit["under_way"]), (&json!([]), &json!([])), "{audit}");
}

/// Goal: of any number of sign-ups of one e-mail one is made.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_sign_ups_of_one_email_at_two_cells_make_one_user() {
    let world = World::up(&["up", "--regions", "1", "--cells", "2"]);
    let body = person("one@example.org", None);
    let sign_ups = (0..100).map(|n| {
        let (world, body) = (&world, &body);
        async move { known(world, body, &format!("racer-{n}")).await }
    });
    let answers = join_all(sign_ups).await;
    let made: Vec<&UserId> = answers.iter().flatten().map(|signed_up| &signed_up.user_id).collect();
    let refused = answers.iter().filter(|answer| matches!(answer, Err(error) if error.status() == Some(409))).count();
    assert_eq!((made.len(), refused), (1, 99));

    let audit = audit(&world);
    assert_clean(&audit);
    assert_eq!((&audit["users"], &audit["claims"]), (&json!(1), &json!(1)));
    let said = world.cellctl.ok(&["user", "where", made[0].as_str(), "--json"]).unwrap();
    let home: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&home["source"], &home["state"], &home["epoch"]), (&json!("directory"), &json!("active"), &json!(1)));
    let said = world.cellctl.ok(&["user", "show", made[0].as_str(), "--json"]).unwrap();
    let shown: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&shown["ownership"], &shown["tier"], &shown["home"]), (&json!("OWNED"), &json!("free"), &home["cell"]));
    assert!(!said.contains("one@example.org"), "no e-mail leaves its cell this way");
    assert!(world.cellctl.ok(&["user", "list"]).unwrap().contains(made[0].as_str()));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_email_logs_in_from_its_answer_on_and_the_old_one_is_anybodys() {
    let world = World::two_regions();
    let body = person("ada@example.org", Some("correct horse battery"));
    let user = world.client.sign_up(&body, Some("ada")).await.unwrap().user_id;
    let log_in = async |email: &str| {
        let body = LogInBody {
            email: Some(email.into()),
            password: Some("correct horse battery".into()),
            user_id: None,
            device: Device { name: "laptop".into(), platform: "linux".into() },
        };
        world.client.without_credential().log_in(&body).await
    };
    let session = log_in("ada@example.org").await.unwrap().session_token;
    let session = world.client.with_credential(Credential::new(session));

    // By the person, and again under the same key.
    for _ in 0..2 {
        let changed = session.patch_profile(&user, &json!({"email": "lovelace@example.org"}), Some("k")).await;
        assert_eq!(changed.unwrap().email.as_deref(), Some("lovelace@example.org"));
    }
    assert_eq!(log_in("lovelace@example.org").await.unwrap().user_id, user);
    assert_eq!(log_in("ada@example.org").await.err().and_then(|error| error.status()), Some(401));
    assert_eq!(session.sessions().await.unwrap().sessions.len(), 2, "sessions stay");

    let other = world.client.sign_up(&person("ada@example.org", None), None).await.unwrap().user_id;
    assert_ne!(other, user);
    // By the service key, into an e-mail that somebody has.
    let taken = world.client.patch_profile(&user, &json!({"email": "Ada@example.org"}), None).await;
    assert_eq!(taken.err().and_then(|error| error.status()), Some(409));
    assert_clean(&audit(&world));
}

/// Goal: what a killed cell left half way is settled after its restart, without anybody coming back for it.
/// Method: the cell's Postgres stands still, so that sign-ups claim their e-mails and commit nothing; the cell
/// is killed under them.
#[tokio::test(flavor = "multi_thread")]
async fn sign_ups_that_a_killed_cell_left_half_way_are_settled_and_their_emails_free() {
    let world = World::up(&["up", "--regions", "1", "--cells", "2"]);
    let cell = world.admin.topology().await.unwrap().cells().next().unwrap().1.name.clone();
    let postgres = process_of(&world, "postgres", &cell);
    let paused = Paused::new(&world.cellctl, &postgres);
    let emails: Vec<String> = (0..24).map(|n| format!("half-way-{n}@example.org")).collect();
    let sign_ups = join_all(emails.iter().map(|email| {
        let world = &world;
        async move { world.client.sign_up(&person(email, None), None).await }
    }));
    let killer = async {
        let until = Instant::now() + Duration::from_secs(30);
        while creating(&world).await < 4 {
            assert!(Instant::now() < until, "no sign-up stops half way");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        kill9(&world, &process_of(&world, "cell", &cell)).await;
    };
    let (answers, ()) = tokio::join!(sign_ups, killer);
    drop(paused);
    assert!(creating(&world).await > 0);
    world.cellctl.ok(&["restart", &process_of(&world, "cell", &cell)]).unwrap();

    let until = Instant::now() + SETTLED_MAX;
    while creating(&world).await > 0 {
        assert!(Instant::now() < until, "{:?}", world.admin.claims(None).await);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_clean(&audit(&world));
    assert!(reaped(&world, &cell).await > 0);
    // Who was told of an account has it; every other e-mail can be signed up.
    for (email, answer) in emails.iter().zip(&answers) {
        let again = known(&world, &person(email, None), &format!("again-{email}")).await;
        let status = again.as_ref().err().and_then(ClientError::status);
        assert!(status == Some(409) || (again.is_ok() && answer.is_err()), "{email}: {answer:?}, then {again:?}");
    }
    let audit = audit(&world);
    assert_clean(&audit);
    assert_eq!((&audit["users"], &audit["claims"]), (&json!(24), &json!(24)));
}

/// Goal: wherever in a sign-up the cell is killed, its restart brings it to an end.
/// Method: the directory stands still once the first sign-ups are through, so that others have committed and
/// are not confirmed; under them the cell is killed.
#[tokio::test(flavor = "multi_thread")]
async fn a_cell_killed_while_the_directory_stands_still_agrees_with_it_afterwards() {
    let world = World::up(&["up", "--regions", "1", "--cells", "1"]);
    let answered = Notify::new();
    let sign_ups = join_all((0..200).map(|n| {
        let (world, answered) = (&world, &answered);
        async move {
            let answer = known(world, &person(&format!("still-{n}@example.org"), None), &format!("still-{n}")).await;
            answered.notify_one();
            answer
        }
    }));
    let killer = async {
        answered.notified().await;
        let paused = Paused::new(&world.cellctl, "directory");
        tokio::time::sleep(Duration::from_millis(300)).await;
        kill9(&world, "cell").await;
        drop(paused);
        tokio::task::block_in_place(|| world.cellctl.ok(&["restart", "cell"]).unwrap());
    };
    let (answers, ()) = tokio::join!(sign_ups, killer);
    // Each was repeated under its key until it was known.
    let until = Instant::now() + SETTLED_MAX;
    while creating(&world).await > 0 {
        assert!(Instant::now() < until, "{:?}", world.admin.claims(None).await);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let audit = audit(&world);
    assert_clean(&audit);
    let made = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(made, answers.len(), "{:?}", answers.iter().find(|answer| answer.is_err()));
    assert_eq!((&audit["users"], &audit["claims"]), (&json!(made), &json!(made)));
}

/// Goal: the exit status tells "they agree" from "nobody can say".
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_cannot_be_read_is_not_compared() {
    let world = World::cell();
    world.user("ada@example.org", "free").await;
    assert_clean(&audit(&world));
    // A lone cell's directory stands beside its own tables.
    kill9(&world, "postgres").await;
    let output = world.cellctl.run(&["directory", "audit"]).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("could not be compared"));
}

/// Claims that the reaper of this cell has freed, as its metrics count them.
async fn reaped(world: &World, cell: &CellName) -> u64 {
    let status = world.cellctl.status().unwrap();
    let processes = status["processes"].as_array().unwrap();
    let process = processes.iter().find(|process| process["role"] == "cell" && process["cell"] == cell.as_str());
    let url = format!("{}/metrics", process.unwrap()["admin_url"].as_str().unwrap());
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    let count = text.lines().find_map(|line| line.strip_prefix("cellar_claims_reaped_total{outcome=\"freed\"} "));
    count.unwrap().trim().parse().unwrap()
}

async fn creating(world: &World) -> usize {
    let page = world.admin.claims(None).await.unwrap();
    page.claims.iter().filter(|claim| claim.state == "creating").count()
}

/// The name of a cell's process of this role.
fn process_of(world: &World, role: &str, cell: &CellName) -> String {
    let stack = Stack::open(world.cellctl.stack()).unwrap();
    let mut processes = stack.state().processes.iter();
    let found =
        processes.find(|process| process.role.label() == role && process.cell.as_deref() == Some(cell.as_str()));
    found.unwrap_or_else(|| panic!("no {role} of {cell}")).name.clone()
}
