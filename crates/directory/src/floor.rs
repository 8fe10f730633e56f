//! Floors: of each policy the version below which none decides, so that a fault which was mended stays so.

use crate::catalog::{self, Catalog, Put};
use crate::{CatalogKind, DirectoryError, Documents};
use cellar_model::{Pin, PolicyName, PolicyRef, Problem, ProblemType, VersionNumber};
use serde::{Deserialize, Serialize};

/// Attempts to raise one before it counts as undecided: each reads the one that came in between.
const ATTEMPTS_MAX: u32 = 3;

/// A document of the catalog. **Invariant:** its version never goes down: `raise` writes no lower one, and whoever
/// follows a catalog remembers the highest that he has seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyFloor {
    pub name: PolicyName,
    pub version: VersionNumber,
}

/// What raising a floor came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Raised {
    Done,
    /// It is higher already.
    Higher(VersionNumber),
    /// These slots would have no version left.
    Strands(Vec<String>),
    /// These tiers cannot be read by this build, so nobody could say whom it strands.
    Unread(Vec<String>),
}

impl Raised {
    /// What to tell who asked for it, unless it was done.
    pub fn problem(&self, floor: &PolicyFloor) -> Option<Problem> {
        let PolicyFloor { name, version } = floor;
        match self {
            Raised::Done => None,
            Raised::Higher(held) => {
                let detail = format!("the floor of {name} is {held} already, and a floor never goes down");
                Some(Problem::new(ProblemType::Conflict).detail(detail))
            }
            Raised::Unread(tiers) => {
                let detail = format!("these tiers cannot be read here and may name {name}: {}", tiers.join(", "));
                Some(Problem::new(ProblemType::Conflict).detail(detail))
            }
            Raised::Strands(slots) => {
                let slots = slots.join(", ");
                let detail = format!(
                    "from {version} on there is nothing to decide by for {slots}: publish a version first, or put \
                     tiers in force that name another"
                );
                Some(Problem::new(ProblemType::Invalid).detail(detail))
            }
        }
    }
}

/// Raises a policy's floor, or leaves it where it is. A tier that comes into force at the same moment is not seen:
/// cells keep its predecessor, and say so.
pub async fn raise(directory: &impl Documents, floor: &PolicyFloor) -> Result<Raised, DirectoryError> {
    let catalog = catalog::read(directory).await?;
    let unread = catalog.unread.iter().filter(|row| row.kind == CatalogKind::Tier);
    let unread: Vec<String> = unread.map(|row| row.name.clone()).collect();
    if !unread.is_empty() {
        return Ok(Raised::Unread(unread));
    }
    let slots = stranded(&catalog, floor);
    if !slots.is_empty() {
        return Ok(Raised::Strands(slots));
    }
    let name = floor.name.as_str();
    for _ in 0..ATTEMPTS_MAX {
        let newest = directory.catalog_row(CatalogKind::PolicyFloor, name).await?;
        let held: Option<PolicyFloor> = newest.as_ref().map(|row| catalog::parse("policy floor", row)).transpose()?;
        if let Some(held) = held.filter(|held| held.version > floor.version) {
            return Ok(Raised::Higher(held.version));
        }
        let expected = newest.map(|row| row.revision);
        if let Put::Done(_) = catalog::put(directory, CatalogKind::PolicyFloor, name, floor, expected).await? {
            return Ok(Raised::Done);
        }
    }
    Err(DirectoryError::Undecided { what: "policy floor", attempts: ATTEMPTS_MAX })
}

