//! Who we are to a registry: from a file or the environment, never from an argument, which every process sees.

use anyhow::{Context, bail, ensure};
use cellar_model::Secret;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// `HOST USER PASSWORD` a line.
pub(super) const FILE: &str = "CELLAR_REGISTRY_CREDENTIALS_FILE";
const USER: &str = "CELLAR_REGISTRY_USER";
const PASSWORD: &str = "CELLAR_REGISTRY_PASSWORD";
/// Of the file: some hundred registries.
const FILE_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug)]
pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) password: Secret,
}

impl Credentials {
    /// Those for `host`: of its line in the file, else those that the environment has for whatever host is named.
    pub(super) fn of_environment(host: &str) -> anyhow::Result<Option<Self>> {
        if let Some(file) = std::env::var_os(FILE) {
            return Self::of_file(Path::new(&file), host);
        }
        match (std::env::var(USER), std::env::var(PASSWORD)) {
            (Ok(user), Ok(password)) => Ok(Some(Self { user, password: Secret::new(password) })),
            (Err(_), Err(_)) => Ok(None),
            _ => bail!("{USER} and {PASSWORD} belong together"),
        }
    }

    pub(super) fn of_file(file: &Path, host: &str) -> anyhow::Result<Option<Self>> {
        let cannot = || format!("cannot read {}", file.display());
        let metadata = std::fs::metadata(file).with_context(cannot)?;
        ensure!(metadata.len() <= FILE_BYTES_MAX, "{} is too large for a file of credentials", file.display());
        let open = metadata.permissions().mode() & 0o077 != 0;
        ensure!(!open, "{} may be read by others than its owner: `chmod 600` it", file.display());
        let text = std::fs::read_to_string(file).with_context(cannot)?;
        for (n, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.splitn(3, char::is_whitespace);
            let (Some(named), Some(user), Some(password)) = (words.next(), words.next(), words.next()) else {
                // What is in the line stays out of the error.
                bail!("line {} of {} is not `HOST USER PASSWORD`", n + 1, file.display());
            };
            if named == host {
                return Ok(Some(Self { user: user.to_owned(), password: Secret::new(password.trim().to_owned()) }));
            }
        }
        Ok(None)
    }
}
