//! `policy show`, `policy floor`: what a Cellar has of one policy, and below which version none decides.

use super::catalog::{below_floor, numbers, used_by};
use super::sign::in_words;
use crate::stack::Target;
use anyhow::ensure;
use cellar_client::PolicyVersion;
use cellar_model::{PolicyName, VersionNumber};
use std::path::Path;

/// `gcra`, or `gcra@1.4.2`.
#[derive(Clone, Debug)]
pub(crate) struct Which {
    name: PolicyName,
    version: Option<VersionNumber>,
}

impl std::str::FromStr for Which {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, version) = text.split_once('@').map_or((text, None), |(name, version)| (name, Some(version)));
        let version =
            version.map(str::parse).transpose().map_err(|error: cellar_model::VersionNumberError| error.to_string())?;
        Ok(Self { name: name.parse().map_err(|error: cellar_model::NameError| error.to_string())?, version })
    }
}

pub(super) async fn show(folder: &Path, which: &Which, json: bool) -> anyhow::Result<()> {
    let admin = Target::find(folder)?.admin;
    let (policies, tiers, floors) = (admin.policies().await?, admin.tiers().await?, admin.policy_floors().await?);
    let is_meant = |policy: &&PolicyVersion| {
        policy.name == which.name && which.version.is_none_or(|version| policy.version == version.to_string())
    };
    let mut found: Vec<&PolicyVersion> = policies.iter().filter(is_meant).collect();
    let version = which.version.map_or_else(String::new, |version| format!(" {version}"));
    ensure!(!found.is_empty(), "there is no policy {}{version}", which.name);
    found.sort_by_key(|policy| numbers(&policy.version));
    let floor = floors.iter().find(|floor| floor.name == which.name).map(|floor| floor.version);
    if json {
        let versions: Vec<serde_json::Value> = found
            .iter()
            .map(|policy| {
                let key = policy.signature.as_ref().map(|signature| signature.key);
                serde_json::json!({
                    "version": policy.version, "digest": policy.digest, "key": key.map(|key| key.id()), "public": key,
                    "certificate": policy.certificate, "used_by": used_by(policy, &policies, &tiers, &floors),
                })
            })
            .collect();
        let document = serde_json::json!({ "name": which.name, "floor": floor, "versions": versions });
        println!("{}", serde_json::to_string_pretty(&document)?);
        return Ok(());
    }
    for policy in found {
        println!("{} {}", policy.name, policy.version);
        println!("  digest       {}", policy.digest);
        match &policy.signature {
            Some(signature) => println!("  signed by    key {}   {}", signature.key.id(), signature.key),
            None => println!("  signed by    nobody"),
        }
        println!("  certificate  {}", policy.certificate.as_ref().map_or_else(|| "none".to_owned(), in_words));
        let used = used_by(policy, &policies, &tiers, &floors);
        let used = match used.is_empty() {
            true if below_floor(policy, &floors) => "no slot: it is below the floor".to_owned(),
            true => "no slot".to_owned(),
            false => used.join(", "),
        };
        println!("  used by      {used}");
    }
    if let Some(floor) = floor {
        println!("no version of {} below {floor} decides", which.name);
    }
    Ok(())
}

pub(super) async fn floor(folder: &Path, name: &PolicyName, version: VersionNumber, json: bool) -> anyhow::Result<()> {
    Target::find(folder)?.admin.raise_policy_floor(name, version).await?;
    if json {
        println!("{}", serde_json::json!({ "name": name, "version": version }));
    } else {
        println!("no version of {name} below {version} decides any more, and none ever will");
    }
    Ok(())
}
