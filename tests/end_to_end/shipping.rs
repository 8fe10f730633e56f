//! Policies from an author to a cell: signed, published, pulled; and what nobody trusted has signed, which decides
//! nowhere.

use crate::support::World;
use cellar_artifacts::SigningKey;
use cellar_directory::catalog::{self, Put};
use cellar_directory::{CatalogKind, CatalogRow, Documents, OpenDirectory, PolicyEntry};
use cellar_model::{Base64, Digest, PolicyName, PolicyUpload, Revision, Secret, TierDocument, VersionNumber};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// A poll of the catalog is two seconds; on a machine that also compiles.
const SEEN_MAX: Duration = Duration::from_secs(20);

/// A built-in component, with a section of its own that says nothing: other bytes that decide alike.
fn build(n: u8) -> Vec<u8> {
    let running = std::env::current_exe().unwrap();
    let found = running.ancestors().map(|folder| folder.join("policies/gcra.wasm")).find(|path| path.is_file());
    let mut component = std::fs::read(found.expect("run `make policies` first")).unwrap();
    component.extend_from_slice(&[0, 3, 2, b'n', n]);
    component
}

fn gcra() -> PolicyName {
    PolicyName::new("gcra").unwrap()
}

fn upload(artifact: &[u8], version: VersionNumber, key: Option<&SigningKey>) -> PolicyUpload {
    let signature = key.map(|key| key.sign(&gcra(), version, &Digest::of(artifact), None));
    PolicyUpload { artifact: Base64(artifact.to_vec()), signature, certificate: None }
}

fn pinned(name: &str, artifact: &[u8]) -> TierDocument {
    let digest = Digest::of(artifact);
    let text = format!(
        "name = {name:?}\n[[policy]]\nslot = \"rate\"\nuse = \"gcra@{digest}\"\nunit = \"requests\"\n\
         settings = {{ limit = 6, period_s = 60 }}\n"
    );
    TierDocument::from_toml(&text).unwrap()
}

fn json(world: &World, arguments: &[&str]) -> Value {
    let words: Vec<&str> = arguments.iter().copied().chain(["--json"]).collect();
    serde_json::from_str(&world.cellctl.ok(&words).unwrap()).unwrap()
}

/// The state file, as an attacker on this machine would read it.
fn state(world: &World) -> Value {
    serde_json::from_slice(&std::fs::read(world.cellctl.stack().join("state.json")).unwrap()).unwrap()
}

async fn directory(world: &World) -> OpenDirectory {
    let url = state(world)["directory_url"].as_str().unwrap().to_owned();
    OpenDirectory::connect(&Secret::new(url), 1).await.unwrap()
}

fn secret(world: &World, name: &str) -> PathBuf {
    world.cellctl.stack().join("secrets").join(name)
}