/// The slots that this floor would leave without a version to decide by: `pro/monthly (gcra@1)`.
pub fn stranded(catalog: &Catalog, floor: &PolicyFloor) -> Vec<String> {
    let stays = |policy: &PolicyRef| {
        let mut named = catalog.policies.iter().filter(|entry| entry.name == policy.name);
        named.any(|entry| {
            let version: Option<VersionNumber> = entry.version.parse().ok();
            version.is_some_and(|version| {
                let is_meant = match &policy.pin {
                    Pin::Major(major) => u64::from(version.major()) == *major,
                    Pin::Digest(digest) => entry.digest.0 == *digest,
                };
                is_meant && version >= floor.version
            })
        })
    };
    let mut without = Vec::new();
    for tier in &catalog.tiers {
        let document = &tier.document;
        let candidate = document.rollout.iter().flat_map(|rollout| &rollout.policies);
        let slots = document.policies.iter().map(|slot| ("", slot)).chain(candidate.map(|slot| ("candidate ", slot)));
        for (variant, asked) in slots.filter(|(_, asked)| asked.policy.name == floor.name) {
            if !stays(&asked.policy) {
                without.push(format!("{}/{variant}{} ({})", document.name, asked.slot, asked.policy));
            }
        }
    }
    without
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PolicyEntry;
    use cellar_model::{Digest, RevisedTier, Revision, TierDocument};

    fn tier(name: &str, policy: &str) -> RevisedTier {
        let text = format!("name = {name:?}\n[[policy]]\nslot = \"rate\"\nuse = {policy:?}\nunit = \"requests\"\n");
        RevisedTier { revision: Revision(1), document: TierDocument::from_toml(&text).unwrap() }
    }

    #[test]
    fn a_floor_strands_the_slots_whose_versions_are_all_below_it() {
        let entry = |version: &str| {
            let digest = Digest::of(version.as_bytes());
            PolicyEntry::unsigned(PolicyName::new("gcra").unwrap(), version.to_owned(), digest)
        };
        let old = Digest::of(b"1.0.0");
        let catalog = Catalog {
            policies: ["1.0.0", "1.2.0", "2.0.0"].map(entry).to_vec(),
            tiers: vec![
                tier("free", "gcra@1"),
                tier("pro", &format!("gcra@{old}")),
                tier("two", "gcra@2"),
                tier("other", "night@1"),
            ],
            ..Catalog::default()
        };
        let stranded = |version: VersionNumber| {
            super::stranded(&catalog, &PolicyFloor { name: PolicyName::new("gcra").unwrap(), version })
        };
        assert!(stranded(VersionNumber::new(1, 0, 0)).is_empty());
        let pinned = format!("pro/rate (gcra@{old})");
        assert_eq!(stranded(VersionNumber::new(1, 2, 0)), std::slice::from_ref(&pinned));
        assert_eq!(stranded(VersionNumber::new(1, 2, 1)), ["free/rate (gcra@1)".to_owned(), pinned]);
        assert_eq!(stranded(VersionNumber::new(2, 0, 1)).len(), 3);
    }

    /// A candidate that loses its policy takes its tier with it: neither could be made ready.
    #[test]
    fn a_candidates_slots_are_stranded_like_any() {
        let text = "name = \"free\"\n[[policy]]\nslot = \"rate\"\nuse = \"other@1\"\nunit = \"requests\"\n[rollout]\n\
                    percent = 1\n[[rollout.policy]]\nslot = \"rate\"\nuse = \"gcra@1\"\nunit = \"requests\"\n";
        let document = TierDocument::from_toml(text).unwrap();
        let name = PolicyName::new("gcra").unwrap();
        let entry = PolicyEntry::unsigned(name.clone(), "1.0.0".into(), Digest::of(b"1.0.0"));
        let tiers = vec![RevisedTier { revision: Revision(1), document }];
        let catalog = Catalog { policies: vec![entry], tiers, ..Catalog::default() };
        let floor = |patch| PolicyFloor { name: name.clone(), version: VersionNumber::new(1, 0, patch) };
        assert!(stranded(&catalog, &floor(0)).is_empty());
        assert_eq!(stranded(&catalog, &floor(1)), ["free/candidate rate (gcra@1)"]);
    }
}
