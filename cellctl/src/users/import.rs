//! `cellctl users import`: batches of lines, several under way at once.

use super::lines::{Batch, Lines};
use super::report::{Counts, Report};
use crate::stack::Target;
use crate::table::grouped;
use anyhow::{Context, bail};
use cellar_client::{Admin, ClientError};
use cellar_model::wire::{BringUsers, Brought, BroughtUser};
use clap::Args;
use futures::StreamExt;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Calls under way: enough to keep some cells busy while one of them waits.
const CALLS_MAX: usize = 4;
/// For an answer that is known. To repeat changes nothing.
const PATIENCE: Duration = Duration::from_secs(60);
const AGAIN_AFTER: Duration = Duration::from_millis(500);
const SAY_EVERY: Duration = Duration::from_secs(1);

/// Lines were left out.
const LEFT_OUT: u8 = 1;

#[derive(Args)]
pub(crate) struct ImportArguments {
    file: PathBuf,
    /// Where the lines that were left out are listed, with what is wrong; FILE.report.jsonl, if it is not said
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print the counts as a document
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(folder: &Path, arguments: ImportArguments) -> anyhow::Result<ExitCode> {
    match import(folder, &arguments).await {
        Ok(counts) if counts.left_out() == 0 => Ok(ExitCode::SUCCESS),
        Ok(_) => Ok(ExitCode::from(LEFT_OUT)),
        Err(error) => {
            eprintln!("cellctl: {error:#}\nrun it again: what was brought stays, and is not brought twice");
            Ok(ExitCode::from(2))
        }
    }
}

async fn import(folder: &Path, arguments: &ImportArguments) -> anyhow::Result<Counts> {
    let admin = Target::find(folder)?.admin;
    let file = &arguments.file;
    let open = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut lines = Lines::new(BufReader::new(open));
    let mut report = Report::create(&arguments.report.clone().unwrap_or_else(|| report_of(file)))?;
    let began = Instant::now();
    let mut said = began;
    let mut calls = futures::stream::FuturesUnordered::new();
    let mut more = true;
    loop {
        while more && calls.len() < CALLS_MAX {
            let mut bad = Vec::new();
            let batch =
                lines.batch(|line| bad.push(line)).with_context(|| format!("cannot read {}", file.display()))?;
            bad.iter().try_for_each(|line| report.bad(line))?;
            match batch {
                Some(batch) => calls.push(bring(&admin, batch)),
                None => more = false,
            }
        }
        let Some(brought) = calls.next().await else { break };
        for (line, brought) in brought? {
            report.brought(line, &brought)?;
        }
        if said.elapsed() >= SAY_EVERY {
            said = Instant::now();
            say(&report.counts, began);
        }
    }
    report.end()?;
    say(&report.counts, began);
    let counts = report.counts;
    if arguments.json {
        let mut document = serde_json::to_value(counts)?;
        document["seconds"] = began.elapsed().as_secs_f64().into();
        document["report"] = report.path.display().to_string().into();
        println!("{document}");
    } else if counts.left_out() > 0 {
        println!("{} lines were left out: {} says which, and why", grouped(counts.left_out()), report.path.display());
    }
    Ok(counts)
}

/// A batch until each of its users is known, or patience ends.
async fn bring(admin: &Admin, batch: Batch) -> anyhow::Result<Vec<(u64, Brought)>> {
    let (numbers, mut users): (Vec<u64>, Vec<BroughtUser>) = batch.into_iter().unzip();
    let (mut waiting, until) = (numbers.clone(), Instant::now() + PATIENCE);
    let mut known = Vec::with_capacity(numbers.len());
    loop {
        let asked = BringUsers { users };
        let answer = admin.bring(&asked).await;
        let late = Instant::now() >= until;
        let results = match answer {
            Ok(results) if results.len() == waiting.len() => results,
            Ok(_) => bail!("the answer is of another number of users"),
            Err(error @ ClientError::NoAnswer { .. }) if late => return Err(error.into()),
            Err(error) if error.is_unknown() => vec![Brought::again(error.to_string()); waiting.len()],
            Err(error) => return Err(error.into()),
        };
        let all = waiting.into_iter().zip(asked.users).zip(results);
        (waiting, users) = (Vec::new(), Vec::new());
        for ((number, user), brought) in all {
            match brought {
                Brought::Again { .. } if !late => {
                    waiting.push(number);
                    users.push(user);
                }
                brought => known.push((number, brought)),
            }
        }
        if waiting.is_empty() {
            return Ok(known);
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

fn say(counts: &Counts, began: Instant) {
    let seconds = began.elapsed().as_secs_f64().max(0.001);
    let a_second = (counts.all() as f64 / seconds) as u64;
    eprintln!(
        "{} lines in {seconds:.0} s ({a_second}/s): {} created, {} unchanged, {} conflicts, {} bad, {} unknown",
        grouped(counts.all()),
        grouped(counts.created),
        grouped(counts.unchanged),
        grouped(counts.conflicts),
        grouped(counts.invalid),
        grouped(counts.unknown)
    );
}

fn report_of(file: &Path) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".report.jsonl");
    file.with_file_name(name)
}
