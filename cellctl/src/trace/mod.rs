//! Traces: real load, played again and reported on.

mod file;
mod generate;
mod people;
mod play;
mod report;

use anyhow::Context;
use cellar_model::TierName;
use clap::{Args, Subcommand};
use file::TraceRequest;
use people::Crowd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub(crate) use file::{CONTEXT, GENERATED, REQUESTS_MAX, TIME, each, time};
pub(crate) use people::zipf_senders_of;
pub(crate) use play::play;

#[derive(Subcommand)]
pub(crate) enum TraceCommand {
    /// Play a trace through the local stack, with users of its own
    Play {
        /// csv or csv.gz with a column of times and columns of tokens; a column of users is optional
        file: PathBuf,
        #[command(flatten)]
        how: HowArguments,
    },
    /// Write a trace of the shape of a real one
    Generate {
        #[arg(long, default_value_t = generate::REQUESTS)]
        requests: usize,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Where to; - is the standard output
        #[arg(long, default_value = "-")]
        out: PathBuf,
    },
}

#[derive(Args, Clone)]
pub(crate) struct HowArguments {
    /// Made-up users, when the trace has none
    #[arg(long, default_value_t = 1_000)]
    users: usize,
    /// Exponent of the Zipf law by which they ask
    #[arg(long, default_value_t = 1.1)]
    zipf: f64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Tiers with their shares in percent
    #[arg(long, default_value = "free=80,pro=17,enterprise=3")]
    tiers: String,
    /// Play in wall time, so many times as fast; by default in the trace's own time, as fast as it goes
    #[arg(long, value_name = "MULTIPLE")]
    wall: Option<f64>,
    #[arg(long)]
    json: bool,
}

/// A play: what, and how.
pub(crate) struct PlayArguments {
    file: Option<PathBuf>,
    how: HowArguments,
}

impl PlayArguments {
    /// With everything as it is by default.
    pub(crate) fn of(file: Option<PathBuf>, json: bool) -> Self {
        let tiers = "free=80,pro=17,enterprise=3".to_owned();
        Self { file, how: HowArguments { users: 1_000, zipf: 1.1, seed: 1, tiers, wall: None, json } }
    }

    fn crowd(&self) -> anyhow::Result<Crowd> {
        anyhow::ensure!((1..=1_000_000).contains(&self.how.users), "--users must be 1 to 1,000,000");
        let tiers = self.how.tiers.split(',').map(|part| {
            let (name, share) = part.split_once('=').context("--tiers is written free=80,pro=20")?;
            Ok((TierName::new(name.trim())?, share.trim().parse::<u32>().context("a tier's share is a number")?))
        });
        let tiers = tiers.collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Crowd { users: self.how.users, zipf: self.how.zipf, seed: self.how.seed, tiers })
    }
}

/// The requests of a play, read whole: nothing of a trace with an error is played.
pub(crate) fn requests(play: &PlayArguments) -> anyhow::Result<Vec<TraceRequest>> {
    match &play.file {
        Some(file) => file::read(file),
        None => {
            eprintln!(
                "  no trace given: one of {} requests is generated, gaps and tokens drawn from distributions \
                 fitted to an hour of a real conversation service",
                generate::REQUESTS
            );
            Ok(generate::generate(generate::REQUESTS, play.how.seed))
        }
    }
}

pub(crate) async fn run(folder: &Path, command: TraceCommand) -> anyhow::Result<ExitCode> {
    match command {
        TraceCommand::Play { file, how } => {
            let arguments = PlayArguments { file: Some(file), how };
            let requests = requests(&arguments)?;
            play(folder, arguments, requests).await
        }
        TraceCommand::Generate { requests, seed, out } => {
            anyhow::ensure!(
                (1..=file::REQUESTS_MAX).contains(&requests),
                "--requests must be 1 to {}",
                file::REQUESTS_MAX
            );
            let trace = generate::generate(requests, seed);
            if out.as_os_str() == "-" {
                generate::write(&trace, std::io::stdout().lock())?;
            } else {
                let file = std::fs::File::create(&out).with_context(|| format!("cannot write {}", out.display()))?;
                generate::write(&trace, std::io::BufWriter::new(file))?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}
