//! `policy build`: a crate in, a component out.

use super::BUILT;
use super::c_policy::CPolicy;
use super::toolchain::{NO_CARGO, TARGET, Toolchain};
use anyhow::{Context, ensure};
use cellar_policy_host::{Digest, Host, HostLimits};
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use wit_component::ComponentEncoder;

/// What packages of policies are called before their own name.
const PACKAGE_PREFIX: &str = "cellar-policy-";

/// Into `out` by their names, or each into its own folder.
pub(super) fn build(folders: &[PathBuf], out: Option<&Path>) -> anyhow::Result<()> {
    for folder in folders {
        let built = build_one(folder, out);
        println!("{}", built.with_context(|| format!("{} was not built", folder.display()))?);
    }
    Ok(())
}

/// Builds one, and says what it is.
pub(super) fn build_one(folder: &Path, out: Option<&Path>) -> anyhow::Result<String> {
    let (name, component) = match CPolicy::find(folder)? {
        Some(policy) => (policy.name.clone(), policy.component()?),
        None => {
            let package = PolicyCrate::read(folder)?;
            let status = package.build_command(&Toolchain::find()?).status();
            ensure!(status.context(NO_CARGO)?.success(), "cargo failed");
            let component = package.component()?;
            (package.name, component)
        }
    };
    let path = match out {
        Some(out) => out.join(&name).with_extension("wasm"),
        None => folder.join(BUILT),
    };
    // An unchanged component keeps its time, and has passed the gate when it was written.
    if fs::read(&path).ok().as_ref() != Some(&component) {
        Host::new(HostLimits::default())?.load(&component)?;
        write(&path, &component)?;
    }
    Ok(format!("{name}  {} KiB  {}", component.len().div_ceil(1024), Digest::of(&component)))
}

/// All of it or nothing: a cell may be reading the folder.
fn write(path: &Path, component: &[u8]) -> anyhow::Result<()> {
    let partial = path.with_extension(format!("wasm.{}", std::process::id()));
    // Each path has a folder: that of all components, or `target`.
    path.parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(&partial, component))
        .and_then(|()| fs::rename(&partial, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// What Cargo knows of the crate.
pub(super) struct PolicyCrate {
    pub(super) name: String,
    pub(super) manifest: PathBuf,
    /// The file name of its library, without an ending.
    library: String,
    workspace_root: PathBuf,
    pub(super) target_directory: PathBuf,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    crate_types: Vec<String>,
}

impl PolicyCrate {
    pub(super) fn read(folder: &Path) -> anyhow::Result<Self> {
        let manifest = fs::canonicalize(folder.join("Cargo.toml"))
            .with_context(|| format!("{} has no policy; `cellctl policy new NAME` writes one", folder.display()))?;
        let output = Command::new("cargo")
            .args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
            .arg(&manifest)
            .output()
            .context(NO_CARGO)?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
        let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
        let package = metadata.packages.into_iter().find(|p| p.manifest_path == manifest);
        let package = package.context("it is a workspace, not a crate")?;
        let is_cdylib = |target: &Target| target.crate_types.iter().any(|t| t == "cdylib");
        let library = package.targets.into_iter().find(is_cdylib);
        let library = library.context("a policy needs crate-type = [\"cdylib\"]")?;
        Ok(Self {
            name: package.name.strip_prefix(PACKAGE_PREFIX).unwrap_or(&package.name).to_owned(),
            library: library.name.replace('-', "_"),
            manifest,
            workspace_root: metadata.workspace_root,
            target_directory: metadata.target_directory,
        })
    }

    /// Compiles it to a module.
    pub(super) fn build_command(&self, toolchain: &Toolchain) -> Command {
        toolchain.cargo_build(&self.manifest, &self.workspace_root, &self.wasm_directory())
    }

    /// The component around the module that was compiled last.
    pub(super) fn component(&self) -> anyhow::Result<Vec<u8>> {
        let module = self.wasm_directory().join(TARGET).join("release").join(&self.library).with_extension("wasm");
        let module = fs::read(&module).with_context(|| format!("cargo left no {}", module.display()))?;
        ComponentEncoder::default().validate(true).module(&module)?.encode()
    }

    fn wasm_directory(&self) -> PathBuf {
        self.target_directory.join("wasm")
    }
}
