//! `cellctl log-level`: which log lines a process writes, while it runs.

use crate::stack::Target;
use anyhow::Context;
use cellar_client::{Admin, Credential};
use std::path::Path;

/// Shows the filter of the process `name`, or changes it until the process ends.
pub(crate) async fn run(folder: &Path, name: &str, filter: Option<&str>) -> anyhow::Result<()> {
    let admin = admin_of(Target::find(folder)?, name)?;
    if let Some(filter) = filter {
        admin.set_log_level(filter).await?;
    }
    println!("{}", admin.log_level().await?);
    Ok(())
}

/// The admin listener of the process; where `CELLAR_ADMIN_URL` names one, that one.
fn admin_of(target: Target, name: &str) -> anyhow::Result<Admin> {
    let Some(state) = target.local else { return Ok(target.admin) };
    let process = state.processes.iter().find(|process| process.name == name);
    let process = process.with_context(|| format!("no process is named {name}; `cellctl status` names them"))?;
    let url = process.admin_url.as_ref().with_context(|| format!("{name} is none of Cellar's own programs"))?;
    let key = state.operator_key.context("the stack has not come up yet")?;
    Ok(Admin::new([url], Credential::new(key))?)
}
