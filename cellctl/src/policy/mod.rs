//! `cellctl policy`: what a policy's author does, without any server, and what a Cellar has of policies.

mod backtest;
mod bench;
mod build;
mod c_policy;
mod catalog;
mod certify;
mod check;
mod files;
mod key_files;
mod keys;
mod locked;
mod manifest;
mod new;
mod place;
mod publish;
mod replay;
mod show;
mod sign;
mod test;
mod toolchain;
mod watch;

pub(crate) use watch::Watch;

use anyhow::Context;
use cellar_model::{PolicyName, VersionNumber};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where `policy build` puts a component, and every later step looks for it: in the policy's own folder.
const BUILT: &str = "target/policy.wasm";

/// A built component.
#[derive(Debug, clap::Args)]
pub(crate) struct Component {
    /// The component, as `policy build` makes it
    #[arg(long, value_name = "FILE", default_value = BUILT)]
    component: PathBuf,
}

impl Component {
    fn path(&self) -> &Path {
        &self.component
    }

    fn read(&self) -> anyhow::Result<Vec<u8>> {
        if let Some(newer) = self.newer_source() {
            eprintln!("{} is newer than {self}: `cellctl policy build` makes that anew", newer.display());
        }
        std::fs::read(&self.component).with_context(|| {
            let makes_it = if self.component == Path::new(BUILT) { "; `cellctl policy build` makes it" } else { "" };
            format!("cannot read {self}{makes_it}")
        })
    }
}

impl Component {
    /// A source of the policy in whose folder this is, changed since the component was built.
    fn newer_source(&self) -> Option<PathBuf> {
        if self.component != Path::new(BUILT) {
            return None;
        }
        let changed = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        let built = changed(&self.component)?;
        let sources = std::fs::read_dir("src").into_iter().flatten().flatten().map(|entry| entry.path());
        // Its tests are no part of it.
        let sources = sources.filter(|path| path.file_name().is_some_and(|name| name != "tests.rs"));
        std::iter::once("Cargo.toml".into()).chain(sources).find(|path| changed(path).is_some_and(|at| at > built))
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.component.display().fmt(f)
    }
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum PolicyCommand {
    /// Write a new policy's folder: the policy, its tests, and all it needs to be built anywhere
    New(new::NewArguments),
    /// Compile policies to components
    Build {
        /// Folders of policies
        #[arg(default_value = ".", value_name = "PATH")]
        folders: Vec<PathBuf>,
        /// Put <NAME>.wasm there [default: target/policy.wasm in each policy's folder]
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Run a policy's own tests, then hold its component to the native code; exit status 1 if either fails
    Test(test::TestArguments),
    /// Whether the host lets a component in, what it says of itself, and whether settings fit it
    Check(check::CheckArguments),
    /// Test what it can be relied on for, by generated histories; exit status 1 if a property is broken
    Certify(certify::CertifyArguments),
    /// Ask again what was asked already, of a candidate and of the present tier: who would be denied
    ///
    /// Of the ledger of a Cellar, or of a trace. Exit status 2 if nothing could be said.
    Backtest(Box<backtest::BacktestArguments>),
    /// Keys that sign policies, and whose are trusted
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Sign a component, with its certificate if there is one
    Sign(sign::SignArguments),
    /// Whether somebody who is trusted has signed it; exit status 1 if not, 2 if that could not be said
    Verify(sign::VerifyArguments),
    /// Put a signed policy into a Cellar's catalog, or into a folder or a registry
    Publish(publish::PublishArguments),
    /// Fetch a policy from a folder or a registry, if somebody who is trusted has signed it
    Pull(publish::PullArguments),
    /// What a Cellar has of one policy: who signed it, what its certificate says, which slots decide by it
    Show {
        /// NAME, or NAME@1.4.2
        policy: show::Which,
        #[arg(long)]
        json: bool,
    },
    /// Let no version below this one decide any more. It never goes down again
    Floor {
        name: PolicyName,
        version: VersionNumber,
        #[arg(long)]
        json: bool,
    },
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
    ///
    /// A file that ends in .csv or .csv.gz has a header: a column `user` (if absent all are one user's), one of
    /// `at_us` (microseconds) or `timestamp` (a date and time, or seconds), `cost` or `tokens` (if absent each costs
    /// 1), `operation`, `held`, `held_at_us`. Any other column is an attribute of its name, and so is `attr.NAME` of
    /// the name NAME; an empty field gives none.
    Run(replay::RunArguments),
    /// How long a decision takes, and how much fuel it burns
    Bench(bench::BenchArguments),
}

pub(crate) async fn run(folder: &Path, command: PolicyCommand) -> anyhow::Result<ExitCode> {
    let done = |()| ExitCode::SUCCESS;
    match command {
        PolicyCommand::List { name, json } => catalog::list(folder, name.as_ref(), json).await.map(done),
        PolicyCommand::New(arguments) => blocking(move || new::run(&arguments).map(done)).await,
        PolicyCommand::Build { folders, out } => {
            blocking(move || build::build(&folders, out.as_deref()).map(done)).await
        }
        PolicyCommand::Test(arguments) => blocking(move || test::run(&arguments)).await,
        PolicyCommand::Keys(command) => {
            let stack = folder.to_owned();
            blocking(move || keys::run(&stack, command).map(done)).await
        }
        PolicyCommand::Sign(arguments) => {
            let stack = folder.to_owned();
            blocking(move || sign::sign(&stack, &arguments).map(done)).await
        }
        PolicyCommand::Verify(arguments) => sign::verify(folder, &arguments).await,
        PolicyCommand::Publish(arguments) => publish::publish(folder, arguments).await,
        PolicyCommand::Pull(arguments) => publish::pull(folder, arguments).await,
        PolicyCommand::Show { policy, json } => show::show(folder, &policy, json).await.map(done),
        PolicyCommand::Floor { name, version, json } => show::floor(folder, &name, version, json).await.map(done),
        PolicyCommand::Check(arguments) => blocking(move || check::run(&arguments).map(done)).await,
        PolicyCommand::Certify(arguments) => blocking(move || certify::run(&arguments)).await,
        PolicyCommand::Run(arguments) => blocking(move || replay::run(&arguments).map(done)).await,
        PolicyCommand::Bench(arguments) => blocking(move || bench::run(&arguments).map(done)).await,
        PolicyCommand::Backtest(arguments) => backtest::run(folder, *arguments).await,
    }
}

/// Compilers and files block; nothing else runs meanwhile.
async fn blocking(work: impl FnOnce() -> anyhow::Result<ExitCode> + Send + 'static) -> anyhow::Result<ExitCode> {
    tokio::task::spawn_blocking(work).await?
}
