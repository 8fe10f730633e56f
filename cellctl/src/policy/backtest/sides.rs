//! The two tiers that are compared, and where their policies come from.

use crate::policy::catalog::numbers;
use crate::stack::Target;
use anyhow::{Context, bail, ensure};
use cellar_client::PolicyVersion;
use cellar_model::{Pin, PolicyRef, RevisedTier, Revision, SettingProblem, SlotName, TierDocument, TierName};
use cellar_policy_host::{Digest, Host, HostLimits, Policy};
use cellar_quota::Tier;
use serde::Serialize;
use serde_json::Value;
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where `make policies` and the release archive have the built components.
const POLICIES: &str = "target/policies";
/// Components of one folder: each takes some 20 ms to compile.
const COMPONENTS_MAX: usize = 256;
/// A tier has at most eight policies with settings of 64 KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;

#[derive(Debug, clap::Args)]
pub(super) struct SideArguments {
    /// The tier: whose users, and what they have now [default: the one that the candidate names]
    #[arg(long)]
    tier: Option<TierName>,
    /// A tier file: what they would have
    #[arg(long, value_name = "FILE.toml", required_unless_present = "slot")]
    candidate: Option<PathBuf>,
    /// What they have now, if not the tier as it is in force
    #[arg(long, value_name = "FILE.toml")]
    current: Option<PathBuf>,
    /// Instead of a candidate file: the current tier with other settings, or another component, in this slot
    #[arg(long, conflicts_with = "candidate")]
    slot: Option<SlotName>,
    /// The slot's other settings
    #[arg(long, value_name = "FILE.json", requires = "slot")]
    settings: Option<PathBuf>,
    /// A component under development: the candidate decides by it where it names its policy
    #[arg(long, value_name = "FILE.wasm")]
    component: Option<PathBuf>,
    /// Where tier files find their policies [default: the Cellar's catalog; target/policies without a Cellar]
    #[arg(long, value_name = "DIR")]
    policies: Option<PathBuf>,
}

/// Both tiers, ready to decide.
pub(super) struct Sides {
    pub(super) host: Host,
    pub(super) tiers: [Arc<Tier>; 2],
    pub(super) used: [Vec<Used>; 2],
    pub(super) said: [String; 2],
}

/// What one slot decides by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Used {
    pub(super) slot: String,
    pub(super) unit: String,
    pub(super) mode: String,
    pub(super) policy: String,
    pub(super) version: String,
    pub(super) digest: String,
    pub(super) from: String,
    pub(super) settings: Value,
}

impl SideArguments {
    /// Whether the tier in force has to be asked for.
    pub(super) fn needs_cellar(&self) -> bool {
        self.current.is_none()
    }

    pub(super) async fn open(&self, target: Option<&Target>) -> anyhow::Result<Sides> {
        let candidate = self.candidate.as_deref().map(read_tier).transpose()?;
        let name = self.tier.clone().or_else(|| candidate.as_ref().map(|tier| tier.name.clone()));
        let (mut current, said) = self.current(target, name.as_ref()).await?;
        let candidate_said = match (&self.candidate, &self.slot) {
            (Some(path), _) => path.display().to_string(),
            (None, Some(slot)) => format!("{} with another {slot}", current.document.name),
            (None, None) => bail!("say --candidate FILE, or --slot"),
        };
        let mut shelf = Shelf::new(self, target).await?;
        let mut candidate = match candidate {
            Some(tier) => tier,
            None => self.exchanged(&current.document, &shelf)?,
        };
        // Users keep their record under the tier's name, and reports name one tier.
        let tier = self.tier.clone().unwrap_or_else(|| candidate.name.clone());
        candidate.name = tier.clone();
        current.document.name = tier;
        let candidate = RevisedTier { revision: Revision(0), document: candidate };
        let in_force = self.current.is_none();
        let (now, now_used) = shelf.compile(&current, if in_force { Whose::InForce } else { Whose::Current }).await?;
        let (then, then_used) = shelf.compile(&candidate, Whose::Candidate).await?;
        if let Some(component) = &shelf.component {
            let digest = component.0.digest().to_string();
            ensure!(
                then_used.iter().any(|used| used.digest == digest),
                "the candidate has no slot that decides by {}",
                component.0.description().name
            );
        }
        Ok(Sides {
            host: shelf.host,
            tiers: [Arc::new(now), Arc::new(then)],
            used: [now_used, then_used],
            said: [said, candidate_said],
        })
    }

