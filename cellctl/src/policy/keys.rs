//! `policy keys`: keys that sign policies, and whose are trusted.

use super::key_files::KeysFile;
use anyhow::Context;
use cellar_artifacts::{Pattern, SigningKey, Trust, TrustedKey, trusted, untrusted, write_whole};
use cellar_model::{KeyName, PolicyKey};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Subcommand)]
pub(crate) enum KeysCommand {
    /// Draw a key that signs policies, into a file that only its owner may read
    New {
        file: PathBuf,
        #[arg(long)]
        json: bool,
    },
    /// The keys that are trusted, and for which policies
    List {
        #[command(flatten)]
        file: KeysFile,
        #[arg(long)]
        json: bool,
    },
    /// Trust a key for policies whose names fit a pattern; said again, for others
    ///
    /// Cells look at the file with every poll of the catalog: what it says counts within seconds.
    Trust {
        /// What it is called from now on: whose it is
        name: KeyName,
        /// Its public half, ed25519:…, which its owner has told you in a way that you believe
        key: PolicyKey,
        /// gcra, acme-*, or * for all
        #[arg(long, required = true, value_name = "PATTERN", value_delimiter = ',', num_args = 1..)]
        policies: Vec<Pattern>,
        #[command(flatten)]
        file: KeysFile,
        #[arg(long)]
        json: bool,
    },
    /// Trust a key no longer
    Untrust {
        /// Its name, or its id
        key: String,
        #[command(flatten)]
        file: KeysFile,
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(stack: &Path, command: KeysCommand) -> anyhow::Result<()> {
    match command {
        KeysCommand::New { file, json } => new(&file, json),
        KeysCommand::List { file, json } => list(&file.read(stack)?, json),
        KeysCommand::Trust { name, key, policies, file, json } => {
            let key = TrustedKey::new(name, key, policies).map_err(anyhow::Error::msg)?;
            let path = file.path(stack)?;
            let text = trusted(&text_of(&path)?, &key).with_context(|| path.display().to_string())?;
            write_whole(&path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
            say(&key, json, "is trusted");
            Ok(())
        }
        KeysCommand::Untrust { key, file, json } => {
            let path = file.path(stack)?;
            let (text, gone) = untrusted(&text_of(&path)?, &key).with_context(|| path.display().to_string())?;
            write_whole(&path, text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
            say(&gone, json, "is trusted no longer");
            if !json {
                println!(
                    "What only it has signed comes into force nowhere from now on. A tier that has nothing else to \
                     decide by keeps what it has until its process ends: `cellctl policy list` shows who signed what."
                );
            }
            Ok(())
        }
    }
}

fn new(file: &Path, json: bool) -> anyhow::Result<()> {
    let key = SigningKey::generate(&mut rand::rng());
    key.write_new(file)?;
    let (id, public) = (key.public().id(), key.public());
    if json {
        println!("{}", serde_json::json!({ "id": id, "public": public, "file": file }));
        return Ok(());
    }
    println!("key {id} is in {}; whoever reads that file signs in its owner's name", file.display());
    println!("{public}");
    println!("Who is to trust it says: cellctl policy keys trust NAME {public} --policies 'PATTERN'");
    Ok(())
}

fn list(trust: &Trust, json: bool) -> anyhow::Result<()> {
    if json {
        let keys: Vec<serde_json::Value> = trust.keys().iter().map(document).collect();
        println!("{}", serde_json::to_string_pretty(&keys)?);
        return Ok(());
    }
    for key in trust.keys() {
        println!("{:<24} {}  {:<24} {}", key.name.as_str(), key.key.id(), key.patterns(), key.key);
    }
    if trust.keys().is_empty() {
        println!("no key is trusted");
    }
    Ok(())
}

fn document(key: &TrustedKey) -> serde_json::Value {
    let policies: Vec<String> = key.policies.iter().map(Pattern::to_string).collect();
    serde_json::json!({ "name": key.name, "id": key.key.id(), "public": key.key, "policies": policies })
}

fn say(key: &TrustedKey, json: bool, what: &str) {
    if json {
        println!("{}", document(key));
    } else {
        println!("key {} ({}) {what}, for {}", key.name, key.key.id(), key.patterns());
    }
}

/// A file that is not there yet trusts nobody.
fn text_of(path: &Path) -> anyhow::Result<String> {
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
        text => text.with_context(|| format!("cannot read {}", path.display())),
    }
}
