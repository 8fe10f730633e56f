//! `policy backtest`: what was asked already, asked of a candidate and of the present tier side by side.
//!
//! `requests` is what is asked, from `traces` or the `ledger`; `sides` are the two tiers; `replay` asks, by the
//! code that cells decide with, and `tally` counts; `report` is what came of it, `text` and `page` show it.

mod chart;
mod ledger;
mod page;
mod replay;
mod report;
mod requests;
mod sides;
mod tally;
#[cfg(test)]
mod tests;
mod text;
mod traces;

use crate::stack::Target;
use anyhow::{Context, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use ledger::{Since, Window};
use report::{Report, Source};
use requests::Requests;
use sides::{SideArguments, Sides};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use traces::TraceArguments;

/// Nothing can be said of the candidate.
const NOT_SAID: u8 = 2;

#[derive(Debug, clap::Args)]
pub(crate) struct BacktestArguments {
    #[command(flatten)]
    sides: SideArguments,
    #[command(flatten)]
    traced: TraceArguments,
    /// Ask again what the ledger has, so far back from its newest entry or from this moment on
    #[arg(long, value_name = "7d|12h|TIME", value_parser = ledger::since, default_value = "7d", conflicts_with = "trace")]
    since: Since,
    /// Of the ledger before that, what is asked without being counted, so that nobody begins rested
    #[arg(long, value_name = "31d|12h", value_parser = ledger::length, default_value = "31d", conflicts_with = "trace")]
    warm_up: u64,
    /// Write a page with charts there as well
    #[arg(long, value_name = "FILE.html")]
    html: Option<PathBuf>,
    /// Exit status 1 if more than so many percent of the requests are newly denied
    #[arg(long, value_name = "PERCENT")]
    newly_denied_max: Option<f64>,
    #[arg(long)]
    json: bool,
}

/// Exit status 1 for more than `--newly-denied-max`, 2 if nothing could be said.
pub(super) async fn run(folder: &Path, arguments: BacktestArguments) -> anyhow::Result<ExitCode> {
    match backtest(folder, &arguments).await {
        Ok(report) => {
            let allowed = arguments.newly_denied_max.is_none_or(|most| report.newly_denied_percent() <= most);
            Ok(if allowed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Err(error) => {
            crate::complain(&error);
            Ok(ExitCode::from(NOT_SAID))
        }
    }
}

async fn backtest(folder: &Path, arguments: &BacktestArguments) -> anyhow::Result<Report> {
    if let Some(most) = arguments.newly_denied_max {
        ensure!((0.0..=100.0).contains(&most), "--newly-denied-max is a percentage, 0 to 100");
    }
    let needs_cellar = arguments.traced.path().is_none() || arguments.sides.needs_cellar();
    let target = if needs_cellar { Some(Target::find(folder).context(NO_CELLAR)?) } else { None };
    let sides = arguments.sides.open(target.as_ref()).await?;
    let (requests, source) = arguments.requests(target.as_ref(), &sides).await?;
    let report = tokio::task::spawn_blocking(move || replayed(&sides, &requests, source)).await?;
    if let Some(path) = &arguments.html {
        write_whole(path, &page::page(&report))?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    Ok(report)
}

const NO_CELLAR: &str = "a backtest without a Cellar needs --trace, --current and --candidate";

impl BacktestArguments {
    async fn requests(&self, target: Option<&Target>, sides: &Sides) -> anyhow::Result<(Requests, Source)> {
        if let Some(path) = self.traced.path() {
            let traced = self.traced.read(path)?;
            let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            let said = format!("of the trace {name}");
            return Ok((traced.requests, Source { said, notes: trace_notes(traced.out_of_order, traced.made_up) }));
        }
        let target = target.context(NO_CELLAR)?;
        let window = Window { since: self.since, warm_up_us: self.warm_up };
        let requests = ledger::read(target, &sides.tiers[0].document.name, &window).await?;
        let notes = LEDGER_NOTES.map(str::to_owned).to_vec();
        Ok((requests, Source { said: "of the ledger".into(), notes }))
    }
}

const LEDGER_NOTES: [&str; 4] = [
    "the ledger has what was admitted: what was denied then is not asked again, so a more generous candidate shows less than it would admit",
    "users are those who are in the tier now; they begin rested where the warm-up begins",
    "attributes are not in the ledger: policies that look at them are asked without",
    "a settle is asked with what was really used, and expiries come by each side's own tier; what was charged late counts at the time at which it was asked",
];

fn trace_notes(out_of_order: usize, made_up: bool) -> Vec<String> {
    let mut notes = vec!["users begin rested where the trace begins".to_owned()];
    if made_up {
        notes.push("the trace has no users: they are made up, by a Zipf law".into());
    }
    if out_of_order > 0 {
        notes.push(format!("{out_of_order} lines came out of order; each user's were sorted by time"));
    }
    notes
}

fn replayed(sides: &Sides, requests: &Requests, source: Source) -> Report {
    let style = ProgressStyle::with_template("  {msg} {wide_bar} {pos}/{len} {per_sec} eta {eta}");
    let bar = ProgressBar::new(requests.len() as u64).with_message("requests");
    let bar = style.map_or(bar.clone(), |style| bar.with_style(style));
    let began = Instant::now();
    let tally = replay::replay(sides, requests, &bar);
    let took = began.elapsed();
    bar.finish_and_clear();
    Report::new(sides, requests, source, tally, took)
}

/// Under its name a page is a whole one.
fn write_whole(path: &Path, text: &str) -> anyhow::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".part");
    let written = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path));
    written.with_context(|| format!("cannot write {}", path.display()))
}
