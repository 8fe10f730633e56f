//! `policy certify`: every property of a component, by generated histories.

use super::Component;
use anyhow::{Context, ensure};
use cellar_certify::{Component as Certified, Plan, certify};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

const SETTINGS_MAX: usize = 64;

#[derive(Debug, clap::Args)]
pub(crate) struct CertifyArguments {
    #[command(flatten)]
    component: Component,
    /// Settings it is meant to be used with, tested beside those that are drawn from its schema
    #[arg(long, value_name = "FILE.json", num_args = 1..)]
    settings: Vec<PathBuf>,
    /// Histories a property is tested with
    #[arg(long, default_value_t = 500)]
    cases: u32,
    /// The same seed draws the same histories, on any machine
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the report there as well
    #[arg(long, value_name = "FILE.json")]
    out: Option<PathBuf>,
    #[arg(long)]
    json: bool,
}

/// Exit status 1 if a property is broken.
pub(super) fn run(arguments: &CertifyArguments) -> anyhow::Result<ExitCode> {
    ensure!(arguments.settings.len() <= SETTINGS_MAX, "at most {SETTINGS_MAX} files of settings");
    let artifact = arguments.component.read()?;
    let subject = Certified::load(&artifact).with_context(|| arguments.component.to_string())?;
    let settings = arguments.settings.iter().map(|path| {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str::<Value>(&text).with_context(|| path.display().to_string())
    });
    let plan = Plan { cases: arguments.cases, seed: arguments.seed, settings: settings.collect::<Result<_, _>>()? };
    let began = Instant::now();
    let report = certify(&subject, Some(subject.policy().digest().to_string()), &plan)?;
    let json = serde_json::to_string_pretty(&report)?;
    if let Some(path) = &arguments.out {
        fs::write(path, &json).with_context(|| format!("cannot write {}", path.display()))?;
    }
    if arguments.json {
        println!("{json}");
    } else {
        println!("{report}");
        println!("  {:.1} s", began.elapsed().as_secs_f64());
    }
    Ok(if report.certified() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
