//! Configuration files: TOML, overridden by the environment, secrets in files of their own.

use cellar_model::Secret;
use figment::Figment;
use figment::providers::{Env, Format, Toml};
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("there is no configuration at {}", .0.display())]
    Missing(PathBuf),
    #[error("{}: {cause}", .path.display())]
    Unfit { path: PathBuf, cause: Box<figment::Error> },
    #[error("the secret in {} cannot be read", .path.display())]
    Secret {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
}

/// Reads `path`, then `<env_prefix>LISTEN=…` from the environment (nested by `__`).
pub fn load<T: DeserializeOwned>(path: &Path, env_prefix: &str) -> Result<T, ConfigError> {
    if !path.exists() {
        return Err(ConfigError::Missing(path.to_owned()));
    }
    Figment::from(Toml::file_exact(path))
        .merge(Env::prefixed(env_prefix).split("__"))
        .extract()
        .map_err(|cause| ConfigError::Unfit { path: path.to_owned(), cause: Box::new(cause) })
}

/// A secret's file, without the white space around it.
pub fn read_secret(path: &Path) -> Result<Secret, ConfigError> {
    std::fs::read_to_string(path)
        .map(|text| Secret::new(text.trim().to_owned()))
        .map_err(|cause| ConfigError::Secret { path: path.to_owned(), cause })
}
