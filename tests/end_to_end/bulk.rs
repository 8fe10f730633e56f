//! Many users at once: `cellctl users import`.

use crate::support::World;
use cellar_model::wire::{Device, LogInBody};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// bcrypt of "correct horse", cost 4.
const HASH: &str = "$2b$04$N9qo8uLOickgx2ZMRZoMyeIjZAgcfl7p92ldGxad68LJZdL17lhWy";

fn import(world: &World, file: &str) -> (Option<i32>, Value) {
    let out = world.cellctl.run(&["users", "import", file, "--json"]).unwrap();
    let said = serde_json::from_slice(&out.stdout);
    (out.status.code(), said.unwrap_or_else(|_| panic!("{out:?}")))
}

/// Goal: a file is brought over all cells; again it changes nothing; conflicts and bad lines are listed with their
/// numbers, and nothing of a person is in that list.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_users_is_brought_once_and_what_is_left_out_is_listed() {
    let world = World::up(&["up", "--regions", "2", "--cells", "2"]);
    world.user("taken@example.org", "pro").await;
    let mut text = String::new();
    for n in 0..300 {
        let line = json!({"email": format!("user{n}@example.org"), "tier": "pro", "name": format!("User {n}"),
                          "region": if n % 2 == 0 { "eu" } else { "us" }, "password_hash": HASH,
                          "preferences": {"n": n}});
        writeln!(text, "{line}").unwrap();
    }
    writeln!(text, "{}", json!({"email": "taken@example.org", "tier": "free"})).unwrap();
    writeln!(text, "not a user").unwrap();
    writeln!(text, "{}", json!({"email": "x@example.org", "tier": "gold"})).unwrap();
    writeln!(text, "{}", json!({"email": "y@example.org", "tier": "pro", "region": "moon"})).unwrap();
    writeln!(text, "{}", json!({"email": "own@example.org", "tier": "pro", "user_id": "own-id"})).unwrap();
    let file = world.cellctl.folder().join("users.jsonl");
    std::fs::write(&file, text).unwrap();
    let file = file.display().to_string();

    let (code, first) = import(&world, &file);
    let counts = |said: &Value| ["created", "unchanged", "conflicts", "invalid", "unknown"].map(|n| said[n].as_u64());
    assert_eq!((code, counts(&first)), (Some(1), [301, 0, 1, 3, 0].map(Some)), "{first}");
    let report = std::fs::read_to_string(first["report"].as_str().unwrap()).unwrap();
    let lines: Vec<Value> = report.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut numbers: Vec<u64> = lines.iter().map(|line| line["line"].as_u64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [301, 302, 303, 304]);
    assert!(!report.contains('@'), "{report}");
    let (code, again) = import(&world, &file);
    assert_eq!((code, counts(&again)), (Some(1), [0, 301, 1, 3, 0].map(Some)), "{again}");

    // They are users like others: with profile and quota, and a log-in by the password they had.
    let own = "own-id".parse().unwrap();
    assert_eq!(world.client.profile(&own).await.unwrap().email.as_deref(), Some("own@example.org"));
    let device = Device { name: "laptop".into(), platform: "linux".into() };
    let log_in = |password: &str| LogInBody {
        email: Some("user7@example.org".into()),
        password: Some(password.into()),
        user_id: None,
        device: device.clone(),
    };
    let anyone = world.client.without_credential();
    assert_eq!(anyone.log_in(&log_in("wrong password")).await.err().and_then(|error| error.status()), Some(401));
    let audit = world.cellctl.run(&["directory", "audit"]).unwrap();
    assert!(audit.status.success(), "{audit:?}");
    assert!(world.client.quota(&own).await.is_ok());

    // And an export has all that an import takes, hashes if they are asked for.
    for (hashes, more) in [(false, None), (true, Some("--password-hashes"))] {
        let out = world.cellctl.folder().join(format!("export-{hashes}.jsonl")).display().to_string();
        let export = ["users", "export", &out].into_iter().chain(more).collect::<Vec<_>>();
        world.cellctl.ok(&export).unwrap();
        let text = std::fs::read_to_string(&out).unwrap();
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 302, "those of the file, and the one who was there");
        let user = lines.iter().find(|line| line["email"] == "user7@example.org").unwrap();
        let (region, preferences) = (&user["region"], &user["preferences"]);
        assert_eq!((region, preferences, &user["tier"]), (&json!("us"), &json!({"n": 7}), &json!("pro")));
        assert_eq!(user.get("password_hash"), hashes.then(|| json!(HASH)).as_ref());
        assert!(!world.cellctl.run(&export).unwrap().status.success(), "it is there already");
    }
}
