//! `policy check`: whether the host lets a component in, what it says of itself, and whether settings fit it.

use super::{Component, replay};
use anyhow::Context;
use cellar_policy_host::{Host, HostLimits};
use std::path::PathBuf;
use std::time::Instant;

#[derive(Debug, clap::Args)]
pub(crate) struct CheckArguments {
    #[command(flatten)]
    component: Component,
    /// Settings that have to fit it; - is the standard input
    #[arg(long, value_name = "FILE.json")]
    settings: Option<PathBuf>,
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &CheckArguments) -> anyhow::Result<()> {
    let artifact = arguments.component.read()?;
    let host = Host::new(HostLimits::default())?;
    let began = Instant::now();
    let policy = host.load(&artifact).with_context(|| arguments.component.to_string())?;
    let load_ms = began.elapsed().as_secs_f64() * 1_000.0;
    if let Some(settings) = &arguments.settings {
        replay::configure(&policy, settings)?;
    }
    let description = policy.description();
    if arguments.json {
        let metadata: serde_json::Value = serde_json::from_str(policy.metadata())?;
        let checked = serde_json::json!({
            "digest": policy.digest().to_string(), "bytes": artifact.len(), "load_ms": load_ms, "metadata": metadata,
        });
        println!("{}", serde_json::to_string_pretty(&checked)?);
        return Ok(());
    }
    println!(
        "{} {}   counts {}, state schema {}",
        description.name, description.version, description.unit, description.state_schema
    );
    println!("{}   {} KiB, loaded in {load_ms:.0} ms", policy.digest(), artifact.len().div_ceil(1024));
    let members = description.settings_schema.get("properties").and_then(serde_json::Value::as_object);
    for (name, form) in members.into_iter().flatten() {
        let said = form.get("description").and_then(serde_json::Value::as_str).unwrap_or_default();
        println!("  {name:<16} {said}");
    }
    if arguments.settings.is_some() {
        println!("the settings fit it");
    }
    Ok(())
}
