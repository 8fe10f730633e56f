//! `policy certify`: every property of a component, by generated histories.

use super::Component;
use anyhow::{Context, ensure};
use cellar_certify::{Component as Certified, Differs, Plan, Report, Subject, certify_beside};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

const SETTINGS_MAX: usize = 64;
/// A report has some ten thousand, and counterexamples a few more.
const REPORT_BYTES_MAX: u64 = 4 << 20;

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
    /// The version before it: whether each reads the states that the other has written
    #[arg(long, value_name = "FILE.wasm")]
    previous: Option<PathBuf>,
    /// A report of the same component, of another machine: exit status 1 if it answered or burnt anything else
    #[arg(long, value_name = "REPORT.json")]
    against: Option<PathBuf>,
    /// Write the report there as well
    #[arg(long, value_name = "FILE.json")]
    out: Option<PathBuf>,
    #[arg(long)]
    json: bool,
}

/// Nothing can be said of how the two reports compare.
const NOT_COMPARED: u8 = 2;

/// Exit status 1 if a property is broken, or the report to compare with says anything else.
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
    let previous = arguments.previous.as_deref().map(load).transpose()?;
    if let Some(previous) = &previous {
        let (own, before) = (&subject.about().name, &previous.about().name);
        ensure!(own == before, "{own} has no version before it in {before}");
    }
    // Read before the work: a wrong name is said at once.
    let against = arguments.against.as_deref().map(read_report).transpose()?;
    let digest = Some(subject.policy().digest().to_string());
    let report = certify_beside(&subject, digest, previous.as_ref().map(|one| one as &dyn Subject), &plan)?;
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
    let compared = against.map_or(ExitCode::SUCCESS, |against| compare(&report, &against));
    Ok(if report.certified() { compared } else { ExitCode::FAILURE })
}

fn load(path: &Path) -> anyhow::Result<Certified> {
    let artifact = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Certified::load(&artifact).with_context(|| path.display().to_string())
}

fn read_report(path: &Path) -> anyhow::Result<Report> {
    let read = || -> anyhow::Result<Report> {
        let bytes = fs::metadata(path)?.len();
        ensure!(bytes <= REPORT_BYTES_MAX, "it has {bytes} bytes, more than {REPORT_BYTES_MAX}");
        Ok(serde_json::from_str(&fs::read_to_string(path)?)?)
    };
    read().with_context(|| format!("{} is no report that can be read", path.display()))
}

/// What it says goes to where errors go: the report itself may be on its way to a file.
fn compare(report: &Report, against: &Report) -> ExitCode {
    let (Some(own), Some(other)) = (&report.fingerprint, &against.fingerprint) else {
        eprintln!("one of the reports has no fingerprint: make it again with this version");
        return ExitCode::from(NOT_COMPARED);
    };
    if report.digest != against.digest {
        eprintln!("the reports are of other components: {:?} and {:?}", report.digest, against.digest);
        return ExitCode::from(NOT_COMPARED);
    }
    match own.differs(other) {
        None => {
            eprintln!("the same outcomes and the same fuel, in all of {} calls", own.calls);
            ExitCode::SUCCESS
        }
        Some(Differs::Histories) => {
            eprintln!("{}", Differs::Histories);
            ExitCode::from(NOT_COMPARED)
        }
        Some(differs) => {
            eprintln!("{differs}");
            ExitCode::FAILURE
        }
    }
}
