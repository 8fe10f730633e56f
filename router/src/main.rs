//! `cellar-router`: the service callers speak to. It knows which cell is whose home, and asks there.

mod admin;
mod app;
mod cells;
mod config;
mod disk;
mod follow;
mod forward;
mod metrics;
mod route;
#[cfg(test)]
mod tests;

use clap::Parser;
use config::RouterConfig;
use std::path::PathBuf;
use std::process::ExitCode;

/// A fifth of the time went into the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "cellar-router", about = "Takes every request to its user's home cell", version)]
struct Arguments {
    /// The router's configuration
    #[arg(long, env = "CELLAR_ROUTER_CONFIG", default_value = "router.toml")]
    config: PathBuf,
    /// Read and check the configuration, then exit
    #[arg(long)]
    check_config: bool,
}

fn main() -> ExitCode {
    match start(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line that says what to do about it: a taken port, a folder that cannot be written to.
            eprintln!("cellar-router: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &Arguments) -> anyhow::Result<()> {
    let config = RouterConfig::load(&arguments.config)?;
    if arguments.check_config {
        config.secrets()?;
        println!("{} is good", arguments.config.display());
        return Ok(());
    }
    cellar_server::runtime(config.worker_threads)?.block_on(app::run(config))
}
