//! `cellctl doctor`: what is degraded, since when, who is hit, what to do next.

mod advice;
mod causes;
mod hit;
mod look;
mod report;

use crate::fleet::{Fleet, FleetArguments};
use clap::Args;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

/// All is well; users are served, but less well; users are refused.
const DEGRADED: u8 = 1;
const FAILING: u8 = 2;

#[derive(Args)]
pub(crate) struct DoctorArguments {
    #[command(flatten)]
    fleet: FleetArguments,
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(folder: &Path, arguments: DoctorArguments) -> anyhow::Result<ExitCode> {
    let fleet = Fleet::find(folder, &arguments.fleet).await?;
    let began = Instant::now();
    let seen = look::look(&fleet).await?;
    let took = began.elapsed();
    let mut causes = causes::deduce(&seen);
    for cause in &mut causes {
        cause.hit = hit::hit(cause, &fleet);
        cause.next = advice::next(cause, fleet.local.is_some());
    }
    // The worst first.
    causes.sort_by_key(|cause| (!cause.failing, cause.since_ms.unwrap_or(u64::MAX)));
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report::json(&seen, &causes, took))?);
    } else {
        print!("{}", report::text(&seen, &causes, took));
    }
    Ok(ExitCode::from(match causes.iter().map(|cause| cause.failing).max() {
        None => 0,
        Some(false) => DEGRADED,
        Some(true) => FAILING,
    }))
}
