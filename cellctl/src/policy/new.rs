//! `policy new`: a folder in which a policy is written, with all it needs beside it.

use super::files::{self, SDK, TEMPLATE, WIT};
use super::{locked, manifest};
use anyhow::{Context, bail, ensure};
use cellar_model::PolicyName;
use std::fs;
use std::path::{Path, PathBuf};

/// What the template calls itself.
const TEMPLATE_NAME: &str = "daily-budget";
/// The folder below a policy's in which the SDK lies: its `../../wit` is then the policy's own.
const SDK_FOLDER: &str = "vendor/sdk";
/// What Cargo would take for something else than the policy.
const NAMES_TAKEN: [&str; 3] = ["cellar-policy-sdk", "schemars", "serde"];

#[derive(Debug, clap::Args)]
pub(crate) struct NewArguments {
    /// The policy's name: what tiers use it by
    name: PolicyName,
    /// The folder, which is made or is empty [default: ./NAME]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn run(arguments: &NewArguments) -> anyhow::Result<()> {
    let name = arguments.name.as_str();
    ensure!(
        name.starts_with(|first: char| first.is_ascii_lowercase()) && !NAMES_TAKEN.contains(&name),
        "{name:?} cannot be a policy's name: it begins with a letter and is none of {}",
        NAMES_TAKEN.join(", ")
    );
    let folder = arguments.dir.clone().unwrap_or_else(|| name.into());
    write(&folder, &contents(name)?)?;
    println!("{}: a policy that counts units a day, to be made yours", folder.display());
    println!("  cd {}", folder.display());
    println!("  cellctl policy test       its own tests, and the component held to the native code");
    println!("  cellctl policy certify    what callers rely on, by histories that nobody wrote");
    println!("README.md there says the rest; the policy is src/lib.rs");
    Ok(())
}

type Content = (PathBuf, String);

fn contents(name: &str) -> anyhow::Result<Vec<Content>> {
    let named = |text: &str| text.replace(TEMPLATE_NAME, name);
    let mut contents = Vec::new();
    for (path, text) in TEMPLATE {
        contents.push(match *path {
            "manifest.toml" => ("Cargo.toml".into(), named(&manifest::alone(text)?)),
            path => (path.into(), named(text)),
        });
        // The SDK's documentation shows the template as it was.
        if *path == "settings.json" || path.starts_with("src/") {
            contents.push((Path::new(SDK_FOLDER).join("template").join(path), (*text).to_owned()));
        }
    }
    let sdk = SDK.iter().map(|(path, text)| (Path::new(SDK_FOLDER).join("src").join(path), (*text).to_owned()));
    contents.extend(sdk);
    contents.push((Path::new(SDK_FOLDER).join("Cargo.toml"), manifest::alone(files::SDK_MANIFEST)?));
    contents.extend(WIT.iter().map(|(path, text)| (Path::new("wit").join(path), (*text).to_owned())));
    contents.push(("Cargo.lock".into(), locked::packages(name)?));
    contents.push((".gitignore".into(), "/target\n".to_owned()));
    Ok(contents)
}

/// All of it or nothing: the folder gets its name when it is complete.
fn write(folder: &Path, contents: &[Content]) -> anyhow::Result<()> {
    match fs::read_dir(folder) {
        Ok(mut entries) => {
            ensure!(entries.next().is_none(), "{} is not empty; name another folder by --dir", folder.display());
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => bail!("{} cannot be the folder: {error}", folder.display()),
    }
    let parent = folder.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let last = folder.file_name().context("that is no name of a folder")?.to_string_lossy();
    let partial = parent.join(format!(".{last}.{}", std::process::id()));
    let written = contents.iter().try_for_each(|(path, text)| {
        let path = partial.join(path);
        // Each path of a content has a folder: the partial one at least.
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(&path, text)
    });
    let written = written.and_then(|()| fs::rename(&partial, folder));
    if written.is_err() {
        // What was written of it is of no use to anybody.
        let _ = fs::remove_dir_all(&partial);
    }
    written.with_context(|| format!("cannot write {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn arguments(name: &str, dir: &Path) -> NewArguments {
        NewArguments { name: PolicyName::new(name).unwrap(), dir: Some(dir.to_owned()) }
    }

    /// The repository's own file.
    fn repository(path: &str) -> String {
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
    }

    #[test]
    fn the_copy_is_the_repositorys_source_to_the_byte() {
        let contents: BTreeMap<PathBuf, String> = contents("night").unwrap().into_iter().collect();
        let copies = [
            ("vendor/sdk/src/lib.rs", "policies/sdk/src/lib.rs"),
            ("vendor/sdk/src/testing/sim.rs", "policies/sdk/src/testing/sim.rs"),
            ("vendor/sdk/template/src/lib.rs", "policies/sdk/template/src/lib.rs"),
            ("wit/policy.wit", "wit/policy.wit"),
            ("settings.json", "policies/sdk/template/settings.json"),
        ];
        for (copy, original) in copies {
            assert_eq!(contents[Path::new(copy)], repository(original), "{copy}");
        }
        assert!(contents[Path::new("src/lib.rs")].contains("const NAME: &'static str = \"night\";"));
        assert!(!contents[Path::new("README.md")].contains(TEMPLATE_NAME));
    }

    #[test]
    fn a_folder_that_has_something_and_a_bad_name_are_refused_and_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let taken = folder.path().join("taken");
        fs::create_dir(&taken).unwrap();
        run(&arguments("empty-is-fine", &taken)).unwrap();
        assert!(taken.join("Cargo.toml").is_file());
        let again = run(&arguments("again", &taken)).unwrap_err();
        assert!(again.to_string().contains("is not empty"), "{again}");
        for bad in ["9lives", "-x", "serde"] {
            assert!(run(&arguments(bad, &folder.path().join("bad"))).is_err(), "{bad}");
        }
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["taken"]);
    }
}
