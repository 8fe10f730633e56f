//! What nobody trusted has signed, and what is below a floor.

use super::*;

/// By which version's artifact a tier decides.
pub(super) fn decides(follower: &CatalogFollower<Shelf>, tier: &str) -> Option<Digest> {
    let tiers = follower.tiers.borrow();
    let tier = tiers.get(&TierName::new(tier).unwrap())?;
    Some(Digest(tier.slots[0].policy.digest().0))
}

/// The built-in component, and the same with a section of its own that says nothing: other bytes that decide alike.
pub(super) fn two_builds() -> [Vec<u8>; 2] {
    let (first, mut second) = (gcra(), gcra());
    // A custom section: id 0, three bytes, a name of two of them.
    second.extend_from_slice(&[0, 3, 2, b'n', b'o']);
    [first, second]
}

/// Goal: what nobody trusted has signed decides nothing, is counted by its reason, and holds up nobody else.
#[tokio::test]
async fn an_unsigned_version_and_a_strangers_never_decide() {
    let (shelf, folder, [good, newer]) = (Shelf::default(), tempfile::tempdir().unwrap(), two_builds());
    shelf.policy("gcra", "1.0.0", &good).await;
    shelf.signed("gcra", "1.1.0", &newer, &stranger()).await;
    shelf.unsigned("gcra", "1.2.0", &newer).await;
    shelf.tier("free", "gcra@1").await;
    shelf.tier("pinned", &format!("gcra@{}", Digest::of(&newer))).await;
    let follower = follower(&shelf, folder.path());
    follower.poll().await.unwrap();
    assert_eq!(decides(&follower, "free"), Some(Digest::of(&good)));
    assert_eq!(in_force(&follower, "pinned"), None);
    let counted = metrics(&follower);
    for line in [
        "cellar_policy_refused_total{reason=\"unsigned\"} 1",
        "cellar_policy_refused_total{reason=\"unknown-key\"} 1",
        "cellar_policy_refused_total{reason=\"below-floor\"} 0",
        "cellar_policy_refused_total{reason=\"gate\"} 0",
        "cellar_catalog_tiers_unfit 1",
    ] {
        assert!(counted.contains(line), "{line}: {counted}");
    }
    // A tier that names one is refused where an operator hears of it, and a version before it is in the catalog.
    let text = format!(
        "name = \"pro\"\n[[policy]]\nslot = \"rate\"\nuse = \"gcra@{}\"\nunit = \"requests\"\n",
        Digest::of(&newer)
    );
    let problems = follower.check(&TierDocument::from_toml(&text).unwrap()).await.unwrap_err();
    assert_eq!(problems[0].pointer, "/policy/0/use");
    assert!(problems[0].message.contains("gcra 1.2.0 may not decide here: it is not signed"), "{problems:?}");
    let unsigned = PolicyEntry::unsigned(PolicyName::new("gcra").unwrap(), "1.3.0".into(), Digest::of(&good));
    assert!(follower.may_decide(&unsigned).await.is_err());
    // Another poll of the same finds nothing new to say.
    follower.poll().await.unwrap();
    assert_eq!(metrics(&follower), counted);
}

pub(super) fn metrics(follower: &CatalogFollower<Shelf>) -> String {
    let mut registry = prometheus_client::registry::Registry::default();
    follower.metrics().register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    text
}

#[tokio::test]
async fn a_key_is_trusted_and_not_any_more_without_a_restart() {
    let (shelf, folder, [good, newer]) = (Shelf::default(), tempfile::tempdir().unwrap(), two_builds());
    shelf.policy("gcra", "1.0.0", &good).await;
    shelf.signed("gcra", "1.1.0", &newer, &stranger()).await;
    shelf.tier("free", "gcra@1").await;
    let follower = follower(&shelf, folder.path());
    let (file, ours) = (folder.path().join("policy-keys"), format!("signer {} *\n", signer().public()));
    let trusts = async |text: &str| {
        std::fs::write(&file, text).unwrap();
        follower.poll().await.unwrap();
        decides(&follower, "free")
    };
    assert_eq!(trusts(&ours).await, Some(Digest::of(&good)));
    let both = format!("{ours}stranger {} gcra\n", stranger().public());
    assert_eq!(trusts(&both).await, Some(Digest::of(&newer)));
    // A file that cannot be read takes nobody's trust, and gives none.
    assert_eq!(trusts("nonsense").await, Some(Digest::of(&newer)));
    assert_eq!(trusts(&ours).await, Some(Digest::of(&good)));
    let elsewhere = format!("{ours}stranger {} acme-*\n", stranger().public());
    assert_eq!(trusts(&elsewhere).await, Some(Digest::of(&good)));
    // Without anybody a tier keeps what decides: users are not to pay for it, and the metric says so.
    assert_eq!(trusts("").await, Some(Digest::of(&good)));
    assert!(metrics(&follower).contains("cellar_catalog_tiers_unfit 1"));
}

