//! Watched policies: a crate that changes is built, passed through the host's gate, asked by its own tests, and
//! put in force in a local stack.

use super::build::PolicyCrate;
use super::catalog::numbers;
use super::toolchain::Toolchain;
use crate::stack::{Target, own_key};
use anyhow::{Context, bail, ensure};
use cellar_certify::{Component as Certified, Finding, Plan, Verdict, certify};
use cellar_client::{Admin, PolicyVersion};
use cellar_model::{Base64, Digest, Pin, PolicyUpload};
use cellar_policy_host::{Host, HostLimits, Policy};
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::process::Command;

/// How often the folders are looked at. A change counts once two looks saw the same: an editor writes a file
/// in several steps.
const LOOK_EVERY: Duration = Duration::from_millis(150);
/// How often the stack is asked whether its tiers or versions have changed.
const ASK_EVERY: Duration = Duration::from_secs(2);
const FOLDERS_MAX: usize = 16;
/// Of one folder. A policy is a few files; more is a folder that somebody has mistaken for one.
const FILES_MAX: usize = 10_000;
/// Histories a property: a second of them, while somebody waits.
const CASES: u32 = 60;
/// The end of what a failing test or compiler said.
const SAID_BYTES_MAX: usize = 4_000;

pub(crate) struct Watch {
    toolchain: Toolchain,
    crates: Vec<Watched>,
}

struct Watched {
    folder: PathBuf,
    package: PolicyCrate,
    /// What was seen of the files at the last look.
    seen: u64,
    /// What has been dealt with: the files, and what the stack's catalog was afterwards. A tier that is mended, or a
    /// cell that is emptied, may want what was dealt with before.
    done: Option<(u64, u64)>,
    /// Why the files could not be looked at, so that it is said once.
    unseen: Option<String>,
}

impl Watch {
    /// Refuses what is no policy, before anything starts.
    pub(crate) fn new(folders: &[PathBuf]) -> anyhow::Result<Self> {
        ensure!(folders.len() <= FOLDERS_MAX, "at most {FOLDERS_MAX} folders are watched");
        let crates = folders.iter().map(|folder| {
            let package = PolicyCrate::read(folder).with_context(|| format!("{} is no policy", folder.display()))?;
            Ok(Watched { folder: folder.clone(), package, seen: 0, done: None, unseen: None })
        });
        Ok(Self { toolchain: Toolchain::find()?, crates: crates.collect::<anyhow::Result<_>>()? })
    }

