//! One cell of a test's own, in a line:
//!
//! ```no_run
//! # async fn test() -> Result<(), cellar_devstack::StackError> {
//! let cell = cellar_devstack::cell().tier(include_str!("../../../examples/tiers/pro.toml")).start().await?;
//! println!("{} {}", cell.url(), cell.service_key());
//! # Ok(())
//! # }
//! ```
//!
//! It ends with the value, with a test that panics, and with a process that is killed. Each has its own stores,
//! ports and folder, so that tests run beside each other.

use crate::StackError;
use crate::cellctl::Cellctl;
use crate::world::Clock;
use std::path::PathBuf;

/// A cell that has not been started.
pub fn cell() -> CellBuilder {
    CellBuilder::default()
}

#[derive(Clone, Debug, Default)]
pub struct CellBuilder {
    tiers: Vec<String>,
    users: Vec<(String, String)>,
    seed: Option<PathBuf>,
    clock: Clock,
}

/// A cell that serves.
pub struct Cell {
    cellctl: Cellctl,
    url: String,
    admin_url: String,
    service_key: String,
    operator_key: String,
}

impl CellBuilder {
    /// A tier file's text, besides the tiers that every stack has.
    pub fn tier(mut self, text: impl Into<String>) -> Self {
        self.tiers.push(text.into());
        self
    }

    /// A user by e-mail, in this tier.
    pub fn user(mut self, email: impl Into<String>, tier: impl Into<String>) -> Self {
        self.users.push((email.into(), tier.into()));
        self
    }

    /// A seed file, as `cell up --seed` takes it.
    pub fn seed(mut self, file: impl Into<PathBuf>) -> Self {
        self.seed = Some(file.into());
        self
    }

    /// Policies decide by the times that calls bring (`at_us`).
    pub fn virtual_clock(mut self) -> Self {
        self.clock = Clock::Virtual;
        self
    }

    /// Starts it, and comes back when it serves: some two seconds.
    ///
    /// # Errors
    /// When a program is missing, or a tier or user is refused: with what the cell said of it.
    pub async fn start(self) -> Result<Cell, StackError> {
        let started = tokio::task::spawn_blocking(move || self.start_now()).await;
        started.map_err(|error| StackError::Step { step: "starting a cell", cause: error.to_string() })?
    }

    fn start_now(self) -> Result<Cell, StackError> {
        let mut cellctl = Cellctl::new()?;
        let mut arguments = vec!["cell".to_owned(), "up".into(), "--ephemeral".into()];
        if self.clock == Clock::Virtual {
            arguments.extend(["--clock".into(), "virtual".into()]);
        }
        let seed = match self.seed.clone() {
            Some(_) if !self.tiers.is_empty() || !self.users.is_empty() => {
                let cause = "a seed file, or tiers and users: not both".to_owned();
                return Err(StackError::Step { step: "reading the seed", cause });
            }
            None if !self.tiers.is_empty() || !self.users.is_empty() => Some(self.write_seed(&cellctl)?),
            given => given,
        };
        if let Some(seed) = seed {
            arguments.extend(["--seed".into(), seed.display().to_string()]);
        }
        cellctl.keep(&arguments.iter().map(String::as_str).collect::<Vec<_>>())?;
        let status = cellctl.status()?;
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let region = &status["regions"][0];
        Ok(Cell {
            url: text(&region["router_url"]),
            admin_url: text(&region["admin_url"]),
            service_key: text(&status["service_key"]),
            operator_key: text(&status["operator_key"]),
            cellctl,
        })
    }

    /// The seed is JSON, whose strings need no quoting of ours.
    fn write_seed(&self, cellctl: &Cellctl) -> Result<PathBuf, StackError> {
        let folder = cellctl.folder();
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).map_err(StackError::folder(&path))
        };
        let mut tiers = Vec::with_capacity(self.tiers.len());
        for (n, tier) in self.tiers.iter().enumerate() {
            tiers.push(format!("tier-{n}.toml"));
            write(&tiers[n], tier)?;
        }
        let users = self.users.iter().map(|(email, tier)| serde_json::json!({ "email": email, "tier": tier }));
        let seed = serde_json::json!({ "tiers": tiers, "user": users.collect::<Vec<_>>() });
        write("seed.json", &seed.to_string())?;
        Ok(folder.join("seed.json"))
    }
}

impl Cell {
    /// Where callers ask.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The admin listener.
    pub fn admin_url(&self) -> &str {
        &self.admin_url
    }

    pub fn service_key(&self) -> &str {
        &self.service_key
    }

    pub fn operator_key(&self) -> &str {
        &self.operator_key
    }

    /// To stop, restart and look at its processes.
    pub fn cellctl(&self) -> &Cellctl {
        &self.cellctl
    }
}