/// Goal: below a floor that was ever seen nothing decides, by major or by digest, whatever an older catalog says.
#[tokio::test]
async fn no_older_catalog_lowers_a_floor() {
    let (shelf, folder, [old, newer]) = (Shelf::default(), tempfile::tempdir().unwrap(), two_builds());
    shelf.policy("gcra", "1.0.0", &old).await;
    shelf.policy("gcra", "1.1.0", &newer).await;
    shelf.tier("free", "gcra@1").await;
    let follower = follower(&shelf, folder.path());
    shelf.floor("gcra", VersionNumber::new(1, 1, 0)).await;
    follower.poll().await.unwrap();
    let pinned = TierDocument::from_toml(&format!(
        "name = \"pin\"\n[[policy]]\nslot = \"rate\"\nuse = \"gcra@{}\"\nunit = \"requests\"\n",
        Digest::of(&old)
    ));
    let problems = follower.check(&pinned.unwrap()).await.unwrap_err();
    assert!(problems[0].message.contains("below the floor of its policy, 1.1.0"), "{problems:?}");

    // A directory of before the floor and the newer version, before a process that has just started.
    shelf.on(|held| held.rows.retain(|row| row.kind == CatalogKind::Tier || row.name == "gcra@1.0.0"));
    let again = self::follower(&shelf, folder.path());
    again.poll().await.unwrap();
    assert_eq!(in_force(&again, "free"), None);
    assert!(again.why_no_tier().contains("1 versions of policies may not decide here"), "{}", again.why_no_tier());
    // And one that goes back on its word.
    shelf.floor("gcra", VersionNumber::new(1, 0, 0)).await;
    again.poll().await.unwrap();
    assert_eq!(in_force(&again, "free"), None);
    shelf.policy("gcra", "1.1.0", &newer).await;
    again.poll().await.unwrap();
    assert_eq!(decides(&again, "free"), Some(Digest::of(&newer)));
}

#[tokio::test]
async fn a_catalog_on_disk_is_judged_anew() {
    let (shelf, folder) = (Shelf::default(), tempfile::tempdir().unwrap());
    shelf.policy("gcra", "1.0.0", &gcra()).await;
    shelf.tier("free", "gcra@1").await;
    let follower = follower(&shelf, folder.path());
    follower.poll().await.unwrap();
    follower.save().await.unwrap();
    shelf.on(|held| (held.rows_away, held.artifacts_away) = (true, true));
    let distrusting = trusting(&shelf, folder.path(), "");
    distrusting.start().await;
    assert_eq!(in_force(&distrusting, "free"), None);
    let again = self::follower(&shelf, folder.path());
    again.start().await;
    assert_eq!(in_force(&again, "free"), Some(1));
}

/// Goal: where signatures are not looked at, a catalog of before they were serves as it did.
#[tokio::test]
async fn a_catalog_without_signatures_serves_where_none_are_asked_for() {
    let (shelf, folder) = (Shelf::default(), tempfile::tempdir().unwrap());
    shelf.on(|held| {
        let document = format!("{{\"name\":\"gcra\",\"version\":\"1.0.0\",\"digest\":\"{}\"}}", Digest::of(&gcra()));
        held.artifacts.insert(Digest::of(&gcra()), gcra());
        held.rows.push(CatalogRow {
            kind: CatalogKind::Policy,
            name: "gcra@1.0.0".into(),
            revision: Revision(1),
            digest: Digest::of(document.as_bytes()),
            document,
            signature: None,
        });
    });
    shelf.tier("free", "gcra@1").await;
    let (host, cell) = (Host::new(HostLimits::default()).unwrap(), CellName::new("eu-1").unwrap());
    let lax = CatalogFollower::new(shelf.clone(), host, cell, folder.path().join("lax"), Signatures::NotLookedAt);
    lax.poll().await.unwrap();
    assert_eq!(in_force(&lax, "free"), Some(1));
    let strict = follower(&shelf, folder.path());
    strict.poll().await.unwrap();
    assert_eq!(in_force(&strict, "free"), None);
    // Signed as it stands, it decides.
    shelf.policy("gcra", "1.0.0", &gcra()).await;
    strict.poll().await.unwrap();
    assert_eq!(in_force(&strict, "free"), Some(1));
}
