//! One cell on a laptop: seeded, reset, kept and gone.

use crate::support::World;
use cellar_devstack::{Cellctl, Identity};
use std::path::Path;

fn seed(folder: &Path) -> String {
    let pro = include_str!("../../examples/tiers/pro.toml").replace("\"pro\"", "\"own\"");
    std::fs::write(folder.join("own.toml"), pro).unwrap();
    let seed = "tiers = [\"own.toml\"]\n\
        [[user]]\nuser_id = \"ada\"\nemail = \"ada@example.org\"\ntier = \"own\"\npreferences = { theme = \"dark\" }\n\
        [[user]]\nemail = \"bob@example.org\"\ntier = \"free\"\n";
    std::fs::write(folder.join("seed.toml"), seed).unwrap();
    folder.join("seed.toml").display().to_string()
}

/// Goal: a seed brings tiers, users and preferences, twice is once, and what users did since stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_cell_begins_with_its_seed_and_comes_back_to_what_was_kept() {
    let mut cellctl = Cellctl::new().unwrap();
    let file = seed(cellctl.folder());
    let up = ["cell", "up", "--seed", &file];
    cellctl.keep(&up).unwrap();
    let world = World::of(cellctl);
    let ada = "ada".parse().unwrap();
    assert_eq!(world.client.preferences(&ada).await.unwrap()["theme"], "dark");
    assert_eq!(world.client.profile(&ada).await.unwrap().tier.as_str(), "own");
    let users = |world: &World| world.cellctl.ok(&["user", "list"]).unwrap().lines().count();
    assert_eq!(users(&world), 2);

    let light = serde_json::json!({ "theme": "light" });
    world.client.patch_preferences(&ada, light.as_object().unwrap()).await.unwrap();
    world.cellctl.ok(&["cell", "snapshot", "kept"]).unwrap();
    world.user("carla@example.org", "free").await;
    assert_eq!(users(&world), 3);
    world.cellctl.ok(&["cell", "load", "kept"]).unwrap();
    assert_eq!(users(&world), 2);
    assert_eq!(world.client.preferences(&ada).await.unwrap()["theme"], "light");
    world.cellctl.ok(&["cell", "reset", "--seed", &file]).unwrap();
    assert_eq!(world.client.preferences(&ada).await.unwrap()["theme"], "dark");
    world.cellctl.ok(&["audit"]).unwrap();

    // One that has lost a file is refused, and costs nothing.
    let kept = world.cellctl.stack().join("snapshots/kept/data/local-1-postgres/cluster/PG_VERSION");
    std::fs::remove_file(kept).unwrap();
    let refused = world.cellctl.run(&["cell", "load", "kept"]).unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("is damaged"), "{refused:?}");
    assert_eq!(users(&world), 2);
}

/// Goal: `devstack::cell()` is a cell in a line, beside others, and leaves nothing behind.
#[tokio::test(flavor = "multi_thread")]
async fn cells_in_a_line_run_beside_each_other_and_leave_nothing() {
    let tier = include_str!("../../examples/tiers/pro.toml").replace("\"pro\"", "\"mine\"");
    let start = |n: usize| cellar_devstack::cell().tier(tier.clone()).user(format!("u{n}@example.org"), "mine").start();
    let (one, two) = tokio::join!(start(1), start(2));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_ne!(one.url(), two.url());
    let (cells, mut lives) = ([&one, &two], Vec::new());
    for cell in cells {
        assert_eq!(cell.cellctl().ok(&["user", "list"]).unwrap().lines().count(), 1);
        let status = cell.cellctl().status().unwrap();
        lives.extend(
            status["processes"]
                .as_array()
                .unwrap()
                .iter()
                .map(|process| i32::try_from(process["pid"].as_i64().unwrap()).unwrap()),
        );
    }
    let refused = cellar_devstack::cell().user("a@example.org", "no-such-tier").start().await.err().unwrap();
    assert!(refused.to_string().contains("no-such-tier"), "{refused}");
    // A test that panics drops its cell, too.
    let panicked = tokio::spawn(async move {
        let _cells = (one, two);
        panic!("a test fails");
    });
    assert!(panicked.await.unwrap_err().is_panic());
    assert!(lives.iter().all(|pid| Identity::of(*pid).is_none()), "{lives:?}");
}

/// Goal: a cell has the ports and the keys it is told, listens beyond loopback only where that is said, and a stack
/// that is here keeps its own keys.
#[tokio::test(flavor = "multi_thread")]
async fn a_cell_opens_its_door_only_as_it_was_told() {
    let mut cellctl = Cellctl::new().unwrap();
    let key = cellctl.folder().join("service-key").display().to_string();
    let (port, admin_port) = two_free_ports();
    let up = ["cell", "up", "--listen", "0.0.0.0", "--port", &port, "--admin-port", &admin_port];
    let keys = ["--service-key-file", &key];
    let taken = std::net::TcpListener::bind(format!("0.0.0.0:{port}")).unwrap();
    let refused = cellctl.keep(&[&up[..], &["--allow-plaintext"]].concat()).unwrap_err().to_string();
    assert!(refused.contains("is taken by another program"), "{refused}");
    drop(taken);
    let refused = cellctl.keep(&up).unwrap_err().to_string();
    assert!(refused.contains("--allow-plaintext"), "{refused}");

    cellctl.keep(&[&up[..], &keys, &["--allow-plaintext"]].concat()).unwrap();
    let status = cellctl.status().unwrap();
    assert_eq!(status["regions"][0]["router_url"], format!("http://127.0.0.1:{port}"));
    assert_eq!(status["service_key"], std::fs::read_to_string(&key).unwrap().trim());
    let ready = reqwest::get(format!("http://127.0.0.1:{admin_port}/readyz")).await.unwrap().text().await.unwrap();
    assert!(ready.contains("without TLS"), "{ready}");

    cellctl.ok(&["down"]).unwrap();
    std::fs::remove_file(&key).unwrap();
    let refused = cellctl.keep(&[&["cell", "up"], &keys[..]].concat()).unwrap_err().to_string();
    assert!(refused.contains("another service key"), "{refused}");
}

/// Nobody has them at this moment.
fn two_free_ports() -> (String, String) {
    let held = [0; 2].map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let [port, admin_port] = held.each_ref().map(|held| held.local_addr().unwrap().port().to_string());
    (port, admin_port)
}
