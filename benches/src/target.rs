//! A stack under load, and what is needed to ask it.

use crate::kind::Kind;
use crate::people::{Tier, give_passwords, log_in, put_tier, sign_up};
use crate::process::Process;
use anyhow::{Context, Result};
use cellar_devstack::Cellctl;
use serde_json::Value;

pub(crate) struct Target {
    pub(crate) stack: Cellctl,
    pub(crate) address: String,
    pub(crate) key: String,
    pub(crate) users: Vec<String>,
    /// Of each user a session's token, once [`Target::log_in`] has been called.
    tokens: Vec<String>,
    /// Of users with a password, once [`Target::give_passwords`] has been called.
    emails: Vec<String>,
}

impl Target {
    /// A stack of its own: nothing of one run is left for the next.
    pub(crate) async fn up(arguments: &[&str], tier: Tier, users: usize) -> Result<Self> {
        Self::on(Cellctl::new()?, arguments, tier, users).await
    }

    /// The same as `stack` is set up.
    pub(crate) async fn on(mut stack: Cellctl, arguments: &[&str], tier: Tier, users: usize) -> Result<Self> {
        stack.keep(arguments)?;
        let status = stack.status()?;
        let region = &status["regions"][0];
        let address = text(&region["router_url"])?.trim_start_matches("http://").to_owned();
        let key = text(&status["service_key"])?;
        let admin = text(&region["admin_url"])?;
        put_tier(admin.trim_start_matches("http://"), &text(&status["operator_key"])?, tier).await?;
        let users = sign_up(&address, &key, users).await?;
        Ok(Self { stack, address, key, users, tokens: Vec::new(), emails: Vec::new() })
    }

    /// Opens a session for each user.
    pub(crate) async fn log_in(&mut self) -> Result<()> {
        self.tokens = log_in(&self.address, &self.key, &self.users).await?;
        Ok(())
    }

    pub(crate) async fn give_passwords(&mut self) -> Result<()> {
        self.emails = give_passwords(&self.address, &self.key, &self.users).await?;
        Ok(())
    }

    /// Whom questions of a kind name.
    pub(crate) fn names(&self, kind: Kind) -> &[String] {
        match kind {
            _ if kind.by_session() => &self.tokens,
            _ if kind.by_password() => &self.emails,
            _ => &self.users,
        }
    }

    /// Every process that runs, the client among them.
    pub(crate) fn processes(&self) -> Result<Vec<Process>> {
        let status = self.stack.status()?;
        let processes = status["processes"].as_array().context("no processes")?;
        let running = processes.iter().filter(|process| process["state"] == "running");
        let named = running.filter_map(|process| {
            Some(Process { role: process["role"].as_str()?.into(), pid: process["pid"].as_i64()? })
        });
        let client = Process { role: "client".into(), pid: i64::from(std::process::id()) };
        Ok(named.chain(std::iter::once(client)).collect())
    }

    pub(crate) fn process(&self, role: &str) -> Result<Process> {
        let found = self.processes()?.into_iter().find(|process| process.role == role);
        found.with_context(|| format!("no {role} runs"))
    }

    /// The address of the stack's one server of a kind.
    pub(crate) fn server_url(&self, role: &str) -> Result<String> {
        let status = self.stack.status()?;
        let processes = status["processes"].as_array().context("no processes")?;
        let found = processes.iter().find(|process| process["role"] == role);
        text(&found.with_context(|| format!("no {role} in the stack"))?["url"])
    }
}

fn text(value: &Value) -> Result<String> {
    value.as_str().map(str::to_owned).context("a status of another form")
}
