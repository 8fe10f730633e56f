//! What a fresh directory is filled with: the topology, two keys, the built-in policies, the tiers.

use super::given_keys::KeysGiven;
use super::signing::{own_key, sign_unsigned, trust_own};
use crate::directory::of_stack;
use anyhow::{Context, bail};
use cellar_artifacts::SigningKey;
use cellar_devstack::{Bootstrap, Keys, StackError};
use cellar_directory::catalog::{self, Put};
use cellar_directory::{Documents, OpenDirectory, PolicyEntry, Replicas, Written};
use cellar_model::{ApiKey, Digest, KeyDocument, KeyKind, KeyName, Scope, Secret, TierDocument, TierName, Topology};
use cellar_policy_host::{Host, HostLimits};
use std::path::PathBuf;

/// The tiers a local stack starts with.
const TIERS: [&str; 3] = [
    include_str!("../../../examples/tiers/free.toml"),
    include_str!("../../../examples/tiers/pro.toml"),
    include_str!("../../../examples/tiers/enterprise.toml"),
];

/// Their names.
pub(super) fn tiers() -> anyhow::Result<Vec<TierName>> {
    TIERS.iter().map(|text| Ok(TierDocument::from_toml(text)?.name)).collect()
}

pub(crate) async fn bootstrap(given: Bootstrap) -> Result<Keys, StackError> {
    of_stack_filled(given)
        .await
        .map_err(|error| StackError::Step { step: "filling the directory", cause: format!("{error:#}") })
}

async fn of_stack_filled(given: Bootstrap) -> anyhow::Result<Keys> {
    let topology: Topology = serde_json::from_value(given.topology)?;
    let keys = given.keys.unwrap_or_else(|| KeysGiven::default().complete());
    let signer = own_key(&given.policy_key_file)?;
    let (url, replicas) = (Secret::new(given.directory_url), of_stack(&given.directory_replicas));
    if given.filled {
        mend(&url, &replicas, &signer).await?;
    } else {
        match fill(&url, &replicas, &topology, &keys, &signer).await? {
            Filled::Now => {}
            Filled::Before { .. } => bail!("the directory has a topology already"),
        }
    }
    trust_own(&given.policy_keys_file, &signer)?;
    Ok(keys)
}

/// Brings the directory of a stack from before policies were signed to where a fresh one is.
pub(crate) async fn mend(url: &Secret, replicas: &Replicas, signer: &SigningKey) -> anyhow::Result<()> {
    OpenDirectory::migrate(url, replicas).await?;
    sign_unsigned(&OpenDirectory::connect(url, 2).await?, signer).await?;
    Ok(())
}

/// What a fill found.
pub(crate) enum Filled {
    Now,
    /// A topology was there. Nothing was changed but that versions of policies which nobody had signed are signed.
    Before {
        signed: usize,
    },
}

/// Makes the directory's tables and puts in force what it begins with. The topology comes last: where there is
/// one, everything else is, and a fill that was cut short is finished by the next one.
pub(crate) async fn fill(
    url: &Secret,
    replicas: &Replicas,
    topology: &Topology,
    keys: &Keys,
    signer: &SigningKey,
) -> anyhow::Result<Filled> {
    topology.validate()?;
    OpenDirectory::migrate(url, replicas).await?;
    let directory = OpenDirectory::connect(url, 2).await?;
    if directory.read_topology().await?.is_some() {
        return Ok(Filled::Before { signed: sign_unsigned(&directory, signer).await? });
    }
    put_key(&directory, "local", &keys.service_key, vec![Scope::Quota, Scope::Users]).await?;
    put_key(&directory, "operator", &keys.operator_key, vec![Scope::Admin]).await?;
    put_policies(&directory, signer).await?;
    for text in TIERS {
        let tier = TierDocument::from_toml(text)?;
        done(catalog::put_tier(&directory, &tier, None).await?)?;
    }
    match directory.put_topology(topology, None).await? {
        Written::Applied => Ok(Filled::Now),
        Written::Refused(_) => Ok(Filled::Before { signed: 0 }),
        Written::Unknown(error) => Err(error).context("whether the topology is in force is not known: try again"),
    }
}

pub(crate) fn new_key(kind: KeyKind) -> ApiKey {
    ApiKey::generate(kind, &mut rand::rng())
}

async fn put_key(directory: &OpenDirectory, name: &str, key: &str, scopes: Vec<Scope>) -> anyhow::Result<()> {
    let key = ApiKey::parse(key)?;
    let (kind, hash) = (key.kind(), key.hash());
    let document =
        KeyDocument { name: KeyName::new(name)?, kind, hash, scopes, auto_enrol: None, previous: None, revoked: false };
    done(catalog::put_key(directory, &document).await?)
}

/// Policies that ship, and that no tier of the beginning names. Each is compiled by every process that follows the
/// catalog: they come in when somebody wants them.
const LATER: [&str; 5] = ["token-bucket", "daily-window", "weighted", "night-discount", "open-reservations"];

async fn put_policies(directory: &OpenDirectory, signer: &SigningKey) -> anyhow::Result<()> {
    let folder = policies_folder()?;
    let host = Host::new(HostLimits::default())?;
    let mut found = 0;
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        let later = path.file_stem().and_then(|name| name.to_str()).is_some_and(|name| LATER.contains(&name));
        if later || path.extension().is_none_or(|extension| extension != "wasm") {
            continue;
        }
        let artifact = std::fs::read(&path)?;
        let policy = host.load(&artifact).with_context(|| format!("{}", path.display()))?;
        let description = policy.description();
        let (name, digest) = (description.name.clone(), Digest::of(&artifact));
        let signature = signer.sign(&name, description.version.parse()?, &digest, None);
        let entry = PolicyEntry::unsigned(name, description.version.clone(), digest);
        let entry = PolicyEntry { signature: Some(signature), ..entry };
        done(catalog::put_policy(directory, &entry, &artifact).await?)?;
        found += 1;
    }
    anyhow::ensure!(found > 0, "{} holds no components: run `make policies`", folder.display());
    Ok(())
}

/// `target/policies`, found from the running program.
fn policies_folder() -> anyhow::Result<PathBuf> {
    if let Some(folder) = std::env::var_os("CELLAR_POLICIES_DIR") {
        return Ok(folder.into());
    }
    let running = std::env::current_exe()?;
    let beside = running.ancestors().skip(1).take(4).map(|folder| folder.join("policies"));
    let found = beside.into_iter().find(|folder| folder.join("gcra.wasm").is_file());
    found.context("the built-in policies are not built: run `make policies`")
}

fn done(put: Put) -> anyhow::Result<()> {
    match put {
        Put::Done(_) => Ok(()),
        Put::Stale(_) => bail!("the directory has been filled by somebody else"),
    }
}
