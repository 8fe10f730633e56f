//! Directories, snapshots and backups from before policies were signed.
//!
//! Method: what an earlier build has not is taken away from a stack of this one.

use crate::support::World;
use cellar_devstack::Cellctl;
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

const WAIT_MAX: Duration = Duration::from_secs(30);

fn json(cellctl: &Cellctl, arguments: &[&str]) -> Value {
    let words: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    serde_json::from_str(&cellctl.ok(&words).unwrap()).unwrap()
}

/// Takes the signature of every version away. How many there are.
async fn strip(cellctl: &Cellctl) -> usize {
    let state: Value = serde_json::from_slice(&std::fs::read(cellctl.stack().join("state.json")).unwrap()).unwrap();
    let pool = sqlx::PgPool::connect(state["directory_url"].as_str().unwrap()).await.unwrap();
    let stripped = "update catalog set document = ((document::jsonb) - 'signature')::text where kind = 'policy'";
    let rows = sqlx::query(stripped).execute(&pool).await.unwrap().rows_affected();
    pool.close().await;
    rows as usize
}

fn signed_by(cellctl: &Cellctl) -> Vec<Value> {
    let listed = json(cellctl, &["policy", "list"]);
    listed.as_array().unwrap().iter().map(|policy| policy["key"].clone()).collect()
}

async fn until_metric(cellctl: &Cellctl, line: &str) {
    let admin = cellctl.status().unwrap()["regions"][0]["admin_url"].as_str().unwrap().to_owned();
    let until = Instant::now() + WAIT_MAX;
    loop {
        let text = reqwest::get(format!("{admin}/metrics")).await.unwrap().text().await.unwrap();
        if text.lines().any(|held| held == line) {
            return;
        }
        assert!(Instant::now() < until, "no {line}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Goal: `directory sign` makes a directory of an earlier build decide again, once, and leaves a signed one as it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_an_earlier_build_is_signed_and_decides_again() {
    let world = World::cell();
    let cellctl = &world.cellctl;
    let versions = strip(cellctl).await;
    until_metric(cellctl, &format!("cellar_policy_refused_total{{reason=\"unsigned\"}} {versions}")).await;
    // One that starts now has nothing to decide by.
    cellctl.ok(&["stop", "cell"]).unwrap();
    let key = cellctl.stack().join("secrets/policy-key");
    let sign = ["directory", "sign", "--policy-key-file", key.to_str().unwrap()];
    assert!(cellctl.ok(&sign).unwrap().starts_with(&format!("signed {versions} versions with key ")));
    cellctl.ok(&["restart", "cell"]).unwrap();
    until_metric(cellctl, "cellar_catalog_tiers_unfit 0").await;
    world.user("me@example.org", "free").await;
    assert!(cellctl.ok(&sign).unwrap().starts_with("signed 0 versions with key "));
    let own = json(cellctl, &["policy", "keys", "list"])[0]["id"].clone();
    assert_eq!(signed_by(cellctl), vec![own; versions]);
}

/// Goal: a snapshot that was taken of a cell without signatures serves once it is loaded and started.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_from_before_signatures_is_mended_when_it_is_started() {
    let mut world = World::up(&["cell", "up"]);
    let versions = strip(&world.cellctl).await;
    world.cellctl.ok(&["down"]).unwrap();
    world.cellctl.ok(&["cell", "snapshot", "old"]).unwrap();
    for name in ["policy-key", "policy-keys"] {
        std::fs::remove_file(world.cellctl.stack().join("snapshots/old/secrets").join(name)).unwrap();
    }
    world.cellctl.ok(&["cell", "load", "old"]).unwrap();
    world.cellctl.keep(&["cell", "up"]).unwrap();
    let own = json(&world.cellctl, &["policy", "keys", "list"])[0]["id"].clone();
    assert_eq!(signed_by(&world.cellctl), vec![own; versions]);
    world.user("me@example.org", "free").await;
}

/// Goal: a backup from before signatures is laid down as a cell that serves, with a key of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_from_before_signatures_is_mended_when_it_is_restored() {
    let world = World::up(&["cell", "up"]);
    let versions = strip(&world.cellctl).await;
    for name in ["policy-key", "policy-keys"] {
        std::fs::remove_file(world.cellctl.stack().join("secrets").join(name)).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let backup = folder.path().join("backup").display().to_string();
    world.cellctl.ok(&["cell", "backup", &backup]).unwrap();
    world.cellctl.ok(&["down", "--delete"]).unwrap();
    let other = Cellctl::new().unwrap();
    other.ok(&["cell", "restore", &backup, "--yes"]).unwrap();
    let own = json(&other, &["policy", "keys", "list"])[0]["id"].clone();
    assert_eq!(signed_by(&other), vec![own; versions]);
    World::of(other).user("me@example.org", "free").await;
}
