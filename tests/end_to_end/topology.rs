//! The topology as an operator changes it.

use crate::support::World;
use cellar_model::Topology;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Goal: what would orphan users is refused, what moves them is counted, and what is put in force is in force.
#[tokio::test(flavor = "multi_thread")]
async fn a_topology_is_counted_refused_and_put_in_force() {
    let world = World::up(&["up", "--regions", "1", "--cells", "2", "--clock", "virtual"]);
    for n in 0..20 {
        world.user(&format!("user-{n}@example.org"), "free").await;
    }
    let show = || -> Value { serde_json::from_str(&world.cellctl.ok(&["topology", "show"]).unwrap()).unwrap() };
    let held = show();
    let file = world.cellctl.folder().join("topology.json");
    let run = |command: &[&str], revision: u64, change: &dyn Fn(&mut Value)| {
        let mut document = held.clone();
        (document["revision"], document["predecessor"]) = (json!(revision), json!(revision - 1));
        change(&mut document);
        std::fs::write(&file, document.to_string()).unwrap();
        let command = [&["topology"], command, &[file.to_str().unwrap()]].concat();
        let output = world.cellctl.run(&command).unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    };
    let cells = |document: &mut Value| document["regions"][0]["cells"].as_array_mut().unwrap().clone();

    let (good, said) = run(&["diff"], 2, &|document| document["regions"][0]["cells"][0]["weight"] = json!(1));
    assert!(!good && said.contains("without a plan"), "{said}");
    assert!(said.contains("20 users, of whom ") && !said.contains("of whom 0"), "{said}");
    let (good, said) = run(&["apply", "--yes"], 2, &|document| document["regions"][0]["cells"][0]["shards"] = json!(8));
    assert!(!good && said.contains("shards are fixed"), "{said}");
    let (good, said) = run(&["apply", "--yes"], 2, &|document| document["plan"] = json!("but without eu-1"));
    assert!(good, "{said}");
    let (good, said) = run(&["apply", "--yes"], 2, &|document| document["plan"] = json!("another second one"));
    assert!(!good && said.contains("revision 2 is in force"), "{said}");

    // A cell drains, and may leave once it has nobody.
    let drain = |document: &mut Value| document["regions"][0]["cells"][0]["state"] = json!("draining");
    let (good, said) = run(&["apply", "--yes"], 3, &drain);
    assert!(good, "{said}");
    let leave = |document: &mut Value| {
        document["plan"] = json!("eu-1 is given up");
        document["regions"][0]["cells"] = json!(cells(document)[1..]);
    };
    let (good, said) = run(&["diff"], 4, &leave);
    assert!(!good && said.contains("still has users") && said.contains("without a home"), "{said}");
    let (good, said) = run(&["apply", "--yes"], 4, &leave);
    assert!(!good && said.contains("still has users"), "{said}");

    // One that nobody lives in joins without a word, and leaves again.
    let join = |document: &mut Value| {
        drain(document);
        let mut all = cells(document);
        let mut pending = all[1].clone();
        (pending["name"], pending["state"]) = (json!("eu-9"), json!("pending"));
        pending["weight"] = json!(0);
        all.push(pending);
        document["regions"][0]["cells"] = json!(all);
    };
    let (good, said) = run(&["apply", "--yes"], 4, &join);
    assert!(good, "{said}");
    let until = Instant::now() + Duration::from_secs(20);
    while show()["revision"] != 4 {
        assert!(Instant::now() < until, "it does not come into force");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(serde_json::from_value::<Topology>(show()).is_ok());
    let counted: Value = serde_json::from_str(&world.cellctl.ok(&["topology", "show", "--json"]).unwrap()).unwrap();
    assert_eq!(counted["document"], show());
    let users = |cell: &str| counted["users"][cell].as_u64().unwrap();
    assert_eq!((users("eu-1") + users("eu-2"), users("eu-9")), (20, 0));
    let (good, said) = run(&["apply", "--yes"], 5, &drain);
    assert!(good, "{said}");
    // New users go to the cell that is open.
    for n in 20..30 {
        let user = world.user(&format!("user-{n}@example.org"), "free").await;
        let lives: Value = world.admin.whereabouts(&user).await.unwrap();
        assert_eq!(lives["cell"], "eu-2");
    }
}
