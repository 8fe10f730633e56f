//! `cellar-router`: the service callers speak to. It knows which cell is whose home, and asks there.
//!
//! A library for the sake of the benchmarks, which measure [`Exceptions`]; nothing else uses it.

mod admin;
mod app;
mod cells;
mod conditions;
mod config;
mod flights;
mod follow;
mod forward;
mod metrics;
mod route;
#[cfg(test)]
mod tests;

pub use route::Exceptions;

use clap::Parser;
use config::RouterConfig;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cellar-router", about = "Takes every request to its user's home cell", version)]
struct Arguments {
    /// The router's configuration
    #[arg(long, env = "CELLAR_ROUTER_CONFIG", default_value = "router.toml")]
    config: PathBuf,
    /// Read and check the configuration and its secrets, say what would be done, and exit: 0, or 2 if it is unfit
    #[arg(long)]
    check_config: bool,
}

/// What an exit says: the configuration has to be mended first.
const UNFIT: u8 = 2;

/// The program, from its arguments to its end.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    // One line that says what to do about it: a taken port, a folder that cannot be written to.
    let say = |error: anyhow::Error| eprintln!("cellar-router: {error:#}");
    let config = match RouterConfig::load(&arguments.config).and_then(|config| {
        config.secrets()?;
        Ok(config)
    }) {
        Ok(config) => config,
        Err(error) => {
            say(error);
            return ExitCode::from(UNFIT);
        }
    };
    if arguments.check_config {
        println!("{} is good\n{}", arguments.config.display(), config.intent());
        return ExitCode::SUCCESS;
    }
    match serve(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(error);
            ExitCode::FAILURE
        }
    }
}

fn serve(config: RouterConfig) -> anyhow::Result<()> {
    cellar_server::runtime(config.worker_threads)?.block_on(app::run(config))
}
