//! Versions that are published under a major which tiers name.

#[path = "../../../../tests/policies/spender.rs"]
mod spender;

use super::*;
use bytes::Bytes;
use spender::Spender;

const SECOND: Spender = Spender { version: "1.1.0", schema: 2, ..Spender::ONE };

impl Shelf {
    async fn spender(&self, spender: Spender) {
        self.policy(Spender::NAME, spender.version, &spender.component()).await;
    }
}

/// What speaks against `spender`, as the door asks it.
async fn against(follower: &CatalogFollower<Shelf>, spender: Spender, way_back: WayBack) -> Vec<SettingProblem> {
    let artifact = Bytes::from(spender.component());
    let name = PolicyName::new(Spender::NAME).unwrap();
    let entry = PolicyEntry::unsigned(name, spender.version.to_owned(), Digest::of(&artifact));
    let policy = follower.gate(&artifact).await.unwrap();
    follower.check_version(&entry, &policy, way_back).await.err().unwrap_or_default()
}

async fn decided_by(first: Spender, tier: &str) -> (Arc<CatalogFollower<Shelf>>, Shelf, tempfile::TempDir) {
    let (shelf, folder) = (Shelf::default(), tempfile::tempdir().unwrap());
    shelf.spender(first).await;
    shelf.tier("free", tier).await;
    let follower = follower(&shelf, folder.path());
    follower.poll().await.unwrap();
    assert_eq!(in_force(&follower, "free"), Some(1));
    (follower, shelf, folder)
}

#[tokio::test]
async fn a_version_that_tiers_could_not_come_back_from_is_refused_unless_that_is_waived() {
    let deaf = Spender { migrates: false, ..Spender::ONE };
    let (follower, ..) = decided_by(deaf, "spender@1").await;
    let problems = against(&follower, SECOND, WayBack::Needed).await;
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].pointer, "/tier/free/policy/0/use");
    let said = "spender 1.0.0 cannot read the states of spender 1.1.0, so the change could not be undone";
    assert!(problems[0].message.starts_with(said), "{problems:?}");
    assert!(against(&follower, SECOND, WayBack::Waived).await.is_empty());
    // The same bytes again, and a version of a major that no tier names, change nobody's.
    assert!(against(&follower, deaf, WayBack::Needed).await.is_empty());
    assert!(against(&follower, Spender { version: "2.0.0", ..SECOND }, WayBack::Needed).await.is_empty());
}

#[tokio::test]
async fn a_version_whose_predecessor_reads_its_states_is_let_in() {
    let (follower, ..) = decided_by(Spender::ONE, "spender@1").await;
    assert!(against(&follower, SECOND, WayBack::Needed).await.is_empty());
    let forgets = Spender { carries: false, ..SECOND };
    let problems = against(&follower, forgets, WayBack::Needed).await;
    assert!(problems[0].message.contains("would forget or invent spend"), "{problems:?}");
}

/// An older version than that in force decides nothing, and a pinned tier follows nobody.
#[tokio::test]
async fn only_tiers_that_would_decide_by_it_are_asked() {
    let deaf = Spender { migrates: false, version: "1.5.0", ..Spender::ONE };
    let (follower, ..) = decided_by(deaf, "spender@1").await;
    assert!(against(&follower, SECOND, WayBack::Needed).await.is_empty());
    let pinned = format!("spender@{}", Digest::of(&deaf.component()));
    let (follower, ..) = decided_by(deaf, &pinned).await;
    assert!(against(&follower, Spender { version: "1.6.0", ..SECOND }, WayBack::Needed).await.is_empty());
}
