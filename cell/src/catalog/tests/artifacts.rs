//! What is kept of versions.

use super::super::artifacts;
use super::signed::{decides, two_builds};
use super::*;

fn compiled(follower: &CatalogFollower<Shelf>) -> usize {
    follower.held().policies.values().flatten().count()
}

fn on_disk(folder: &Path) -> Vec<String> {
    let files = std::fs::read_dir(folder.join("artifacts")).unwrap();
    files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
}

/// Goal: however many versions a catalog has, a cell compiles and keeps those that its tiers mean, and a start without
/// the directory has all of these.
#[tokio::test]
async fn a_version_that_no_tier_means_is_neither_compiled_nor_kept() {
    let (shelf, folder, [old, newer]) = (Shelf::default(), tempfile::tempdir().unwrap(), two_builds());
    shelf.policy("gcra", "1.0.0", &old).await;
    shelf.policy("other", "1.0.0", JUNK).await;
    shelf.tier("free", "gcra@1").await;
    let follower = follower(&shelf, folder.path());
    follower.poll().await.unwrap();
    follower.save().await.unwrap();
    assert_eq!((compiled(&follower), on_disk(folder.path()).len()), (1, 1), "nobody means the other one");

    shelf.policy("gcra", "1.1.0", &newer).await;
    follower.poll().await.unwrap();
    follower.save().await.unwrap();
    assert_eq!(decides(&follower, "free"), Some(Digest::of(&newer)));
    assert_eq!((compiled(&follower), on_disk(folder.path())), (1, vec![artifacts::file_of(&Digest::of(&newer))]));

    // Another tier can still be had by the older one, and a candidate's are kept like any other.
    let pinned = format!("gcra@{}", Digest::of(&old));
    shelf.tier("pinned", &pinned).await;
    follower.poll().await.unwrap();
    follower.save().await.unwrap();
    assert_eq!((compiled(&follower), on_disk(folder.path()).len()), (2, 2));

    shelf.on(|held| (held.rows_away, held.artifacts_away) = (true, true));
    let again = self::follower(&shelf, folder.path());
    again.start().await;
    assert_eq!((in_force(&again, "free"), in_force(&again, "pinned")), (Some(1), Some(1)));
}

/// Goal: what an operator tries is compiled for that, and nothing of it is in the way afterwards.
#[tokio::test]
async fn a_tier_that_is_only_asked_about_leaves_nothing_among_what_decides() {
    let (shelf, folder, [good, newer]) = (Shelf::default(), tempfile::tempdir().unwrap(), two_builds());
    shelf.policy("gcra", "1.0.0", &good).await;
    shelf.policy("gcra", "2.0.0", &newer).await;
    shelf.tier("free", "gcra@1").await;
    let follower = follower(&shelf, folder.path());
    follower.poll().await.unwrap();
    let text = |policy: &str| {
        format!(
            "name = \"pro\"\n[[policy]]\nslot = \"rate\"\nuse = \"{policy}\"\nunit = \"requests\"\n\
             settings = {{ limit = 5, period_s = 60 }}\n"
        )
    };
    follower.check(&TierDocument::from_toml(&text("gcra@2")).unwrap()).await.unwrap();
    assert!(follower.check(&TierDocument::from_toml(&text("gcra@3")).unwrap()).await.is_err());
    assert_eq!(compiled(&follower), 1);
}