    /// Follows the folders until it is dropped. What they are at the beginning is put in force, too.
    pub(crate) async fn run(mut self, stack: &Path) {
        let (mut catalog, mut asked) = (0, Instant::now());
        loop {
            if asked.elapsed() >= ASK_EVERY {
                // While nobody answers it is as it was.
                catalog = catalog_stamp(stack).await.unwrap_or(catalog);
                asked = Instant::now();
            }
            for watched in &mut self.crates {
                let Some(now) = watched.settled() else { continue };
                if watched.done == Some((now, catalog)) {
                    continue;
                }
                watched.follow(&self.toolchain, stack).await;
                catalog = catalog_stamp(stack).await.unwrap_or(catalog);
                watched.done = Some((now, catalog));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Watched {
    /// What the files are, if two looks saw the same.
    fn settled(&mut self) -> Option<u64> {
        let now = match stamp(&self.folder) {
            Ok(now) => now,
            Err(error) => {
                let error = format!("{error:#}");
                if self.unseen.as_ref() != Some(&error) {
                    eprintln!("{}: {error}", self.folder.display());
                    self.unseen = Some(error);
                }
                return None;
            }
        };
        self.unseen = None;
        (std::mem::replace(&mut self.seen, now) == now).then_some(now)
    }

    async fn follow(&self, toolchain: &Toolchain, stack: &Path) {
        match self.put_in_force(toolchain, stack).await {
            Ok(said) => eprintln!("{said}"),
            Err(error) => {
                eprintln!("{}: {error:#}\n{} stays as it is in force", self.folder.display(), self.package.name);
            }
        }
    }

    async fn put_in_force(&self, toolchain: &Toolchain, stack: &Path) -> anyhow::Result<String> {
        let began = Instant::now();
        let artifact = self.build(toolchain).await?;
        let built = began.elapsed();
        let (policy, artifact) = tokio::task::spawn_blocking(move || {
            anyhow::Ok((Host::new(HostLimits::default())?.load(&artifact)?, artifact))
        })
        .await??;
        let Target { admin, local } = Target::find(stack)?;
        let stack_state = local.context("policies are watched for a local stack")?;
        let name = policy.description().name.clone();
        let held = admin.policies().await?;
        let major = policy.description().major();
        let in_force = match fits_tiers(&admin, &policy).await? {
            0 => format!("in the catalog, and no tier uses {name}@{major}"),
            _ => "in force".to_owned(),
        };
        self.test().await?;
        let Some(version) = next_version(&held, &policy) else {
            return Ok(format!("{name} is {in_force}, as it stands here ({:.1} s)", began.elapsed().as_secs_f64()));
        };
        let artifact = tokio::task::spawn_blocking(move || Self::certify(&artifact).map(|()| artifact)).await??;
        let tested = began.elapsed();
        let version = version.parse()?;
        let key = own_key(&stack_state.policy_key_file())?;
        let signature = key.sign(&name, version, &Digest::of(&artifact), None);
        let upload = PolicyUpload { artifact: Base64(artifact), signature: Some(signature), certificate: None };
        // A form of states changes many times until it is right, and these states are nobody's but the author's.
        admin.put_policy_without_way_back(&name, version, &upload).await?;
        Ok(format!(
            "{name} {version} is {in_force}, {:.1} s after the change: built in {:.1} s, tested in {:.1} s",
            began.elapsed().as_secs_f64(),
            built.as_secs_f64(),
            (tested - built).as_secs_f64(),
        ))
    }

    async fn build(&self, toolchain: &Toolchain) -> anyhow::Result<Vec<u8>> {
        let mut cargo = Command::from(self.package.build_command(toolchain));
        said(cargo.arg("--quiet"), "it does not compile").await?;
        self.package.component()
    }

    /// Every property, in a short run.
    fn certify(artifact: &[u8]) -> anyhow::Result<()> {
        let subject = Certified::load(artifact)?;
        let report = certify(&subject, None, &Plan { cases: CASES, ..Plan::default() })?;
        let broken: Vec<String> = report.broken().map(describe).collect();
        ensure!(broken.is_empty(), "a property is broken:\n{}", broken.join("\n"));
        Ok(())
    }

    /// Its own tests, natively.
    async fn test(&self) -> anyhow::Result<()> {
        let mut cargo = Command::new("cargo");
        cargo.args(["test", "--quiet", "--manifest-path"]).arg(&self.package.manifest);
        // A folder of its own: it must not wait for a build that somebody else runs.
        cargo.arg("--target-dir").arg(self.package.target_directory.join("watch"));
        cargo.env("RUST_BACKTRACE", "0");
        said(&mut cargo, "its own tests fail").await
    }
}

fn describe(finding: &Finding) -> String {
    match &finding.verdict {
        Verdict::Broken { counterexample } => format!("{}: {}\n{counterexample}", finding.property, finding.sentence),
        Verdict::Holds { .. } | Verdict::Waived => finding.property.clone(),
    }
}

/// Runs it to its end; what it said is the error.
async fn said(command: &mut Command, failure: &str) -> anyhow::Result<()> {
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.context("cargo does not start")?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    let tail = String::from_utf8_lossy(&text[text.len().saturating_sub(SAID_BYTES_MAX)..]).trim().to_owned();
    bail!("{failure}:\n{tail}")
}

/// Settings in force have to fit: a tier whose policy refuses them would keep the old one, and nobody would see
/// why nothing changed. How many slots use it.
async fn fits_tiers(admin: &Admin, policy: &Arc<Policy>) -> anyhow::Result<usize> {
    let (description, mut slots) = (policy.description(), 0);
    for tier in admin.tiers().await? {
        let document = tier.document;
        for asked in document.policies {
            let is_this = asked.policy.name == description.name && asked.policy.pin == Pin::Major(description.major());
            if is_this {
                let place = || format!("the settings of slot {} in tier {} do not fit it", asked.slot, document.name);
                policy.configure(&asked.settings.to_string()).with_context(place)?;
                slots += 1;
            }
        }
    }
    Ok(slots)
}

/// What the versions and tiers of the stack look like from outside.
async fn catalog_stamp(stack: &Path) -> anyhow::Result<u64> {
    let admin = Target::find(stack)?.admin;
    let mut hasher = DefaultHasher::new();
    for version in admin.policies().await? {
        (version.name.as_str(), version.version, version.digest).hash(&mut hasher);
    }
    for tier in admin.tiers().await? {
        (tier.document.name.as_str(), tier.revision.0).hash(&mut hasher);
    }
    Ok(hasher.finish())
}

/// The version to put it in force under: above every one there is of its major. None if the newest is this very
/// component.
fn next_version(held: &[PolicyVersion], policy: &Policy) -> Option<String> {
    let description = policy.description();
    let own = description.parts().unwrap_or_default();
    let of_major = held.iter().filter(|version| version.name == description.name);
    let numbered = of_major.map(|version| (numbers(&version.version), version));
    let newest = numbered.filter(|(numbers, _)| numbers[0] == own[0]).max_by_key(|(numbers, _)| *numbers);
    let next = match newest {
        Some((_, version)) if version.digest == policy.digest().to_string() => return None,
        Some((newest, _)) if newest >= own => [newest[0], newest[1], newest[2] + 1],
        _ => own,
    };
    Some(next.map(|number| number.to_string()).join("."))
}

/// What a folder's files look like from outside: names, sizes, times.
fn stamp(folder: &Path) -> anyhow::Result<u64> {
    let (mut hasher, mut files) = (DefaultHasher::new(), 0);
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let mut entries: Vec<_> = std::fs::read_dir(&folder)?.collect::<Result<_, _>>()?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            if name == "target" || name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            // It may have gone since it was listed: then the next look sees that.
            let Ok(metadata) = entry.metadata() else { continue };
            files += 1;
            ensure!(files <= FILES_MAX, "more than {FILES_MAX} files are no policy");
            if metadata.is_dir() {
                folders.push(entry.path());
            } else {
                (entry.path(), metadata.len(), metadata.modified().ok()).hash(&mut hasher);
            }
        }
    }
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_changes_with_a_file_and_not_with_what_a_build_leaves() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("src/lib.rs", "a");
        let before = stamp(folder.path()).unwrap();
        write("target/debug/x", "built");
        write(".git/x", "kept");
        assert_eq!(stamp(folder.path()).unwrap(), before);
        write("src/lib.rs", "ab");
        assert_ne!(stamp(folder.path()).unwrap(), before);
    }
}
