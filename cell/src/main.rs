//! `cellar-cell`: the service of one cell.

mod accounts;
mod admin;
mod admissions;
mod app;
mod audits;
mod catalog;
mod conditions;
mod config;
mod decide;
mod lives;
mod lock;
mod peers;
mod public;
mod restored;
mod usage;
mod visits;

use clap::{Parser, Subcommand};
use config::CellConfig;
use std::path::PathBuf;
use std::process::ExitCode;

/// A fifth of the time went into the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "cellar-cell", about = "The service of one cell", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The cell's configuration
    #[arg(long, global = true, env = "CELLAR_CELL_CONFIG", default_value = "cell.toml")]
    config: PathBuf,
    /// Read and check the configuration, then exit
    #[arg(long)]
    check_config: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Bring the cell's Postgres to the newest schema, then exit
    Migrate,
    /// Make stores that were laid down from copies fit to be served from, before the first start: every shard
    /// turns, the processes that served from the originals are over. `cellctl cell restore` does this
    Restored(restored::TakeOver),
    /// What the ledger of a restored cell has, and which charges it has not
    Compare(restored::Compare),
}

fn main() -> ExitCode {
    match start(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line that says what to do about it: a taken port, a folder that cannot be written to.
            eprintln!("cellar-cell: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: Arguments) -> anyhow::Result<()> {
    let config = CellConfig::load(&arguments.config)?;
    if arguments.check_config {
        config.secrets()?;
        config.signatures()?;
        println!("{} is good", arguments.config.display());
        return Ok(());
    }
    cellar_server::runtime(config.worker_threads)?.block_on(async {
        match arguments.command {
            Some(Command::Migrate) => app::migrate(&config).await,
            Some(Command::Restored(asked)) => restored::take_over(&config, &asked).await,
            Some(Command::Compare(asked)) => restored::compare(&config, &asked).await,
            None => app::run(config).await,
        }
    })
}