/// Waits until the metrics of a cell's admin listener have a line.
async fn until_metric(admin_url: &str, line: &str) {
    let until = Instant::now() + SEEN_MAX;
    loop {
        let text = reqwest::get(format!("{admin_url}/metrics")).await.unwrap().text().await.unwrap();
        if text.lines().any(|held| held == line) {
            return;
        }
        let refused: Vec<&str> = text.lines().filter(|line| line.starts_with("cellar_policy_refused")).collect();
        assert!(Instant::now() < until, "no {line}; there is {refused:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Puts a tier in force once the cell that is asked knows its policy's version.
async fn put_known(world: &World, tier: &TierDocument) {
    let until = Instant::now() + SEEN_MAX;
    while let Err(error) = world.admin.put_tier(tier).await {
        assert!(Instant::now() < until, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn admin_url(world: &World) -> String {
    state(world)["regions"][0]["admin_url"].as_str().unwrap().to_owned()
}

/// Goal: a stack that was started from nothing asks for signatures and serves; what is not signed, or by nobody it
/// trusts, or for something else, is refused at the door, and does not decide if it comes another way; nor does what is
/// below the floor.
#[tokio::test]
async fn what_nobody_trusted_has_signed_decides_nowhere() {
    let world = World::cell();
    let config = std::fs::read_to_string(world.cellctl.stack().join("config/local-1/cell.toml")).unwrap();
    assert!(config.contains("policy_keys_file") && !config.contains("require_signatures"), "{config}");
    world.user("me@example.org", "free").await;
    let listed = json(&world, &["policy", "list"]);
    let own = json(&world, &["policy", "keys", "list"])[0]["id"].clone();
    assert!(listed.as_array().unwrap().iter().all(|policy| policy["key"] == own), "{listed}");

    // At the door.
    let (stranger, v) = (SigningKey::generate(&mut rand::rng()), VersionNumber::new(1, 8, 0));
    let put = async |upload: &PolicyUpload| match world.admin.put_policy(&gcra(), v, upload).await {
        Ok(_) => "taken".to_owned(),
        Err(error) => error.to_string(),
    };
    assert!(put(&upload(&build(1), v, None)).await.contains("it is not signed"));
    let by_stranger = upload(&build(1), v, Some(&stranger));
    assert!(put(&by_stranger).await.contains("which is not trusted here"));
    let other = PolicyUpload { artifact: Base64(build(2)), ..by_stranger.clone() };
    assert!(put(&other).await.contains("for other bytes"));
    let of_another = upload(&build(1), VersionNumber::new(1, 7, 0), Some(&stranger));
    assert!(put(&of_another).await.contains("for version 1.7.0, not for 1.8.0"));

    // Past the door: whoever can write to the directory.
    let directory = directory(&world).await;
    let signature = stranger.sign(&gcra(), VersionNumber::new(1, 9, 0), &Digest::of(&build(3)), None);
    let entry = PolicyEntry::unsigned(gcra(), "1.9.0".into(), Digest::of(&build(3)));
    let entry = PolicyEntry { signature: Some(signature), ..entry };
    assert!(matches!(catalog::put_policy(&directory, &entry, &build(3)).await.unwrap(), Put::Done(_)));
    until_metric(&admin_url(&world), "cellar_policy_refused_total{reason=\"unknown-key\"} 1").await;
    let refused = world.admin.put_tier(&pinned("strange", &build(3))).await.unwrap_err().to_string();
    assert!(refused.contains("/policy/0/use") && refused.contains("gcra 1.9.0 may not decide here"), "{refused}");
    world.user("still@example.org", "free").await;

    trust_floor_and_half_written(&world, &stranger, &by_stranger, v).await;
}

async fn trust_floor_and_half_written(world: &World, stranger: &SigningKey, signed: &PolicyUpload, v: VersionNumber) {
    // Trusted for other names it is refused by another word, and trusted for this one it is taken, without a restart.
    let public = stranger.public().to_string();
    json(world, &["policy", "keys", "trust", "acme", &public, "--policies", "acme-*"]);
    let refused = world.admin.put_policy(&gcra(), v, signed).await.unwrap_err().to_string();
    assert!(refused.contains("is trusted for acme-*, not for gcra"), "{refused}");
    json(world, &["policy", "keys", "trust", "acme", &public, "--policies", "acme-*,gcra"]);
    world.admin.put_policy(&gcra(), v, signed).await.unwrap();
    let shown = json(world, &["policy", "show", "gcra@1.8.0"]);
    assert_eq!(shown["versions"][0]["key"], stranger.public().id().to_string());
    put_known(world, &pinned("newer", &signed.artifact.0)).await;

    // Below the floor nothing is put in force, and the floor does not come down.
    let old = json(world, &["policy", "show", "gcra@1.0.0"])["versions"][0]["digest"].as_str().unwrap().to_owned();
    let strands = world.cellctl.run(&["policy", "floor", "gcra", "2.0.0"]).unwrap();
    let said = String::from_utf8_lossy(&strands.stderr).into_owned();
    assert!(!strands.status.success() && said.contains("nothing to decide by for"), "{said}");
    world.cellctl.ok(&["policy", "floor", "gcra", "1.8.0"]).unwrap();
    let lower = world.cellctl.run(&["policy", "floor", "gcra", "1.0.0"]).unwrap();
    assert!(String::from_utf8_lossy(&lower.stderr).contains("a floor never goes down"));
    let mut down = pinned("downgraded", &signed.artifact.0);
    down.policies[0].policy = format!("gcra@{old}").try_into().unwrap();
    let refused = world.admin.put_tier(&down).await.unwrap_err().to_string();
    assert!(
        refused.contains("gcra 1.0.0 may not decide here: it is below the floor of its policy, 1.8.0"),
        "{refused}"
    );
    let refused = world.admin.put_policy(&gcra(), VersionNumber::new(1, 7, 9), signed).await;
    assert_eq!(refused.unwrap_err().status(), Some(422));

    // A version whose artifact has not come holds up nobody.
    let own = SigningKey::read(&secret(world, "policy-key")).unwrap();
    let missing = Digest::of(b"on its way");
    let signature = own.sign(&gcra(), VersionNumber::new(1, 9, 9), &missing, None);
    let entry = PolicyEntry { signature: Some(signature), ..PolicyEntry::unsigned(gcra(), "1.9.9".into(), missing) };
    let document = serde_json::to_string(&entry).unwrap();
    let row = CatalogRow {
        kind: CatalogKind::Policy,
        name: "gcra@1.9.9".into(),
        revision: Revision(1),
        digest: Digest::of(document.as_bytes()),
        document,
        signature: None,
    };
    let _ = directory(world).await.create_catalog_row(&row).await.unwrap();
    world.bucket_tier("after", 7).await;
}

/// Goal: the steps of an author, from a key of his own to a Cellar that trusts it, by way of a folder.
#[tokio::test]
async fn a_policy_is_signed_shipped_in_a_folder_pulled_and_published() {
    let world = World::two_regions();
    let folder = world.cellctl.folder().to_owned();
    let path = |name: &str| folder.join(name).display().to_string();
    std::fs::write(path("night.wasm"), build(9)).unwrap();
    let key = json(&world, &["policy", "keys", "new", &path("author.key")]);
    let (component, keys) = (path("night.wasm"), path("trusted"));
    let sign = ["policy", "sign", "--component", &component, "--key-file", &path("author.key"), "--version", "1.5.0"];

    // A certificate that says "broken" is signed as it is, and is not published by mistake.
    let report = |verdict: &str| {
        let finding = serde_json::json!({ "property": "never-over-admits", "verdict": verdict, "cases": 5 });
        let digest = Digest::of(&build(9));
        serde_json::json!({
            "name": "gcra", "version": "1.0.0", "digest": digest, "cases": 5, "findings": [finding],
        })
    };
    std::fs::write(path("night.wasm.cert"), report("broken").to_string()).unwrap();
    json(&world, &sign);
    let refused = world.cellctl.run(&["policy", "publish", "--component", &component, "--to", &path("image")]).unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("BROKEN: never-over-admits"), "{said}");
    std::fs::write(path("night.wasm.cert"), report("holds").to_string()).unwrap();
    json(&world, &sign);
    json(&world, &["policy", "publish", "--component", &component, "--to", &path("image")]);

    // Whoever does not trust the author does not get it; 1 is "no", 2 is "could not say".
    std::fs::write(&keys, "").unwrap();
    let (image, pulled) = (path("image"), path("pulled.wasm"));
    let pull = ["policy", "pull", &image, "--out", &pulled, "--keys-file", &keys];
    assert!(!world.cellctl.run(&pull).unwrap().status.success() && !Path::new(&pulled).exists());
    let verify = |from: &str| {
        let output = world.cellctl.run(&["policy", "verify", from, "--keys-file", &keys]).unwrap();
        output.status.code().unwrap()
    };
    assert_eq!((verify(&image), verify(&path("nowhere"))), (1, 2));
    let public = key["public"].as_str().unwrap();
    json(&world, &["policy", "keys", "trust", "author", public, "--policies", "gcra", "--keys-file", &keys]);
    assert_eq!(verify(&image), 0);
    assert_eq!(json(&world, &pull)["certificate"]["held"], 1);
    assert_eq!(std::fs::read(&pulled).unwrap(), build(9));

    // By way of a router, to whose cells the author is a stranger until they are told.
    let publish = ["policy", "publish", "--component", &pulled];
    let refused = world.cellctl.run(&publish).unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("which is not trusted here"));
    json(&world, &["policy", "keys", "trust", "author", public, "--policies", "gcra"]);
    json(&world, &publish);
    let shown = json(&world, &["policy", "show", "gcra@1.5.0"]);
    assert_eq!(shown["versions"][0]["certificate"]["held"], 1, "{shown}");
    assert_eq!(shown["versions"][0]["key"], key["id"]);

    one_cell_that_cannot_verify_says_so(&world).await;
}

/// Method: one cell has a file of keys of its own, out of which they are taken.
async fn one_cell_that_cannot_verify_says_so(world: &World) {
    let state = state(world);
    let cells = state["processes"].as_array().unwrap().iter().filter(|process| process["role"] == "cell");
    let cell = cells.clone().find(|process| process["region"] == "us").unwrap();
    let name = cell["cell"].as_str().unwrap();
    let config = world.cellctl.stack().join("config").join(name).join("cell.toml");
    let (text, own) = (std::fs::read_to_string(&config).unwrap(), world.cellctl.folder().join("own-keys"));
    let shared = secret(world, "policy-keys");
    std::fs::copy(&shared, &own).unwrap();
    std::fs::write(&config, text.replace(shared.to_str().unwrap(), own.to_str().unwrap())).unwrap();
    world.cellctl.ok(&["restart", cell["name"].as_str().unwrap()]).unwrap();
    std::fs::write(&own, "# nobody\n").unwrap();
    let admin_url = cell["admin_url"].as_str().unwrap();
    let number = |document: Value| document.as_array().unwrap().len();
    let (versions, tiers) = (number(json(world, &["policy", "list"])), number(json(world, &["tier", "show"])));
    let refused = format!("cellar_policy_refused_total{{reason=\"unknown-key\"}} {versions}");
    until_metric(admin_url, &refused).await;
    until_metric(admin_url, &format!("cellar_catalog_tiers_unfit {tiers}")).await;
    let log = world.cellctl.ok(&["logs", cell["name"].as_str().unwrap()]).unwrap();
    assert!(log.contains("a version of a policy may not decide here") && log.contains("unknown-key"), "{log}");
    // What it would not decide by is put into no catalog, and it is named.
    let version = VersionNumber::new(1, 9, 0);
    let signed = world.signed(&gcra(), version, build(8));
    let refused = world.admin.put_policy(&gcra(), version, &signed).await.unwrap_err().to_string();
    assert!(refused.contains(&format!("{name} of 2 cells: gcra 1.9.0 may not decide here")), "{refused}");
    // The other cell does not mind.
    let eu = cells.clone().find(|process| process["region"] == "eu").unwrap()["admin_url"].as_str().unwrap();
    until_metric(eu, "cellar_catalog_tiers_unfit 0").await;
}

/// Goal: a stack from before policies were signed is mended by its next start, and is told so by a cell that is
/// started before.
/// Method: what an earlier build has not is taken away from a stack of this one.
#[tokio::test]
async fn a_stack_of_an_earlier_build_is_mended_at_the_next_start() {
    let mut world = World::up(&["cell", "up"]);
    let url = state(&world)["directory_url"].as_str().unwrap().to_owned();
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    let stripped = "update catalog set document = ((document::jsonb) - 'signature')::text where kind = 'policy'";
    assert!(sqlx::query(stripped).execute(&pool).await.unwrap().rows_affected() > 0);
    pool.close().await;
    world.cellctl.ok(&["down"]).unwrap();
    for name in ["policy-key", "policy-keys"] {
        std::fs::remove_file(secret(&world, name)).unwrap();
    }
    let config = world.cellctl.stack().join("config/local-1/cell.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let lines: String =
        text.lines().filter(|line| !line.starts_with("policy_keys_file")).map(|l| format!("{l}\n")).collect();
    std::fs::write(&config, lines).unwrap();
    let cell = world.cellctl.program().with_file_name("cellar-cell");
    let refused = std::process::Command::new(cell).arg("--config").arg(&config).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("`cellctl up` mends a local stack"), "{said}");

    world.cellctl.keep(&["cell", "up"]).unwrap();
    let listed = json(&world, &["policy", "list"]);
    let own = json(&world, &["policy", "keys", "list"])[0]["id"].clone();
    assert!(listed.as_array().unwrap().iter().all(|policy| policy["key"] == own), "{listed}");
    world.user("me@example.org", "free").await;
}
