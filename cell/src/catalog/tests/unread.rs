//! Rows that this build cannot read, and artifacts that do not come: each costs what it stands for.

use super::signed::{decides, metrics, two_builds};
use super::*;

impl Shelf {
    /// A row as a newer build, or a slip, may have left it.
    async fn unread(&self, kind: CatalogKind, name: &str) {
        let revision = self.catalog_row(kind, name).await.unwrap().map(|row| row.revision);
        let (document, name) = (r#"{"of": "a newer build"}"#.to_owned(), name.to_owned());
        let (revision, digest) = (revision.unwrap_or_default().next(), Digest::of(document.as_bytes()));
        let row = CatalogRow { kind, name, revision, digest, document, signature: None };
        let _ = self.create_catalog_row(&row).await.unwrap();
    }
}

/// Goal: beside a row that cannot be read, of each kind, all others come: a key is revoked, a tier changes.
#[tokio::test]
async fn a_row_that_cannot_be_read_holds_up_no_other() {
    let (shelf, folder) = (Shelf::default(), tempfile::tempdir().unwrap());
    shelf.policy("gcra", "1.0.0", &gcra()).await;
    shelf.tier("free", "gcra@1").await;
    shelf.tier("pro", "gcra@1").await;
    shelf.key(false).await;
    let follower = follower(&shelf, folder.path());
    follower.poll().await.unwrap();
    assert!(metrics(&follower).contains("cellar_catalog_rows_unread 0"));

    let rows = [
        (CatalogKind::Tier, "pro"),
        (CatalogKind::Policy, "other@1.0.0"),
        (CatalogKind::PolicyFloor, "other"),
        (CatalogKind::Key, "another"),
    ];
    for (kind, name) in rows {
        shelf.unread(kind, name).await;
    }
    shelf.tier("free", "gcra@1").await;
    shelf.key(true).await;
    follower.poll().await.unwrap();
    assert!(follower.keys.borrow()[0].revoked && follower.keys.borrow().len() == 1);
    // The tier whose row cannot be read goes on as it was.
    assert_eq!((in_force(&follower, "free"), in_force(&follower, "pro")), (Some(2), Some(1)));
    let counted = metrics(&follower);
    assert!(counted.contains("cellar_catalog_rows_unread 4") && counted.contains("cellar_catalog_tiers_unfit 1"));
    let catalog = catalog::read(&shelf).await.unwrap();
    assert_eq!(catalog.revision_of(&TierName::new("pro").unwrap()), Some(Revision(2)), "so that it can be replaced");

    shelf.tier("pro", "gcra@1").await;
    follower.poll().await.unwrap();
    assert_eq!(in_force(&follower, "pro"), Some(3));
    // A process that starts now has nothing of before.
    shelf.unread(CatalogKind::Tier, "pro").await;
    let again = self::follower(&shelf, tempfile::tempdir().unwrap().path());
    again.poll().await.unwrap();
    assert_eq!((in_force(&again, "free"), in_force(&again, "pro")), (Some(2), None));
}

/// Goal: a newer version that is there and cannot be had is not stood in for by an older one, which may not read what
/// the newer one has written: who decides goes on, who has just started waits.
#[tokio::test]
async fn no_older_version_stands_in_for_one_that_cannot_be_had() {
    let (shelf, folder, [old, newer]) = (Shelf::default(), tempfile::tempdir().unwrap(), two_builds());
    shelf.policy("gcra", "1.0.0", &old).await;
    shelf.tier("free", "gcra@1").await;
    let running = follower(&shelf, folder.path());
    running.poll().await.unwrap();
    shelf.policy("gcra", "1.1.0", &newer).await;
    let component = shelf.on(|held| held.artifacts.remove(&Digest::of(&newer)));
    running.poll().await.unwrap();
    let started = follower(&shelf, tempfile::tempdir().unwrap().path());
    started.poll().await.unwrap();
    assert_eq!((decides(&running, "free"), decides(&started, "free")), (Some(Digest::of(&old)), None));

    shelf.on(|held| held.artifacts.insert(Digest::of(&newer), component.unwrap()));
    for follower in [&running, &started] {
        follower.poll().await.unwrap();
        assert_eq!(decides(follower, "free"), Some(Digest::of(&newer)));
    }
    // The same of a row: this build knows that there is a newer version, and not what it is.
    shelf.unread(CatalogKind::Policy, "gcra@1.2.0").await;
    running.poll().await.unwrap();
    let started = follower(&shelf, tempfile::tempdir().unwrap().path());
    started.poll().await.unwrap();
    assert_eq!((decides(&running, "free"), decides(&started, "free")), (Some(Digest::of(&newer)), None));
    // Of another major it is nobody's matter.
    shelf.on(|held| held.rows.retain(|row| row.name != "gcra@1.2.0"));
    shelf.unread(CatalogKind::Policy, "gcra@2.0.0").await;
    started.poll().await.unwrap();
    assert_eq!(decides(&started, "free"), Some(Digest::of(&newer)));
}

/// Goal: a floor that cannot be read lets nothing through that it may have been raised against.
#[tokio::test]
async fn of_a_policy_whose_floor_cannot_be_read_nothing_new_decides() {
    let (shelf, folder) = (Shelf::default(), tempfile::tempdir().unwrap());
    shelf.policy("gcra", "1.0.0", &gcra()).await;
    shelf.tier("free", "gcra@1").await;
    let remembers = follower(&shelf, folder.path());
    shelf.floor("gcra", VersionNumber::new(1, 0, 0)).await;
    remembers.poll().await.unwrap();
    shelf.unread(CatalogKind::PolicyFloor, "gcra").await;
    shelf.tier("free", "gcra@1").await;
    remembers.poll().await.unwrap();
    assert_eq!(in_force(&remembers, "free"), Some(2), "the floor that it remembers counts");
    let started = follower(&shelf, tempfile::tempdir().unwrap().path());
    started.poll().await.unwrap();
    assert_eq!(in_force(&started, "free"), None);
    assert!(metrics(&started).contains("cellar_policy_refused_total{reason=\"floor-unread\"} 1"));
    shelf.floor("gcra", VersionNumber::new(1, 0, 0)).await;
    started.poll().await.unwrap();
    assert_eq!(in_force(&started, "free"), Some(2));
}
