//! Cells that speak to each other: users off the ring, a cell that is to join it, sign-ups in each other's way.

use crate::claims::{assert_clean, audit};
use crate::machine::{self, Paused, counted};
use crate::routers::{all_served, folder_of, routers};
use crate::support::{World, sign_up_body};
use cellar_client::ClientError;
use cellar_devstack::Stack;
use cellar_directory::{HomeState, Homes, Intent, OpenDirectory, UserHome};
use cellar_model::wire::{SignUpBody, SignedUp};
use cellar_model::{CellName, Epoch, Secret, UserId};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// For what comes about by itself, on a slow machine.
const SOON: Duration = Duration::from_secs(60);

/// A sign-up in `region`; with an id, it is brought.
fn person(email: &str, region: &str, id: Option<&str>) -> SignUpBody {
    SignUpBody {
        region: Some(region.parse().unwrap()),
        user_id: id.map(|id| id.parse().unwrap()),
        ..sign_up_body(email, "enterprise")
    }
}

impl World {
    /// Signs up under a key of its own.
    async fn made(&self, email: &str, region: &str, id: Option<&str>) -> Result<SignedUp, ClientError> {
        self.client.sign_up(&person(email, region, id), Some(email)).await
    }

    async fn lives_in(&self, user: &UserId) -> String {
        self.admin.whereabouts(user).await.unwrap()["cell"].as_str().unwrap().to_owned()
    }

