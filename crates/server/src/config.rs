//! Configuration files: TOML, overridden by the environment, secrets in files of their own.

use crate::plaintext::Plaintext;
use cellar_model::Secret;
use figment::Figment;
use figment::providers::{Env, Format, Toml};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::net::SocketAddr;
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
    #[error("a listener beyond loopback needs TLS, or allow_plaintext = true")]
    Plaintext,
    #[error("clock = \"virtual\" is for loopback only: whoever sets the time sets the quota")]
    VirtualClock,
}

/// Whose time a process decides by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClockSetting {
    #[default]
    Wall,
    /// Takes `at_us` from callers. Loopback only: whoever sets the time sets the quota.
    Virtual,
}

/// Whether a process may serve on `listeners`. Asked before the first of them opens.
pub fn check_listeners(
    listeners: &[SocketAddr],
    allow_plaintext: bool,
    clock: ClockSetting,
) -> Result<(), ConfigError> {
    let loopback = Plaintext::of(listeners).is_none();
    if !loopback && !allow_plaintext {
        return Err(ConfigError::Plaintext);
    }
    if !loopback && clock == ClockSetting::Virtual {
        return Err(ConfigError::VirtualClock);
    }
    Ok(())
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
