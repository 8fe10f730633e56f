//! Puts the SDK's source and the interface into `cellctl`: `policy new` writes them where there is no repository.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// Of the SDK: what its crate is compiled from, and the folder that authors begin with.
const FOLDERS: [(&str, &str); 3] = [("SDK", "policies/sdk/src"), ("TEMPLATE", "policies/sdk/template"), ("WIT", "wit")];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("no CARGO_MANIFEST_DIR")?);
    let root = manifest.parent().ok_or("cellctl is in no folder")?;
    let mut code = String::new();
    for (name, folder) in FOLDERS {
        let base = root.join(folder);
        println!("cargo::rerun-if-changed={}", base.display());
        let mut files = Vec::new();
        list(&base, &mut files)?;
        files.sort();
        writeln!(code, "pub(super) const {name}: &[(&str, &str)] = &[")?;
        for file in files {
            let within = file.strip_prefix(&base)?;
            writeln!(
                code,
                "    ({:?}, include_str!({:?})),",
                within.display().to_string(),
                file.display().to_string()
            )?;
        }
        writeln!(code, "];")?;
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
    fs::write(out.join("policy_files.rs"), code)?;
    Ok(())
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