    /// Repeats a sign-up under its key until it is made.
    async fn until_made(&self, email: &str, region: &str, id: Option<&str>) -> SignedUp {
        let until = Instant::now() + SOON;
        loop {
            match self.made(email, region, id).await {
                Ok(signed_up) => return signed_up,
                Err(error) => assert!(error.is_unknown() && Instant::now() < until, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Starts the routers again, while their directory is dead, without what they remembered of users off the ring.
    fn routers_anew_without_the_directory(&self) {
        for role in ["directory", "router"] {
            self.cellctl.ok(&["stop", role]).unwrap();
        }
        for router in routers(self) {
            // One that has nothing to write down has none.
            let _ = std::fs::remove_file(folder_of(self, &router).join("exceptions.copy"));
        }
        self.cellctl.ok(&["restart", "router"]).unwrap();
    }

    /// Requests that a router has sent on to another cell.
    fn sent_on(&self, router: &str) -> u64 {
        counted(&machine::process(&self.cellctl, router), "cellar_redirects_total").unwrap()
    }

    /// Waits until directory and cells agree, and nothing is under way.
    async fn agrees(&self) {
        let until = Instant::now() + SOON;
        loop {
            let audit = audit(self);
            if (&audit["disagreements"], &audit["under_way"]) == (&json!([]), &json!([])) {
                return;
            }
            assert!(Instant::now() < until, "{audit}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}

fn status<T>(answer: Result<T, ClientError>) -> Option<u16> {
    answer.err().and_then(|error| error.status())
}

/// Goal: an id that was brought to another region than the default one is served through every router, at the price
/// of one hop when a router first sees it, and of none of the directory.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_id_of_another_region_is_served_everywhere_also_without_the_directory() {
    let world = World::two_regions();
    let mut users = Vec::new();
    for n in 0..6 {
        let id = format!("acme-{n}");
        let signed_up = world.made(&format!("{id}@example.org"), "us", Some(&id)).await.unwrap();
        assert_eq!((signed_up.user_id.as_str(), signed_up.region.as_str()), (id.as_str(), "us"));
        assert_eq!(world.lives_in(&signed_up.user_id).await, "us-1");
        users.push(signed_up.user_id);
    }
    // Their ids are taken in every region, and without one.
    for region in ["eu", "us"] {
        assert_eq!(status(world.made("eve@example.org", region, Some("acme-0")).await), Some(409));
    }
    // One of those that sign-ups draw says its region itself.
    let drawn = world.made("drawn@example.org", "eu", None).await.unwrap().user_id;
    assert_eq!(status(world.made("eve@example.org", "us", Some(drawn.as_str())).await), Some(422));
    assert_eq!(status(world.made("eve@example.org", "moon", Some("acme-9")).await), Some(422));
    assert_clean(&audit(&world));

    world.routers_anew_without_the_directory();
    for _ in 0..3 {
        all_served(&world, &users).await;
    }
    for router in routers(&world) {
        assert_eq!(world.sent_on(&router), users.len() as u64, "one hop a user and router: {router}");
    }
}

/// Goal: a sign-up whose ring cell is away is unknown until that knows of it, by a repeat or by itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_sign_up_whose_ring_cell_is_away_is_answered_once_that_knows_of_it() {
    let world = World::two_regions();
    let cells = |command: &str, name: &str| drop(world.cellctl.ok(&[command, name]).unwrap());
    cells("stop", "eu-1-0");
    for id in ["repeated", "given-up"] {
        assert_eq!(status(world.made(&format!("{id}@example.org"), "us", Some(id)).await), Some(503));
    }
    cells("restart", "eu-1-0");
    assert_eq!(world.until_made("repeated@example.org", "us", Some("repeated")).await.region.as_str(), "us");
    world.agrees().await;
    let users = ["repeated", "given-up"].map(|id| id.parse::<UserId>().unwrap());
    let left = leave_half_way(&world, "half-way", "us-1").await;

    // A sign-up that stopped at a cell which is away may yet be committed there.
    cells("stop", "us-1-0");
    assert_eq!(status(world.made("later@example.org", "eu", Some(left.as_str())).await), Some(503));
    cells("restart", "us-1-0");
    // Under another key and e-mail: what was asked first may have been given up by now, for good.
    world.until_made("again@example.org", "eu", Some(left.as_str())).await;
    assert_eq!(world.lives_in(&left).await, "eu-1");
    world.agrees().await;

    world.routers_anew_without_the_directory();
    all_served(&world, &users).await;
    all_served(&world, &[left]).await;
}

/// A home that a sign-up at `cell` has opened before it stopped.
async fn leave_half_way(world: &World, user: &str, cell: &str) -> UserId {
    let url = Stack::open(world.cellctl.stack()).unwrap().state().directory_url.clone();
    let directory = OpenDirectory::connect(&Secret::new(url), 1).await.unwrap();
    let home = UserHome {
        user: user.parse().unwrap(),
        home: CellName::new(cell).unwrap(),
        epoch: Epoch(1),
        state: HomeState::Creating { intent: Intent::random() },
    };
    assert!(directory.create_home(&home).await.unwrap().is_applied());
    home.user
}

/// Puts the next topology in force, as an operator does. What was refused, if it was.
fn apply(world: &World, change: impl Fn(&mut Value)) -> Result<(), String> {
    let held: Value = serde_json::from_str(&world.cellctl.ok(&["topology", "show"]).unwrap()).unwrap();
    let revision = held["revision"].as_u64().unwrap();
    let mut document = held;
    (document["predecessor"], document["revision"]) = (json!(revision), json!(revision + 1));
    document["plan"] = json!("an operator's");
    change(&mut document);
    let file = world.cellctl.folder().join("topology.json");
    std::fs::write(&file, document.to_string()).unwrap();
    let output = world.cellctl.run(&["topology", "apply", "--yes", file.to_str().unwrap()]).unwrap();
    if !output.status.success() {
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    let until = std::time::Instant::now() + SOON;
    let shown = || serde_json::from_str::<Value>(&world.cellctl.ok(&["topology", "show"]).unwrap()).unwrap();
    while shown()["revision"] != document["revision"] {
        assert!(std::time::Instant::now() < until, "it does not come into force");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// The second cell of a region (0: eu) gets this state.
fn state(region: usize, state: &'static str) -> impl Fn(&mut Value) {
    move |document| document["regions"][region]["cells"][1]["state"] = json!(state)
}

/// Signs up users in a region until `n` live in `cell`; those who do.
async fn fill(world: &World, region: &str, cell: &str, n: usize) -> Vec<UserId> {
    let (mut users, until) = (Vec::new(), Instant::now() + SOON);
    for email in 0.. {
        let email = format!("{cell}-{email}@example.org");
        // While the routers read a new topology, a sign-up may have to be repeated.
        let user = world.until_made(&email, region, None).await.user_id;
        if world.lives_in(&user).await == cell {
            users.push(user);
        }
        if users.len() == n {
            break;
        }
        assert!(Instant::now() < until, "{cell} gets no users");
    }
    users
}

/// Goal: a cell that is pending fills, its users are served through every router, and it joins the ring when that
/// leaves nobody behind and not before.
#[tokio::test(flavor = "multi_thread")]
async fn a_pending_cell_takes_sign_ups_and_joins_the_ring_when_nobody_would_have_to_move() {
    let world = World::up(&["up", "--regions", "2", "--cells", "2", "--clock", "virtual"]);
    // In us, the second cell is pending from the start; in eu, it comes to users who are there.
    apply(&world, |document| {
        state(1, "pending")(document);
        state(0, "draining")(document);
    })
    .unwrap();
    let second = serde_json::to_value(world.admin.topology().await.unwrap()).unwrap()["regions"][0]["cells"][1].clone();
    apply(&world, |document| drop(document["regions"][0]["cells"].as_array_mut().unwrap().pop())).unwrap();
    let mut users = fill(&world, "eu", "eu-1", 16).await;
    apply(&world, |document| {
        document["regions"][0]["cells"].as_array_mut().unwrap().push(second.clone());
        state(0, "pending")(document);
    })
    .unwrap();
    users.extend(fill(&world, "us", "us-2", 3).await);
    users.extend(fill(&world, "eu", "eu-2", 3).await);
    all_served(&world, &users).await;
    world.agrees().await;

    let refused = apply(&world, state(0, "open")).unwrap_err();
    assert!(refused.contains("users cannot be moved yet"), "{refused}");
    apply(&world, state(1, "open")).unwrap();
    let more = world.until_made("more@example.org", "us", None).await.user_id;
    users.push(more);
    all_served(&world, &users).await;
    world.agrees().await;
    world.routers_anew_without_the_directory();
    all_served(&world, &users).await;
}

/// Goal: while the directory stands still, every user is served at every router, one that was started again and
/// has forgotten its exceptions among them; sign-ups are unknown; and all is well once it goes on.
#[tokio::test(flavor = "multi_thread")]
async fn while_the_directory_stands_still_every_user_is_served_and_sign_ups_are_unknown() {
    let world = World::two_regions();
    let mut users = Vec::new();
    for n in 0..8 {
        let (region, id) = (["eu", "us"][n % 2], format!("still-{n}"));
        let id = (n >= 4).then_some(id.as_str());
        users.push(world.made(&format!("still-{n}@example.org"), region, id).await.unwrap().user_id);
    }
    let paused = Paused::new(&world.cellctl, "directory");
    all_served(&world, &users).await;
    let router = routers(&world).remove(0);
    world.cellctl.ok(&["stop", &router]).unwrap();
    let _ = std::fs::remove_file(folder_of(&world, &router).join("exceptions.copy"));
    machine::restart(&world.cellctl, &router);
    for _ in 0..3 {
        all_served(&world, &users).await;
    }
    let refused =
        [world.made("new@example.org", "eu", None).await, world.made("ext@example.org", "us", Some("ext")).await];
    assert_eq!(refused.map(status), [Some(503), Some(503)]);
    drop(paused);
    users.push(world.until_made("new@example.org", "eu", None).await.user_id);
    users.push(world.until_made("ext@example.org", "us", Some("ext")).await.user_id);
    all_served(&world, &users).await;
    world.agrees().await;
}
