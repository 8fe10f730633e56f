//! Another pepper, brought in while the world runs.

use crate::claims::{assert_clean, audit, known, person};
use crate::machine::restart;
use crate::support::World;
use cellar_devstack::{Role, Stack};
use cellar_model::wire::{Device, LogInBody, LoggedIn, SignUpBody};
use cellar_model::{RegionName, UserId};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tokio::time::Instant;

const PASSWORD: &str = "correct horse battery";

/// For a pass over a handful of users, which begins with the process, on a slow machine.
const BACKFILLED_MAX: Duration = Duration::from_secs(60);

/// A world, the lines of its pepper file, and everyone who has signed up so far.
struct Rotation {
    world: World,
    file: PathBuf,
    people: Vec<(String, UserId)>,
}

impl Rotation {
    fn write(&self, peppers: &[&str]) {
        std::fs::write(&self.file, peppers.join("\n")).unwrap();
    }

    /// The processes of a role, in the order of their regions.
    fn processes(&self, role: Role) -> Vec<String> {
        let stack = Stack::open(self.world.cellctl.stack()).unwrap();
        let of_role = stack.state().processes.iter().filter(|process| process.role == role);
        of_role.map(|process| process.name.clone()).collect()
    }

    /// Gives one region's cell and router what the file says, then the other's; in each state everybody is found,
    /// every e-mail is taken, and another one can be had.
    async fn roll_out(&mut self, phase: &str) {
        let (cells, routers) = (self.processes(Role::Cell), self.processes(Role::Router));
        for (n, (cell, router)) in cells.iter().zip(&routers).enumerate() {
            restart(&self.world.cellctl, cell);
            restart(&self.world.cellctl, router);
            self.check(&format!("{phase}-{n}")).await;
        }
    }

    async fn check(&mut self, phase: &str) {
        let email = format!("{phase}@example.org");
        for region in ["eu", "us"] {
            let email = format!("{region}-{email}");
            let body = SignUpBody { region: Some(RegionName::new(region).unwrap()), ..person(&email, Some(PASSWORD)) };
            let user = known(&self.world, &body, &email).await.unwrap().user_id;
            let again = known(&self.world, &body, &email).await.unwrap().user_id;
            assert_eq!(again, user, "{phase}: a repeat gets its own id");
            self.people.push((email, user));
        }
        for (n, (email, user)) in self.people.iter().enumerate() {
            let taken = known(&self.world, &person(email, None), &format!("{phase}-{n}")).await;
            assert_eq!(taken.err().and_then(|error| error.status()), Some(409), "{phase}: {email} is taken");
            let url = &self.world.urls[n % self.world.urls.len()];
            assert_eq!(log_in(url, email).await.as_ref(), Some(user), "{phase}: {email} logs in");
        }
    }

    fn peppers(&self) -> Value {
        let said = self.world.cellctl.ok(&["directory", "peppers", "--json"]).unwrap();
        serde_json::from_str(&said).unwrap()
    }

    /// Whether the claims of a pepper may be removed, and were.
    fn retires(&self, id: &str) -> bool {
        self.world.cellctl.run(&["directory", "peppers", "retire", id, "--yes"]).unwrap().status.success()
    }
}

async fn log_in(url: &str, email: &str) -> Option<UserId> {
    let body = LogInBody {
        email: Some(email.into()),
        password: Some(PASSWORD.into()),
        user_id: None,
        device: Device { name: "laptop".into(), platform: "linux".into() },
    };
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = reqwest::Client::new().post(format!("{url}/v1/sessions")).json(&body).send().await.unwrap();
        match answer.status().as_u16() {
            201 => return Some(answer.json::<LoggedIn>().await.unwrap().user_id),
            503 if Instant::now() < until => tokio::time::sleep(Duration::from_millis(50)).await,
            _ => return None,
        }
    }
}

/// Goal: one pepper takes the place of another while everybody is served, and nobody gets another's e-mail.
/// Method: the file's lines change, and region after region is started again.
#[tokio::test(flavor = "multi_thread")]
async fn another_pepper_is_brought_in_by_restarts_and_the_old_one_retired() {
    let world = World::two_regions();
    let file = Stack::open(world.cellctl.stack()).unwrap().state().pepper_file.clone();
    let old = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    let new = "c5".repeat(32);
    let mut rotation = Rotation { world, file, people: Vec::new() };
    rotation.check("old").await;
    let alone = rotation.peppers();
    let old_id = alone["file"][0].as_str().unwrap().to_owned();
    assert_eq!((&alone["peppers"][&old_id]["held"], &alone["drop_the_first"]["safe"]), (&json!(2), &json!(false)));

    rotation.write(&[&old, &new]);
    rotation.roll_out("both").await;
    let until = Instant::now() + BACKFILLED_MAX;
    let both = loop {
        let both = rotation.peppers();
        if both["drop_the_first"]["safe"] == json!(true) {
            break both;
        }
        assert!(Instant::now() < until, "{both}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    let new_id = both["file"][1].as_str().unwrap().to_owned();
    assert_eq!(both["peppers"][&new_id]["held"], both["peppers"][&old_id]["held"]);
    assert!(!rotation.retires(&old_id), "the files name it");
    assert_clean(&audit(&rotation.world));

    rotation.write(&[&new]);
    rotation.roll_out("new").await;
    assert!(rotation.retires(&old_id));
    assert!(!rotation.retires(&new_id));
    rotation.check("after").await;
    let audit = audit(&rotation.world);
    assert_clean(&audit);
    let people = rotation.people.len();
    assert_eq!((&audit["users"], &audit["claims"]), (&json!(people), &json!(people)));
    assert_eq!(audit["peppers"].as_object().unwrap().keys().collect::<Vec<_>>(), [&new_id]);
}

#[test]
fn a_pepper_file_of_three_lines_is_refused_by_both_programs() {
    let world = World::two_regions();
    let stack = Stack::open(world.cellctl.stack()).unwrap();
    let pepper = |byte: &str| byte.repeat(32);
    std::fs::write(&stack.state().pepper_file, [pepper("a1"), pepper("a2"), pepper("a3")].join("\n")).unwrap();
    for (program, name, role) in
        [("cellar-cell", "cell.toml", Role::Cell), ("cellar-router", "router.toml", Role::Router)]
    {
        let process = stack.state().processes.iter().find(|process| process.role == role).unwrap();
        let folder = process.cell.as_ref().unwrap_or(&process.name);
        let config = world.cellctl.stack().join("config").join(folder).join(name);
        let mut command = Command::new(world.cellctl.program().with_file_name(program));
        let output = command.arg("--check-config").arg("--config").arg(&config).output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(!output.status.success() && said.contains("at most two"), "{said}");
    }
}