    async fn current(&self, target: Option<&Target>, name: Option<&TierName>) -> anyhow::Result<(RevisedTier, String)> {
        if let Some(path) = &self.current {
            return Ok((RevisedTier { revision: Revision(0), document: read_tier(path)? }, path.display().to_string()));
        }
        let name = name.context("say --tier: which one the slot is of")?;
        let target = target.context("say --current FILE: there is no Cellar whose tier could be taken")?;
        let tier = target.admin.tier(name).await?.with_context(|| format!("there is no tier {name} in force"))?;
        let said = format!("{name} as in force, revision {}", tier.revision);
        Ok((tier, said))
    }

    /// The current tier with one slot's settings, component or both exchanged.
    fn exchanged(&self, current: &TierDocument, shelf: &Shelf<'_>) -> anyhow::Result<TierDocument> {
        let slot = self.slot.as_ref().context("say --slot")?;
        ensure!(self.settings.is_some() || self.component.is_some(), "--slot needs --settings or --component");
        let mut tier = current.clone();
        let entry = tier.policies.iter_mut().find(|entry| entry.slot == *slot);
        let entry = entry.with_context(|| format!("tier {} has no slot {slot}", current.name))?;
        if let Some(path) = &self.settings {
            entry.settings = serde_json::from_str(&text_of(path)?).with_context(|| path.display().to_string())?;
        }
        if let Some((policy, _)) = &shelf.component {
            let name = policy.description().name.clone();
            entry.policy = PolicyRef { name, pin: Pin::Digest(policy.digest().0) };
        }
        Ok(tier)
    }
}

fn read_tier(path: &Path) -> anyhow::Result<TierDocument> {
    TierDocument::from_toml(&text_of(path)?).with_context(|| format!("{} is no tier", path.display()))
}

fn text_of(path: &Path) -> anyhow::Result<String> {
    let read = || -> anyhow::Result<String> {
        let bytes = fs::metadata(path)?.len();
        ensure!(bytes <= FILE_BYTES_MAX, "it has {bytes} bytes, more than {FILE_BYTES_MAX}");
        Ok(fs::read_to_string(path)?)
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// As cells decide: by the catalog alone.
    InForce,
    Current,
    Candidate,
}

/// All places where a policy can be found.
struct Shelf<'a> {
    host: Host,
    component: Option<(Arc<Policy>, String)>,
    /// The component stands in wherever its policy is named. Else only where its digest is.
    by_name: bool,
    folder: Option<PathBuf>,
    /// What the folder has, once it was looked at.
    in_folder: Option<Vec<(Arc<Policy>, String)>>,
    target: Option<&'a Target>,
    catalog: Vec<PolicyVersion>,
    loaded: HashMap<String, Arc<Policy>>,
}

impl<'a> Shelf<'a> {
    async fn new(arguments: &SideArguments, target: Option<&'a Target>) -> anyhow::Result<Self> {
        // Every question is asked: a version that keeps failing shall show how often.
        let host = Host::new(HostLimits { breaker_faults: u32::MAX, ..HostLimits::default() })?;
        let component = arguments.component.as_deref().map(|path| load(&host, path)).transpose()?;
        let catalog = match target {
            Some(target) => target.admin.policies().await?,
            None => Vec::new(),
        };
        let folder = arguments.policies.clone().or_else(|| target.is_none().then(|| POLICIES.into()));
        let by_name = arguments.slot.is_none();
        Ok(Self { host, component, by_name, folder, in_folder: None, target, catalog, loaded: HashMap::new() })
    }

    async fn compile(&mut self, tier: &RevisedTier, whose: Whose) -> anyhow::Result<(Tier, Vec<Used>)> {
        let (mut found, mut used) = (HashMap::new(), Vec::new());
        for (n, entry) in tier.document.policies.iter().enumerate() {
            let place = || format!("/policy/{n}/use");
            let (policy, from) = self.find(&entry.policy, whose).await.with_context(place)?;
            used.push(Used {
                slot: entry.slot.to_string(),
                unit: entry.unit.to_string(),
                mode: serde_json::to_value(entry.mode)?.as_str().unwrap_or_default().to_owned(),
                policy: policy.description().name.to_string(),
                version: policy.description().version.clone(),
                digest: policy.digest().to_string(),
                from,
                settings: entry.settings.clone(),
            });
            found.insert(entry.policy.clone(), policy);
        }
        let compiled = Tier::compile(tier, |asked| found.get(asked).cloned());
        let compiled = compiled.map_err(|error| {
            let line = |problem: &SettingProblem| format!("\n  {}: {}", problem.pointer, problem.message);
            let whose = if whose == Whose::Candidate { "candidate" } else { "current tier" };
            anyhow::anyhow!("the {whose} is not fit:{}", error.problems.iter().map(line).collect::<String>())
        })?;
        Ok((compiled, used))
    }

