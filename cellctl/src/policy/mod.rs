//! `cellctl policy`: what a policy's author does, without any server, and what a Cellar has of policies.

mod build;
mod catalog;
mod certify;
mod check;
mod key_files;
mod keys;
mod place;
mod publish;
mod replay;
mod show;
mod sign;
mod toolchain;
mod watch;

pub(crate) use watch::Watch;

use anyhow::Context;
use cellar_model::{PolicyName, VersionNumber};
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// A built component.
#[derive(Debug, clap::Args)]
pub(crate) struct Component {
    #[arg(long, value_name = "FILE", default_value = "target/policy.wasm")]
    component: PathBuf,
}

impl Component {
    fn path(&self) -> &Path {
        &self.component
    }

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
        PolicyCommand::Build { crates, out } => blocking(move || build::build(&crates, &out).map(done)).await,
        PolicyCommand::Check(arguments) => blocking(move || check::run(&arguments).map(done)).await,
        PolicyCommand::Certify(arguments) => blocking(move || certify::run(&arguments)).await,
        PolicyCommand::Run { component, settings, requests } => {
            blocking(move || replay::replay(&component, &settings, &requests).map(done)).await
        }
    }
}

/// Compilers and files block; nothing else runs meanwhile.
async fn blocking(work: impl FnOnce() -> anyhow::Result<ExitCode> + Send + 'static) -> anyhow::Result<ExitCode> {
    tokio::task::spawn_blocking(work).await?
}
