//! The follower before a shelf of documents, with a disk of its own.

mod artifacts;
mod signed;
mod unread;
mod way_back;

use super::*;
use cellar_artifacts::SigningKey;
use cellar_directory::{CatalogKind, CatalogRow, CellBeat, DirectoryError, PolicyFloor, Written};
use cellar_model::{KeyHash, KeyKind, KeyName, PolicyName, Scope, TierName, Topology, VersionNumber};
use cellar_policy_host::HostLimits;
use rand::SeedableRng;
use std::path::Path;

/// The catalog's rows and artifacts in memory. What is `away` cannot be read.
#[derive(Clone, Default)]
struct Shelf(Arc<Mutex<Documented>>);

#[derive(Default)]
struct Documented {
    rows: Vec<CatalogRow>,
    artifacts: HashMap<Digest, Vec<u8>>,
    rows_away: bool,
    artifacts_away: bool,
}

const AWAY: DirectoryError = DirectoryError::Undecided { what: "shelf", attempts: 1 };

impl Shelf {
    fn on<T>(&self, act: impl FnOnce(&mut Documented) -> T) -> T {
        act(&mut self.0.lock().unwrap())
    }

    async fn policy(&self, name: &str, version: &str, artifact: &[u8]) {
        self.signed(name, version, artifact, &signer()).await;
    }

    async fn signed(&self, name: &str, version: &str, artifact: &[u8], key: &SigningKey) {
        let (name, digest) = (PolicyName::new(name).unwrap(), Digest::of(artifact));
        let signature = key.sign(&name, version.parse().unwrap(), &digest, None);
        let entry = PolicyEntry::unsigned(name, version.to_owned(), digest);
        let entry = PolicyEntry { signature: Some(signature), ..entry };
        catalog::put_policy(self, &entry, artifact).await.unwrap();
    }

    async fn unsigned(&self, name: &str, version: &str, artifact: &[u8]) {
        let entry = PolicyEntry::unsigned(PolicyName::new(name).unwrap(), version.to_owned(), Digest::of(artifact));
        catalog::put_policy(self, &entry, artifact).await.unwrap();
    }

    /// Puts a floor there whatever it is: what a directory may come to that operators are not let into.
    async fn floor(&self, name: &str, version: VersionNumber) {
        let floor = PolicyFloor { name: PolicyName::new(name).unwrap(), version };
        let document = serde_json::to_string(&floor).unwrap();
        let row = CatalogRow {
            kind: CatalogKind::PolicyFloor,
            name: name.to_owned(),
            revision: Revision(1),
            digest: Digest::of(document.as_bytes()),
            document,
            signature: None,
        };
        let _ = self.create_catalog_row(&row).await.unwrap();
    }

    /// A new revision of a tier of one policy. Another limit each time: the same document is no revision.
    async fn tier(&self, name: &str, policy: &str) {
        let revision = self.catalog_row(CatalogKind::Tier, name).await.unwrap().map(|row| row.revision);
        let text = format!(
            "name = {name:?}\n[[policy]]\nslot = \"rate\"\nuse = {policy:?}\nunit = \"requests\"\n\
             settings = {{ limit = {}, period_s = 60 }}\n",
            6 + revision.unwrap_or_default().0
        );
        catalog::put_tier(self, &TierDocument::from_toml(&text).unwrap(), revision).await.unwrap();
    }

    async fn key(&self, revoked: bool) {
        let key = KeyDocument {
            name: KeyName::new("app").unwrap(),
            kind: KeyKind::Service,
            hash: KeyHash([7; 32]),
            scopes: vec![Scope::Quota],
            auto_enrol: None,
            previous: None,
            revoked,
        };
        catalog::put_key(self, &key).await.unwrap();
    }
}

impl Documents for Shelf {
    async fn catalog_rows(&self) -> Result<Vec<CatalogRow>, DirectoryError> {
        self.on(|held| if held.rows_away { Err(AWAY) } else { Ok(held.rows.clone()) })
    }

    async fn catalog_row(&self, kind: CatalogKind, name: &str) -> Result<Option<CatalogRow>, DirectoryError> {
        Ok(self.on(|held| held.rows.iter().find(|row| row.kind == kind && row.name == name).cloned()))
    }

    async fn create_catalog_row(&self, row: &CatalogRow) -> Result<Written<CatalogRow>, DirectoryError> {
        self.on(|held| {
            held.rows.retain(|held| (held.kind, &held.name) != (row.kind, &row.name));
            held.rows.push(row.clone());
        });
        Ok(Written::Applied)
    }

    async fn artifact(&self, digest: &Digest) -> Result<Option<Vec<u8>>, DirectoryError> {
        self.on(|held| if held.artifacts_away { Err(AWAY) } else { Ok(held.artifacts.get(digest).cloned()) })
    }

    async fn put_artifact(&self, digest: &Digest, artifact: &[u8]) -> Result<(), DirectoryError> {
        self.on(|held| held.artifacts.insert(*digest, artifact.to_owned()));
        Ok(())
    }

    async fn catalog_revision(
        &self,
        _: CatalogKind,
        _: &str,
        _: Revision,
    ) -> Result<Option<CatalogRow>, DirectoryError> {
        Err(AWAY)
    }

    async fn read_topology(&self) -> Result<Option<Topology>, DirectoryError> {
        Err(AWAY)
    }

    async fn put_topology(&self, _: &Topology, _: Option<Revision>) -> Result<Written<Topology>, DirectoryError> {
        Err(AWAY)
    }

