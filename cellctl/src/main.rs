//! `cellctl`: the command line of operators, policy authors and local stacks.

mod audit;
mod backup;
mod books;
mod difference;
mod directory;
mod doctor;
mod explain;
mod fleet;
mod instances;
mod keys;
mod ledger;
mod log_level;
mod metrics_text;
mod policy;
mod registry;
mod seed;
mod slo;
mod stack;
mod table;
mod tier;
mod top;
mod topology;
mod trace;
mod user;
mod users;
mod world;

use cellar_client::ClientError;
use clap::{CommandFactory, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "cellctl", version, about = "Run, look at and change a Cellar")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The local stack's folder [default: .cellar]
    #[arg(long, global = true, value_name = "DIR", env = "CELLAR_STACK")]
    stack: Option<PathBuf>,
}

/// Where a stack is if nobody says where.
const STACK: &str = ".cellar";

#[derive(Subcommand)]
enum Command {
    /// Start a world of regions and cells on this machine
    Up(stack::UpArguments),
    /// One cell, reachable without a router
    #[command(subcommand)]
    Cell(stack::CellCommand),
    /// Start a world, play a trace through it, and show how to go on
    Run(stack::RunArguments),
    /// What runs, and where
    Status {
        #[arg(long)]
        json: bool,
    },
    /// End the stack; its data stays
    Down {
        /// Delete its data too
        #[arg(long)]
        delete: bool,
    },
    /// Print a process's log
    Logs { name: String },
    /// Show or change which log lines a process writes, until it ends
    LogLevel {
        /// As `status` names it
        name: String,
        /// `info`, `debug`, or `info,cellar_quota=debug`
        filter: Option<String>,
    },
    /// End a process, or all of a role; nothing starts it again but `restart`
    Stop { name: String },
    /// Start a process, or all of a role, on the same ports and folder
    Restart { name: String },
    /// Users
    #[command(subcommand)]
    User(user::UserCommand),
    /// Tiers: what users may spend
    #[command(subcommand)]
    Tier(tier::TierCommand),
    /// The topology: which regions and cells there are
    #[command(subcommand)]
    Topology(topology::TopologyCommand),
    /// The stack as a file says it should be
    #[command(subcommand)]
    World(world::WorldCommand),
    /// Policies: what decides it
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Many users at once
    #[command(subcommand)]
    Users(users::UsersCommand),
    /// Service and operator keys, and those of session tokens
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Traces: real load, played again
    #[command(subcommand)]
    Trace(trace::TraceCommand),
    /// The ledger by months: what there is, and its export
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// The processes of each cell
    #[command(subcommand)]
    Instance(instances::InstanceCommand),
    /// The shards of each cell
    #[command(subcommand)]
    Shard(instances::ShardCommand),
    /// The directory: its schema, and what it says beside what cells say
    #[command(subcommand)]
    Directory(directory::DirectoryCommand),
    /// Compare the books of every cell, user by user
    Audit {
        #[arg(long)]
        json: bool,
    },
    /// What is degraded, since when, who is hit, what to do next; exit status 1 if users are served less well, 2 if
    /// some are refused
    Doctor(doctor::DoctorArguments),
    /// What became of a request, as long as a cell remembers it: exit status 1 if none does
    Explain(explain::ExplainArguments),
    /// Regions, cells and shards as they are this second, again and again
    Top(top::TopArguments),
    /// What was promised and what was kept: exit status 1 if a promise was broken
    Slo(slo::SloArguments),
    /// What a shell needs to complete these commands
    Completions { shell: clap_complete::Shell },
}

/// What a shell says of a program that was ended by SIGPIPE.
const READER_GONE: i32 = 128 + 13;

/// A reader that has seen enough (`cellctl user list | head`) ends us like any other program: quietly.
fn end_with_the_reader() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let said = panic.payload_as_str().unwrap_or_default();
        if said.starts_with("failed printing to std") && said.contains("Broken pipe") {
            std::process::exit(READER_GONE);
        }
        report(panic);
    }));
}

fn main() -> ExitCode {
    end_with_the_reader();
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("cellctl: no runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(arguments)) {
        Ok(code) => code,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Says what went wrong, and where to look when nobody answered.
fn complain(error: &anyhow::Error) {
    eprintln!("cellctl: {error:#}");
    if error.chain().any(|cause| matches!(cause.downcast_ref(), Some(ClientError::NoAnswer { .. }))) {
        eprintln!(
            "`cellctl status` says what runs; `cellctl up` (of a cell that is alone `cellctl cell up`) or `cellctl \
             restart NAME` starts what does not"
        );
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let stack = arguments.stack;
    let folder = stack.clone().unwrap_or_else(|| STACK.into());
    match arguments.command {
        Command::Up(up) => stack::up(&folder, up).await?,
        Command::Cell(command) => return stack::cell(stack.as_deref(), &folder, command).await,
        Command::Run(run) => return stack::run(&folder, run).await,
        Command::Status { json } => stack::status(&folder, json)?,
        Command::Down { delete } => stack::down(&folder, delete).await?,
        Command::Logs { name } => stack::logs(&folder, &name)?,
        Command::LogLevel { name, filter } => log_level::run(&folder, &name, filter.as_deref()).await?,
        Command::Stop { name } => stack::stop(&folder, &name).await?,
        Command::Restart { name } => stack::restart(&folder, &name).await?,
        Command::User(command) => user::run(&folder, command).await?,
        Command::Tier(command) => return tier::run(&folder, command).await,
        Command::Topology(command) => return topology::run(&folder, command).await,
        Command::World(command) => world::run(&folder, command).await?,
        Command::Policy(command) => return policy::run(&folder, command).await,
        Command::Users(command) => return users::run(&folder, command).await,
        Command::Keys(command) => keys::run(&folder, command).await?,
        Command::Trace(command) => return trace::run(&folder, command).await,
        Command::Ledger(command) => ledger::run(&folder, command).await?,
        Command::Instance(command) => instances::instance(&folder, command).await?,
        Command::Shard(command) => instances::shard(&folder, command).await?,
        Command::Directory(command) => return directory::run(&folder, command).await,
        Command::Audit { json } => return audit::run(&folder, json).await,
        Command::Doctor(arguments) => return doctor::run(&folder, arguments).await,
        Command::Explain(arguments) => return explain::run(&folder, arguments).await,
        Command::Top(arguments) => top::run(&folder, arguments).await?,
        Command::Slo(arguments) => return slo::run(&folder, arguments).await,
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "cellctl", &mut std::io::stdout());
        }
    }
    Ok(ExitCode::SUCCESS)
}
