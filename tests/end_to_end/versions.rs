//! Versions that come into force without anybody applying a tier, and rows that cannot be read.

use crate::spender::Spender;
use crate::support::{World, tokens};
use cellar_model::{PolicyName, PolicyUpload, VersionNumber};
use std::time::Duration;
use tokio::time::Instant;

const WAIT_MAX: Duration = Duration::from_secs(30);
const TIER: &str = "name = \"metered\"\n[[policy]]\nslot = \"monthly\"\nuse = \"spender@1\"\nunit = \"tokens\"\n\
                    settings = { limit = 1000 }\n";

fn spender() -> PolicyName {
    PolicyName::new(Spender::NAME).unwrap()
}

fn upload(world: &World, spender: Spender) -> (VersionNumber, PolicyUpload) {
    let version = spender.version.parse().unwrap();
    (version, world.signed(&self::spender(), version, spender.component()))
}

/// Waits until every cell's metrics have a line that begins so.
async fn until_metric(world: &World, line: &str) {
    let stack = cellar_devstack::Stack::open(world.cellctl.stack()).unwrap();
    let cells = stack.state().processes.iter().filter(|process| process.role.label() == "cell");
    for cell in cells {
        let url = format!("{}/metrics", cell.admin_url.as_deref().unwrap());
        let until = Instant::now() + WAIT_MAX;
        loop {
            let text = reqwest::get(&url).await.unwrap().text().await.unwrap();
            if text.lines().any(|held| held.starts_with(line)) {
                break;
            }
            assert!(Instant::now() < until, "{} has no {line}", cell.name);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Goal: a version whose states the one in force cannot read is refused where it is published, by a router and by a
/// public cell, with the tier's place; unless it is said that nobody goes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_tiers_could_not_come_back_from_is_refused_at_the_door() {
    for world in [World::cell(), World::two_regions()] {
        let first = Spender { migrates: false, ..Spender::ONE };
        let (version, signed) = upload(&world, first);
        world.admin.put_policy(&spender(), version, &signed).await.unwrap();
        world.tier(TIER).await;
        let user = world.user("me@example.org", "metered").await;
        world.client.consume(&tokens(&user, 7, None)).await.unwrap();

        let (version, signed) = upload(&world, Spender { version: "1.1.0", ..Spender::TWO });
        let refused = world.admin.put_policy(&spender(), version, &signed).await.unwrap_err();
        let said = refused.to_string();
        assert_eq!(refused.status(), Some(422), "{said}");
        // One cell may not have the tier yet, and does not mind; then the others are named.
        let expected = "spender 1.0.0 cannot read the states of spender 1.1.0";
        assert!(said.contains("/tier/metered/policy/0/use: ") && said.contains(expected), "{said}");
        let there = world.admin.policies().await.unwrap();
        assert!(
            there.iter().all(|one| one.name != spender() || one.version != "1.1.0"),
            "nothing of it is in the catalog"
        );

        let file = world.cellctl.folder().join("second.wasm");
        std::fs::write(&file, &signed.artifact.0).unwrap();
        let file = file.to_str().unwrap();
        world.cellctl.ok(&["policy", "sign", "--component", file]).unwrap();
        let publish = ["policy", "publish", "--component", file];
        let output = world.cellctl.run(&publish).unwrap();
        assert!(String::from_utf8_lossy(&output.stderr).contains(expected), "{output:?}");
        world.cellctl.ok(&[&publish[..], &["--without-way-back"]].concat()).unwrap();
        // Its histogram stands from the moment that it is in force, and what was spent is there.
        until_metric(&world, "cellar_policy_fuel_count{policy=\"spender\",version=\"1.1.0\",").await;
        world.client.consume(&tokens(&user, 1, None)).await.unwrap();
        assert_eq!(world.books(cell_of(&world), &user, "tokens").await, (8, 8, 8));
    }
}

fn cell_of(world: &World) -> Option<&'static str> {
    (world.urls.len() > 1).then_some("eu-1")
}

/// Goal: a row that no program of this build can read costs its tier a change, and nothing else; and it can be replaced.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_cannot_be_read_costs_itself_and_is_replaced_like_any() {
    let world = World::two_regions();
    world.bucket_tier("metered", 1_000).await;
    let user = world.user("me@example.org", "metered").await;
    let state = std::fs::read(world.cellctl.stack().join("state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_slice(&state).unwrap();
    let pool = sqlx::PgPool::connect(state["directory_url"].as_str().unwrap()).await.unwrap();
    let broken = "update catalog set document = '{\"name\": 5}' where kind = 'tier' and name = 'metered'";
    assert!(sqlx::query(broken).execute(&pool).await.unwrap().rows_affected() > 0);
    pool.close().await;
    until_metric(&world, "cellar_catalog_rows_unread 1").await;
    world.client.consume(&tokens(&user, 7, None)).await.unwrap();
    world.bucket_tier("another", 10).await;

    let file = world.cellctl.folder().join("metered.toml");
    std::fs::write(&file, TIER.replace("spender@1", "monthly-bucket@1")).unwrap();
    world.cellctl.ok(&["tier", "apply", file.to_str().unwrap(), "--yes"]).unwrap();
    until_metric(&world, "cellar_catalog_rows_unread 0").await;
    assert_eq!(world.books(cell_of(&world), &user, "tokens").await, (7, 7, 7));
}
