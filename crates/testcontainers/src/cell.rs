//! A cell that has not been started.

use crate::RunningCell;
use serde_json::json;
use testcontainers::core::{ContainerPort, CopyToContainer, WaitFor};
use testcontainers::runners::AsyncRunner;
use testcontainers::{Image, TestcontainersError};

/// Names another image, such as one in a registry of one's own: `name` or `name:tag`.
const IMAGE: &str = "CELLAR_CELL_IMAGE";
const USUAL_IMAGE: &str = "cellar-cell-dev";
const SEED: &str = "/seed/seed.json";
/// What `cellctl cell up` says when the cell serves and has been seeded.
const SERVES: &str = "Ctrl-C ends the stack.";
/// The ports inside.
pub(crate) const PORT: ContainerPort = ContainerPort::Tcp(8100);
pub(crate) const ADMIN_PORT: ContainerPort = ContainerPort::Tcp(8190);

/// An image of testcontainers: what it offers for any of them (networks, limits, a name) goes with this one too,
/// and `RunningCell::of` takes a container that was started so.
#[derive(Clone, Debug)]
pub struct Cell {
    name: String,
    tag: String,
    tiers: Vec<String>,
    users: Vec<(String, String)>,
    /// The seed, as the container gets it.
    files: Vec<CopyToContainer>,
}

impl Default for Cell {
    fn default() -> Self {
        let named = std::env::var(IMAGE).unwrap_or_else(|_| USUAL_IMAGE.to_owned());
        // A colon before the last slash belongs to a registry's port.
        let (name, tag) = match named.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name.to_owned(), tag.to_owned()),
            _ => (named, env!("CARGO_PKG_VERSION").to_owned()),
        };
        Self { name, tag, tiers: Vec::new(), users: Vec::new(), files: Vec::new() }
    }
}

impl Cell {
    /// A tier file's text, besides the tiers free, pro and enterprise that every cell begins with.
    #[must_use]
    pub fn tier(mut self, text: impl Into<String>) -> Self {
        self.tiers.push(text.into());
        self.write_seed()
    }

    /// A user by e-mail, in this tier.
    #[must_use]
    pub fn user(mut self, email: impl Into<String>, tier: impl Into<String>) -> Self {
        self.users.push((email.into(), tier.into()));
        self.write_seed()
    }

    /// A whole seed as JSON text, as `cellctl cell up --seed` takes it, in the place of tiers and users said before.
    /// The files it names are given with it, each by its name and text.
    #[must_use]
    pub fn seed(mut self, json: &str, files: &[(&str, &str)]) -> Self {
        self.files = vec![CopyToContainer::new(json.as_bytes().to_vec(), SEED)];
        self.files.extend(files.iter().map(|(name, text)| beside_seed(name, text)));
        self
    }

    /// Starts it, and comes back when it serves.
    ///
    /// # Errors
    /// When there is no engine or image, or when a tier or user is refused.
    pub async fn start(self) -> Result<RunningCell, TestcontainersError> {
        RunningCell::of(AsyncRunner::start(self).await?).await
    }

    fn write_seed(self) -> Self {
        let names: Vec<String> = (0..self.tiers.len()).map(|n| format!("tier-{n}.toml")).collect();
        let users = self.users.iter().map(|(email, tier)| json!({ "email": email, "tier": tier }));
        let seed = json!({ "tiers": names, "user": users.collect::<Vec<_>>() }).to_string();
        let tiers = self.tiers.clone();
        let files: Vec<(&str, &str)> = names.iter().map(String::as_str).zip(tiers.iter().map(String::as_str)).collect();
        self.seed(&seed, &files)
    }
}

fn beside_seed(name: &str, text: &str) -> CopyToContainer {
    CopyToContainer::new(text.as_bytes().to_vec(), format!("/seed/{name}"))
}

impl Image for Cell {
    fn name(&self) -> &str {
        &self.name
    }

    fn tag(&self) -> &str {
        &self.tag
    }

    fn ready_conditions(&self) -> Vec<WaitFor> {
        vec![WaitFor::message_on_stdout(SERVES)]
    }

    fn expose_ports(&self) -> &[ContainerPort] {
        &[PORT, ADMIN_PORT]
    }

    fn copy_to_sources(&self) -> impl IntoIterator<Item = &CopyToContainer> {
        &self.files
    }

    fn cmd(&self) -> impl IntoIterator<Item = impl Into<std::borrow::Cow<'_, str>>> {
        let seed: &[&str] = if self.files.is_empty() { &[] } else { &["--seed", SEED] };
        ["--ephemeral"].into_iter().chain(seed.iter().copied())
    }
}
