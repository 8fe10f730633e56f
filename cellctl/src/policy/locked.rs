//! The versions that a new policy begins with: those the SDK is tested with.

use super::files::WORKSPACE_LOCK;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

const SDK: &str = "cellar-policy-sdk";

#[derive(Deserialize, Serialize)]
struct Lock {
    version: u32,
    package: Vec<Package>,
}

#[derive(Clone, Deserialize, Serialize)]
struct Package {
    name: String,
    version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    checksum: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    dependencies: Vec<String>,
}

/// What only the SDK's own tests need, and a policy's folder has not.
const OF_TESTS: [&str; 2] = ["jiff", "proptest"];

/// A `Cargo.lock` of the policy `name`, of its SDK, and of what the SDK needs. What only other crates of the
/// workspace asked of a package, Cargo strikes out at the first build.
pub(super) fn packages(name: &str) -> anyhow::Result<String> {
    let mut lock: Lock = toml::from_str(WORKSPACE_LOCK).context("this cellctl has a lock file that cannot be read")?;
    for package in lock.package.iter_mut().filter(|package| package.name == SDK) {
        package.dependencies.retain(|name| !OF_TESTS.contains(&name.as_str()));
    }
    let (mut needed, mut left) = (BTreeSet::new(), vec![SDK.to_owned(), "schemars".to_owned(), "serde".to_owned()]);
    while let Some(wanted) = left.pop() {
        // `name`, or `name version` where there are several.
        let (wanted, version) = wanted.split_once(' ').map_or((wanted.as_str(), None), |(n, v)| (n, Some(v)));
        let is_wanted = |package: &&Package| package.name == wanted && version.is_none_or(|v| package.version == v);
        let package = lock.package.iter().find(is_wanted).with_context(|| format!("{wanted} is not locked"))?;
        if needed.insert((&package.name, &package.version)) {
            left.extend(package.dependencies.iter().cloned());
        }
    }
    let is_needed = |package: &&Package| needed.contains(&(&package.name, &package.version));
    let mut package: Vec<Package> = lock.package.iter().filter(is_needed).cloned().collect();
    package.push(Package {
        name: name.to_owned(),
        version: "1.0.0".to_owned(),
        source: None,
        checksum: None,
        dependencies: vec![SDK.to_owned(), "schemars".to_owned(), "serde".to_owned()],
    });
    package.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Ok(toml::to_string(&Lock { version: lock.version, package })?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_what_the_sdk_needs_and_nothing_of_the_services() {
        let lock: Lock = toml::from_str(&packages("night").unwrap()).unwrap();
        let has = |name: &str| lock.package.iter().any(|package| package.name == name);
        assert!(["night", SDK, "serde", "schemars", "serde_json", "wit-bindgen"].iter().all(|name| has(name)));
        assert!(!["tokio", "wasmtime", "cellar-model", "proptest"].iter().any(|name| has(name)));
        let known: BTreeSet<&str> = lock.package.iter().map(|package| package.name.as_str()).collect();
        let asked = lock.package.iter().flat_map(|package| &package.dependencies);
        assert!(asked.map(|name| name.split(' ').next().unwrap()).all(|name| known.contains(name)));
    }
}