    async fn put_cell(&self, _: &CellBeat) -> Result<(), DirectoryError> {
        Err(AWAY)
    }

    async fn cells(&self) -> Result<Vec<CellBeat>, DirectoryError> {
        Err(AWAY)
    }
}

/// A component by its header, and no policy.
const JUNK: &[u8] = b"\0asm\x0d\0\x01\0 and no more";

/// The built-in component, where `make policies` puts it.
fn gcra() -> Vec<u8> {
    let running = std::env::current_exe().unwrap();
    let found = running.ancestors().map(|folder| folder.join("policies/gcra.wasm")).find(|path| path.is_file());
    std::fs::read(found.expect("run `make policies` first")).unwrap()
}

/// The same key each time.
fn signer() -> SigningKey {
    SigningKey::generate(&mut rand::rngs::StdRng::seed_from_u64(1))
}

fn stranger() -> SigningKey {
    SigningKey::generate(&mut rand::rngs::StdRng::seed_from_u64(2))
}

/// One that trusts the signer, by a file of keys in its folder.
fn follower(shelf: &Shelf, folder: &Path) -> Arc<CatalogFollower<Shelf>> {
    trusting(shelf, folder, &format!("signer {} *\n", signer().public()))
}

fn trusting(shelf: &Shelf, folder: &Path, keys: &str) -> Arc<CatalogFollower<Shelf>> {
    let file = folder.join("policy-keys");
    std::fs::write(&file, keys).unwrap();
    let signatures = Signatures::Required { trust: read_trust(&file).unwrap(), file };
    let (host, cell) = (Host::new(HostLimits::default()).unwrap(), CellName::new("eu-1").unwrap());
    CatalogFollower::new(shelf.clone(), host, cell, folder.to_owned(), signatures)
}

/// The revision of a tier in force.
fn in_force(follower: &CatalogFollower<Shelf>, tier: &str) -> Option<u64> {
    follower.tiers.borrow().get(&TierName::new(tier).unwrap()).map(|tier| tier.revision.0)
}

/// Goal: one artifact that cannot be loaded holds up no key, and no tier but those that name it.
#[tokio::test]
async fn beside_a_bad_artifact_keys_are_revoked_and_tiers_come() {
    let (shelf, folder) = (Shelf::default(), tempfile::tempdir().unwrap());
    shelf.policy("gcra", "1.0.0", &gcra()).await;
    shelf.tier("free", "gcra@1").await;
    shelf.key(false).await;
    let follower = follower(&shelf, folder.path());
    follower.poll().await.unwrap();
    assert_eq!((in_force(&follower, "free"), in_force(&follower, "pro")), (Some(1), None));
    assert!(!follower.keys.borrow()[0].revoked);

    shelf.policy("broken", "1.0.0", JUNK).await;
    shelf.tier("free", "broken@1").await;
    shelf.tier("pro", "gcra@1").await;
    shelf.key(true).await;
    follower.poll().await.unwrap();
    assert!(follower.keys.borrow()[0].revoked);
    assert_eq!((in_force(&follower, "free"), in_force(&follower, "pro")), (Some(1), Some(1)));
    // Nor does it hold up what comes later.
    shelf.tier("free", "gcra@1").await;
    follower.poll().await.unwrap();
    assert_eq!(in_force(&follower, "free"), Some(3));
}

#[tokio::test]
async fn beside_a_bad_version_its_major_means_the_newest_good_one() {
    let (shelf, folder) = (Shelf::default(), tempfile::tempdir().unwrap());
    shelf.policy("gcra", "1.0.0", &gcra()).await;
    shelf.policy("gcra", "1.1.0", JUNK).await;
    shelf.tier("free", "gcra@1").await;
    let follower = follower(&shelf, folder.path());
    follower.poll().await.unwrap();
    assert_eq!(in_force(&follower, "free"), Some(1));
}

#[tokio::test]
async fn an_artifact_that_cannot_be_had_yet_is_tried_again() {
    let (shelf, folder) = (Shelf::default(), tempfile::tempdir().unwrap());
    shelf.policy("gcra", "1.0.0", &gcra()).await;
    shelf.tier("free", "gcra@1").await;
    shelf.on(|held| held.artifacts_away = true);
    let follower = follower(&shelf, folder.path());
    follower.poll().await.unwrap();
    assert_eq!(in_force(&follower, "free"), None);
    shelf.on(|held| held.artifacts_away = false);
    follower.poll().await.unwrap();
    assert_eq!(in_force(&follower, "free"), Some(1));
}

/// Goal: a catalog that is in force and not on disk gets there once the disk takes it.
#[tokio::test]
async fn a_catalog_that_failed_to_reach_the_disk_is_written_later() {
    let (shelf, folder) = (Shelf::default(), tempfile::tempdir().unwrap());
    shelf.policy("gcra", "1.0.0", &gcra()).await;
    shelf.tier("free", "gcra@1").await;
    let follower = follower(&shelf, folder.path());
    // No file can take the place of a folder.
    let in_the_way = folder.path().join("catalog.json");
    std::fs::create_dir(&in_the_way).unwrap();
    follower.poll().await.unwrap();
    assert!(follower.save().await.is_err());
    assert_eq!(in_force(&follower, "free"), Some(1));
    std::fs::remove_dir(&in_the_way).unwrap();
    follower.poll().await.unwrap();
    follower.save().await.unwrap();

    shelf.on(|held| (held.rows_away, held.artifacts_away) = (true, true));
    let again = self::follower(&shelf, folder.path());
    again.start().await;
    assert_eq!(in_force(&again, "free"), Some(1));
}
