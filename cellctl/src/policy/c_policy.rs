//! A policy in C: one file and what it includes, compiled by clang, and made a component here.

use super::files::WIT;
use super::toolchain::STACK_BYTES;
use anyhow::{Context, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

const WORLD: &str = "quota-policy";

/// A folder with one `.c` file and no crate.
pub(super) struct CPolicy {
    pub(super) name: String,
    folder: PathBuf,
    source: PathBuf,
}

impl CPolicy {
    /// None if the folder has a crate, or no C.
    pub(super) fn find(folder: &Path) -> anyhow::Result<Option<Self>> {
        if folder.join("Cargo.toml").exists() {
            return Ok(None);
        }
        let folder = fs::canonicalize(folder).with_context(|| format!("cannot read {}", folder.display()))?;
        let entries = fs::read_dir(&folder)?.collect::<Result<Vec<_>, _>>()?;
        let mut sources: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
        sources.retain(|path| path.extension().is_some_and(|ending| ending == "c"));
        let Some(source) = sources.pop() else { return Ok(None) };
        ensure!(sources.is_empty(), "{} has several .c files; a policy is one, and what it includes", folder.display());
        let name = folder.file_name().map_or_else(|| "policy".to_owned(), |name| name.to_string_lossy().into_owned());
        Ok(Some(Self { name, folder, source }))
    }

    pub(super) fn component(&self) -> anyhow::Result<Vec<u8>> {
        let module = self.folder.join("target").join("policy.core.wasm");
        fs::create_dir_all(self.folder.join("target"))?;
        let mut clang = Command::new("clang");
        clang.args(["--target=wasm32", "-std=c11", "-O2", "-ffreestanding", "-nostdlib", "-fno-ident"]);
        clang.args(["-Wall", "-Wextra", "-Wl,--no-entry", "-Wl,--strip-all"]);
        clang.arg(format!("-Wl,-z,stack-size={STACK_BYTES}"));
        clang.arg("-o").arg(&module).arg(&self.source);
        let status = clang.status().context("clang does not start: install clang and lld, and try again")?;
        ensure!(status.success(), "clang failed");
        let mut module = fs::read(&module).context("clang left no module")?;
        let (resolve, world) = interface()?;
        // Names with their whole version, as the host asks for them.
        let canonical_names = false;
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, canonical_names)?;
        ComponentEncoder::default().validate(true).module(&module)?.encode()
    }
}

/// The interface as this program carries it: a module's exports are held to it.
fn interface() -> anyhow::Result<(Resolve, wit_parser::WorldId)> {
    let Some((name, text)) = WIT.iter().find(|(name, _)| *name == "policy.wit") else {
        bail!("this cellctl carries no interface");
    };
    let mut resolve = Resolve::default();
    let package = resolve.push_source(name, text)?;
    let world = resolve.select_world(&[package], Some(WORLD))?;
    Ok((resolve, world))
}
