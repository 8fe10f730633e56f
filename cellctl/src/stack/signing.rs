//! The key that signs what a stack, or a fresh directory, begins with.

use anyhow::{Context, ensure};
use cellar_artifacts::{SigningKey, Trust, TrustedKey, trusted, write_whole};
use cellar_directory::catalog::{self, Put};
use cellar_directory::{OpenDirectory, PolicyEntry};
use cellar_model::KeyName;
use std::io::ErrorKind;
use std::path::Path;

/// What it is called among the keys that cells trust.
const OWN: &str = "own";

/// The key in `file`, drawn into it if there is none yet.
pub(crate) fn own_key(file: &Path) -> anyhow::Result<SigningKey> {
    Ok(SigningKey::read_or_draw(file, &mut rand::rng())?)
}

/// Sees that a file of trusted keys has this one, for all policies. The others in it stay.
pub(crate) fn trust_own(file: &Path, key: &SigningKey) -> anyhow::Result<()> {
    let text = match std::fs::read_to_string(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            "# NAME KEY PATTERN[,PATTERN]: whose policies decide here. `cellctl policy keys` changes it.\n".to_owned()
        }
        text => text.with_context(|| format!("cannot read {}", file.display()))?,
    };
    let held = Trust::parse(&text).with_context(|| format!("{} is no file of trusted keys", file.display()))?;
    if held.of(&key.public()).is_some() {
        return Ok(());
    }
    let taken = held.keys().iter().any(|held| held.name.as_str() == OWN);
    ensure!(!taken, "{} trusts another key as {OWN}: untrust it first", file.display());
    let own = TrustedKey::new(KeyName::new(OWN)?, key.public(), vec!["*".parse().map_err(anyhow::Error::msg)?]);
    let text = trusted(&text, &own.map_err(anyhow::Error::msg)?)?;
    write_whole(file, text.as_bytes()).with_context(|| format!("cannot write {}", file.display()))
}

/// Signs every version of the catalog that nobody has signed. How many.
///
/// For catalogs from before policies were signed, by whoever can write to the directory anyhow.
pub(crate) async fn sign_unsigned(directory: &OpenDirectory, key: &SigningKey) -> anyhow::Result<usize> {
    let mut signed = 0;
    for entry in catalog::read(directory).await?.policies {
        if entry.signature.is_some() {
            continue;
        }
        let what = format!("{} {}", entry.name, entry.version);
        let Some(artifact) = catalog::artifact(directory, &entry.digest).await? else {
            eprintln!("{what} stays unsigned: the directory does not have its component");
            continue;
        };
        let Ok(version) = entry.version.parse() else {
            eprintln!("{what} stays unsigned: its version is not three numbers");
            continue;
        };
        let signature = key.sign(&entry.name, version, &entry.digest, None);
        let entry = PolicyEntry { signature: Some(signature), ..entry };
        match catalog::put_policy(directory, &entry, &artifact).await? {
            Put::Done(_) => signed += 1,
            Put::Stale(_) => eprintln!("{what} has changed meanwhile: give the command again"),
        }
    }
    Ok(signed)
}
