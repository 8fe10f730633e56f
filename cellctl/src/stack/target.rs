//! Which Cellar a command speaks to: a local stack, or a remote one by its admin URL.

use anyhow::Context;
use cellar_client::{Admin, Client, Credential};
use cellar_devstack::{Stack, StackState};
use std::path::Path;

pub(crate) struct Target {
    pub(crate) admin: Admin,
    /// Present for a local stack.
    pub(crate) local: Option<StackState>,
}

impl Target {
    /// `CELLAR_ADMIN_URL` with `CELLAR_KEY_FILE`, else the stack in `folder`.
    pub(crate) fn find(folder: &Path) -> anyhow::Result<Self> {
        if let Ok(url) = std::env::var("CELLAR_ADMIN_URL") {
            let file = std::env::var("CELLAR_KEY_FILE").context("CELLAR_ADMIN_URL needs CELLAR_KEY_FILE beside it")?;
            let key = std::fs::read_to_string(&file).with_context(|| format!("cannot read the key in {file}"))?;
            return Ok(Self { admin: Admin::new([url], Credential::new(key.trim()))?, local: None });
        }
        let stack = Stack::open(folder)?;
        let state = stack.state().clone();
        let key = state.operator_key.clone().context("the stack has not come up yet")?;
        let urls: Vec<&String> = state.regions.iter().map(|region| &region.admin_url).collect();
        Ok(Self { admin: Admin::new(urls, Credential::new(key))?, local: Some(state) })
    }

    /// A client of each region's door, in the order of the regions. Local stacks only.
    pub(crate) fn doors(&self) -> anyhow::Result<Vec<(String, Client)>> {
        let state = self.local.as_ref().context("this command needs a local stack (--stack)")?;
        let key = state.service_key.clone().context("the stack has not come up yet")?;
        let door = |n: usize| -> anyhow::Result<(String, Client)> {
            // The region's own first, the others after it.
            let urls = state.regions[n..].iter().chain(&state.regions[..n]).map(|region| &region.router_url);
            Ok((state.regions[n].name.clone(), Client::new(urls, Credential::new(key.clone()))?))
        };
        (0..state.regions.len()).map(door).collect()
    }
}
