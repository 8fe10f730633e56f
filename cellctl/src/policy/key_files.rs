//! Where keys are: one's own to sign with, and those that are trusted.

use anyhow::{Context, bail};
use cellar_artifacts::{SigningKey, Trust};
use cellar_devstack::Stack;
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(crate) struct KeyFile {
    /// The key to sign with, as `keys new` made it; that of the local stack, if it is not said
    #[arg(long, value_name = "FILE", env = "CELLAR_POLICY_KEY_FILE")]
    key_file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct KeysFile {
    /// The keys that are trusted: a cell's policy_keys_file, or a copy; that of the local stack, if it is not said
    #[arg(long, value_name = "FILE", env = "CELLAR_POLICY_KEYS_FILE")]
    keys_file: Option<PathBuf>,
}

impl KeyFile {
    pub(super) fn read(&self, stack: &Path) -> anyhow::Result<SigningKey> {
        let of_stack = || Some(Stack::open(stack).ok()?.state().policy_key_file());
        match self.key_file.clone().or_else(of_stack) {
            Some(file) => Ok(SigningKey::read(&file)?),
            None => bail!("no key to sign with: name one with --key-file (`cellctl policy keys new FILE` draws one)"),
        }
    }
}

impl KeysFile {
    pub(super) fn path(&self, stack: &Path) -> anyhow::Result<PathBuf> {
        let of_stack = || Some(Stack::open(stack).ok()?.state().policy_keys_file());
        let path = self.keys_file.clone().or_else(of_stack);
        path.context("whose keys are trusted is not said: name the file with --keys-file")
    }

    pub(super) fn read(&self, stack: &Path) -> anyhow::Result<Trust> {
        let path = self.path(stack)?;
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Trust::parse(&text).with_context(|| format!("{} is no file of trusted keys", path.display()))
    }
}