    async fn find(&mut self, asked: &PolicyRef, whose: Whose) -> anyhow::Result<(Arc<Policy>, String)> {
        if whose == Whose::Candidate
            && let Some((policy, from)) = &self.component
            && policy.description().name == asked.name
        {
            let (version, major) = (&policy.description().version, policy.description().major());
            match asked.pin {
                Pin::Digest(digest) if digest == policy.digest().0 => return Ok((policy.clone(), from.clone())),
                Pin::Major(asked_major) if self.by_name => {
                    ensure!(major == asked_major, "it asks for {asked}, and {from} is version {version}");
                    return Ok((policy.clone(), from.clone()));
                }
                _ => {}
            }
        }
        if whose != Whose::InForce
            && let Some(found) = self.find_in_folder(asked)?
        {
            return Ok(found);
        }
        if let Some(found) = self.find_in_catalog(asked).await? {
            return Ok(found);
        }
        let folder = self.folder.as_ref().map(|folder| folder.display().to_string());
        let places = folder.into_iter().chain(self.target.map(|_| "the catalog".to_owned()));
        bail!("there is no policy {asked} in {}", places.collect::<Vec<_>>().join(" or "))
    }

    fn find_in_folder(&mut self, asked: &PolicyRef) -> anyhow::Result<Option<(Arc<Policy>, String)>> {
        let Some(folder) = &self.folder else { return Ok(None) };
        if self.in_folder.is_none() {
            self.in_folder = Some(components(&self.host, folder)?);
        }
        let fits = |policy: &Policy| match &asked.pin {
            Pin::Major(major) => policy.description().major() == *major,
            Pin::Digest(digest) => policy.digest().0 == *digest,
        };
        let all = self.in_folder.iter().flatten();
        let named = all.filter(|(policy, _)| policy.description().name == asked.name && fits(policy));
        // As cells have it: the newest of a major.
        Ok(named.max_by_key(|(policy, _)| policy.description().parts()).cloned())
    }

    async fn find_in_catalog(&mut self, asked: &PolicyRef) -> anyhow::Result<Option<(Arc<Policy>, String)>> {
        let Some(target) = self.target else { return Ok(None) };
        let fits = |version: &PolicyVersion| match &asked.pin {
            Pin::Major(major) => numbers(&version.version)[0] == *major,
            Pin::Digest(digest) => version.digest == Digest(*digest).to_string(),
        };
        let named = self.catalog.iter().filter(|version| version.name == asked.name && fits(version));
        let newest = named.max_by_key(|version| numbers(&version.version)).cloned();
        let Some(version) = newest else { return Ok(None) };
        let from = "the catalog".to_owned();
        if let Some(policy) = self.loaded.get(&version.digest) {
            return Ok(Some((policy.clone(), from)));
        }
        let artifact = target.admin.policy_artifact(&version).await?;
        let policy = self.host.load(&artifact)?;
        ensure!(
            policy.digest().to_string() == version.digest,
            "the catalog gave other bytes than those of {} {}",
            version.name,
            version.version
        );
        self.loaded.insert(version.digest, policy.clone());
        Ok(Some((policy, from)))
    }
}

fn components(host: &Host, folder: &Path) -> anyhow::Result<Vec<(Arc<Policy>, String)>> {
    let entries = fs::read_dir(folder);
    let entries = entries.with_context(|| format!("cannot look for policies in {}", folder.display()))?;
    let mut paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "wasm"));
    ensure!(paths.len() <= COMPONENTS_MAX, "more than {COMPONENTS_MAX} components are in {}", folder.display());
    paths.sort();
    paths.iter().map(|path| load(host, path)).collect()
}

fn load(host: &Host, path: &Path) -> anyhow::Result<(Arc<Policy>, String)> {
    let artifact = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let policy = host.load(&artifact).with_context(|| path.display().to_string())?;
    Ok((policy, path.display().to_string()))
}
