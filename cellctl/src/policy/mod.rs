//! `cellctl policy`: what a policy's author does, without any server, and what a Cellar has of policies.

mod backtest;
mod build;
mod catalog;
mod certify;
mod check;
mod replay;
mod toolchain;
mod watch;

pub(crate) use watch::Watch;

use anyhow::Context;
use cellar_model::PolicyName;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A built component.
#[derive(Debug, clap::Args)]
pub(crate) struct Component {
    #[arg(long, value_name = "FILE")]
    component: PathBuf,
}

impl Component {
    fn read(&self) -> anyhow::Result<Vec<u8>> {
        std::fs::read(&self.component).with_context(|| format!("cannot read {self}"))
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.component.display().fmt(f)
    }
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum PolicyCommand {
    /// Compile policy crates to components
    Build {
        /// Folders of policy crates
        #[arg(required = true, value_name = "PATH")]
        crates: Vec<PathBuf>,
        /// Where <NAME>.wasm goes
        #[arg(long, value_name = "DIR", default_value = "target/policies")]
        out: PathBuf,
    },
    /// Whether the host lets a component in, what it says of itself, and whether settings fit it
    Check(check::CheckArguments),
    /// Test what it can be relied on for, by generated histories; exit status 1 if a property is broken
    Certify(certify::CertifyArguments),
    /// Ask again what was asked already, of a candidate and of the present tier: who would be denied
    ///
    /// Of the ledger of a Cellar, or of a trace. Exit status 2 if nothing could be said.
    Backtest(Box<backtest::BacktestArguments>),
    /// The versions a Cellar has, and the slots that decide by them
    List {
        name: Option<PolicyName>,
        #[arg(long)]
        json: bool,
    },
    /// Ask a component, line by line, keeping each user's state
    ///
    /// A line {"user","operation","at_us","cost"} in, a line {"admitted","limit","remaining",
    /// "retry_after_us","reset_after_us"} out. The operation is consume if absent; a settle also has
    /// "held" and "held_at_us"; "attributes" is a map of strings.
    Run {
        #[arg(long, value_name = "FILE")]
        component: PathBuf,
        /// The policy's settings; - is the standard input
        #[arg(long, value_name = "FILE.json")]
        settings: PathBuf,
        /// The requests; - is the standard input
        #[arg(long, value_name = "FILE.jsonl")]
        requests: PathBuf,
    },
}

pub(crate) async fn run(folder: &Path, command: PolicyCommand) -> anyhow::Result<ExitCode> {
    let done = |()| ExitCode::SUCCESS;
    match command {
        PolicyCommand::List { name, json } => catalog::list(folder, name.as_ref(), json).await.map(done),
        PolicyCommand::Build { crates, out } => blocking(move || build::build(&crates, &out).map(done)).await,
        PolicyCommand::Check(arguments) => blocking(move || check::run(&arguments).map(done)).await,
        PolicyCommand::Certify(arguments) => blocking(move || certify::run(&arguments)).await,
        PolicyCommand::Backtest(arguments) => backtest::run(folder, *arguments).await,
        PolicyCommand::Run { component, settings, requests } => {
            blocking(move || replay::replay(&component, &settings, &requests).map(done)).await
        }
    }
}

/// Compilers and files block; nothing else runs meanwhile.
async fn blocking(work: impl FnOnce() -> anyhow::Result<ExitCode> + Send + 'static) -> anyhow::Result<ExitCode> {
    tokio::task::spawn_blocking(work).await?
}
