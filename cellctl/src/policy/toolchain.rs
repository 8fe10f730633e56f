//! Which compiler makes WebAssembly here: the ordinary one with its target, or the one that
//! `scripts/wasm-target` unpacked into the cache.

use super::files::WASM_TARGET;
use anyhow::{Context, ensure};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

pub(super) const TARGET: &str = "wasm32-unknown-unknown";

/// The stack a policy keeps in its linear memory. The linker's own choice, a megabyte, is all the
/// memory that a policy is granted.
pub(super) const STACK_BYTES: usize = 64 << 10;

pub(super) enum Toolchain {
    Ordinary,
    /// A `rustc` that has the target's compiler but no library for it: Cargo builds that as well.
    Unpacked {
        rustc: PathBuf,
        linker: PathBuf,
    },
}

/// What to do where Cargo is missing.
pub(super) const NO_CARGO: &str = "cargo does not start: install Rust (https://rustup.rs) and try again";

impl Toolchain {
    /// The compiler, made ready if this machine has none for the target yet: once for each user.
    pub(super) fn find() -> anyhow::Result<Self> {
        if let Some(ready) = Self::look()? {
            return Ok(ready);
        }
        prepare()?;
        Self::look()?
            .with_context(|| format!("this machine cannot compile to {TARGET}; run: rustup target add {TARGET}"))
    }

    fn look() -> anyhow::Result<Option<Self>> {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let output = Command::new(&rustc).args(["--print", "sysroot"]).output();
        let output = output.with_context(|| {
            format!("{} does not start: install Rust (https://rustup.rs) and try again", rustc.display())
        })?;
        ensure!(output.status.success(), "{} cannot name its sysroot", rustc.display());
        let sysroot = PathBuf::from(String::from_utf8(output.stdout)?.trim_end());
        if sysroot.join("lib/rustlib").join(TARGET).join("lib").is_dir() {
            return Ok(Some(Self::Ordinary));
        }
        let unpacked = cache()?.join("wasm-target");
        let linker = sysroot.join("lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld");
        let is_there = unpacked.join("complete").is_file() && linker.is_file();
        Ok(is_there.then(|| Self::Unpacked { rustc: unpacked.join("rustc"), linker }))
    }

    /// `cargo build` of one crate for the target, for speed and small size, into a target folder of
    /// its own: it shares nothing with the native build and must not wait for its lock.
    pub(super) fn cargo_build(&self, manifest: &Path, workspace: &Path, target_dir: &Path) -> Command {
        let mut cargo = Command::new("cargo");
        cargo.args(["build", "--release", "--target", TARGET]);
        cargo.arg("--manifest-path").arg(manifest).arg("--target-dir").arg(target_dir);
        let profile = [
            ("OPT_LEVEL", "3"),
            ("LTO", "fat"),
            ("CODEGEN_UNITS", "1"),
            ("STRIP", "symbols"),
            ("PANIC", "abort"),
            ("DEBUG", "false"),
        ];
        for (key, value) in profile {
            cargo.env(format!("CARGO_PROFILE_RELEASE_{key}"), value);
        }
        cargo.env_remove("RUSTFLAGS").env("CARGO_ENCODED_RUSTFLAGS", flags(workspace).join("\u{1f}"));
        if let Self::Unpacked { rustc, linker } = self {
            cargo.arg("-Zbuild-std=std,panic_abort");
            // That flag is meant for compilers of the night; a released one takes it with this.
            cargo.env("RUSTC_BOOTSTRAP", "1").env("RUSTC", rustc);
            cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
        }
        cargo
    }
}

/// Runs `scripts/wasm-target`, as this program carries it. What it says is progress, not a result.
fn prepare() -> anyhow::Result<()> {
    let mut script = Command::new("bash");
    script.arg("-c").arg(WASM_TARGET).stdin(Stdio::null()).stdout(io::stderr());
    let status = script.status().context("bash, which would make the WebAssembly target ready, does not start")?;
    ensure!(status.success(), "the WebAssembly target could not be made ready; the line above says what to do");
    Ok(())
}

/// Paths are made the same everywhere: a digest shall say what a policy does, not where it was built.
fn flags(workspace: &Path) -> Vec<String> {
    let mut flags = vec!["-C".to_owned(), format!("link-arg=-zstack-size={STACK_BYTES}")];
    let mut remap = |from: &Path, to: &str| {
        flags.push(format!("--remap-path-prefix={}={to}", from.display()));
    };
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let cargo_home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    if let Some(home) = &home {
        remap(home, "/home");
    }
    if let Some(cargo_home) = cargo_home.or(home.map(|home| home.join(".cargo"))) {
        remap(&cargo_home, "/cargo");
    }
    remap(workspace, "/policies");
    flags
}

/// As `scripts/wasm-target` has it.
fn cache() -> anyhow::Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(cache) = set("CELLAR_CACHE") {
        return Ok(cache);
    }
    let caches = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    Ok(caches.context("neither CELLAR_CACHE nor HOME is set")?.join("cellar"))
}
