//! Where policies are shipped to and pulled from.

use crate::registry::{Reference, Registry};
use cellar_artifacts::{Bundle, Image, read_layout, write_layout};
use std::fmt;
use std::path::PathBuf;

const REGISTRY: &str = "oci://";

/// A folder, or a repository of a registry.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Folder(PathBuf),
    Registry(Reference),
}

impl Place {
    /// The policy that is there. Whether its signature counts is not said by that.
    pub(super) async fn read(&self) -> anyhow::Result<Bundle> {
        match self {
            Place::Folder(folder) => {
                let folder = folder.clone();
                Ok(tokio::task::spawn_blocking(move || read_layout(&folder)).await??)
            }
            Place::Registry(reference) => Registry::of(reference)?.pull().await,
        }
    }

    pub(super) async fn write(&self, image: &Image) -> anyhow::Result<()> {
        match self {
            Place::Folder(folder) => {
                let (folder, image) = (folder.clone(), image.clone());
                Ok(tokio::task::spawn_blocking(move || write_layout(&folder, &image)).await??)
            }
            Place::Registry(reference) => Registry::of(reference)?.push(image).await,
        }
    }
}

impl std::str::FromStr for Place {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix(REGISTRY) {
            Some(reference) => reference.parse().map(Place::Registry),
            None if text.contains("://") => Err(format!("{text} is neither a folder nor oci://host/repository:tag")),
            None => Ok(Place::Folder(text.into())),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Folder(folder) => folder.display().fmt(f),
            Place::Registry(reference) => write!(f, "{REGISTRY}{reference}"),
        }
    }
}
