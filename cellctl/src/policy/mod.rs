//! `cellctl policy`: what a policy's author does. Needs no server.

mod build;
mod replay;
mod toolchain;
mod watch;

pub(crate) use watch::Watch;

use std::path::PathBuf;

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

pub(crate) async fn run(command: PolicyCommand) -> anyhow::Result<()> {
    // Compilers and files block; nothing else runs meanwhile.
    tokio::task::spawn_blocking(move || match command {
        PolicyCommand::Build { crates, out } => build::build(&crates, &out),
        PolicyCommand::Run { component, settings, requests } => replay::replay(&component, &settings, &requests),
    })
    .await?
}
