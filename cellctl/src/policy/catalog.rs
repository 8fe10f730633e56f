//! `policy list`: the versions that a Cellar has, and which tiers decide by them.

use crate::stack::Target;
use anyhow::ensure;
use cellar_client::{PolicyFloor, PolicyVersion};
use cellar_model::{Pin, PolicyName, RevisedTier};
use std::path::Path;

pub(super) async fn list(folder: &Path, name: Option<&PolicyName>, json: bool) -> anyhow::Result<()> {
    let admin = Target::find(folder)?.admin;
    let (mut policies, tiers, floors) = (admin.policies().await?, admin.tiers().await?, admin.policy_floors().await?);
    policies.retain(|policy| name.is_none_or(|name| policy.name == *name));
    ensure!(name.is_none() || !policies.is_empty(), "there is no policy {}", name.map_or("", PolicyName::as_str));
    policies.sort_by_key(|policy| (policy.name.clone(), numbers(&policy.version)));
    let listed: Vec<serde_json::Value> = policies
        .iter()
        .map(|policy| {
            let used = used_by(policy, &policies, &tiers, &floors);
            serde_json::json!({
                "name": policy.name, "version": policy.version, "digest": policy.digest, "used_by": used,
                "key": policy.signature.as_ref().map(|signature| signature.key.id()),
            })
        })
        .collect();
    if json {
        println!("{}", serde_json::to_string_pretty(&listed)?);
        return Ok(());
    }
    for policy in &policies {
        let used = match below_floor(policy, &floors) {
            true => "below the floor".to_owned(),
            false => used_by(policy, &policies, &tiers, &floors).join(", "),
        };
        let key = policy.signature.as_ref().map(|signature| signature.key.id().to_string());
        println!(
            "{:<24} {:<10} {:<19}…  {:<16}  {used}",
            policy.name.as_str(),
            policy.version,
            &policy.digest[..19.min(policy.digest.len())],
            key.as_deref().unwrap_or("not signed"),
        );
    }
    Ok(())
}

pub(super) fn below_floor(policy: &PolicyVersion, floors: &[PolicyFloor]) -> bool {
    let floor = floors.iter().find(|floor| floor.name == policy.name);
    floor.is_some_and(|floor| numbers(&policy.version) < numbers(&floor.version.to_string()))
}

/// The slots that decide by this very version: by its digest, or by its major while it is the newest of that. Whom
/// cells trust is not known here: one that they refuse is shown with the slots that it would have.
pub(super) fn used_by(
    policy: &PolicyVersion,
    all: &[PolicyVersion],
    tiers: &[RevisedTier],
    floors: &[PolicyFloor],
) -> Vec<String> {
    if below_floor(policy, floors) {
        return Vec::new();
    }
    let own = numbers(&policy.version);
    let newest = !all.iter().any(|other| {
        let version = numbers(&other.version);
        other.name == policy.name && version[0] == own[0] && version > own
    });
    let mut used = Vec::new();
    for tier in tiers {
        let document = &tier.document;
        let candidate = document.rollout.iter().flat_map(|rollout| &rollout.policies).map(|slot| ("candidate ", slot));
        let slots = document.policies.iter().map(|slot| ("", slot)).chain(candidate);
        for (variant, asked) in slots.filter(|(_, asked)| asked.policy.name == policy.name) {
            let this = match &asked.policy.pin {
                Pin::Major(major) => newest && *major == own[0],
                Pin::Digest(digest) => policy.digest == format!("sha256:{}", hex::encode(digest)),
            };
            if this {
                used.push(format!("{}/{variant}{}", document.name, asked.slot));
            }
        }
    }
    used
}

/// A version's three numbers; what is none counts as 0, as cells have it.
pub(super) fn numbers(version: &str) -> [u64; 3] {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}
