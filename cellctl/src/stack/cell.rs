//! One cell on a laptop: up with users in it, watched policies, copies to come back to.

use super::given_keys::GivenKeys;
use super::{HowArguments, Session, bootstrap, held_world, run_session};
use crate::backup::{self, BackupArguments, RestoreArguments};
use crate::policy::Watch;
use crate::seed::Seed;
use crate::stack::Progress;
use anyhow::{Context, bail};
use cellar_devstack::{Door, Snapshot, Stack, World};
use clap::{Args, Subcommand};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

#[derive(Subcommand)]
pub(crate) enum CellCommand {
    /// Start one cell with its own stores
    Up(CellUpArguments),
    /// Back to a cell that nobody has used: its data goes, its ports, keys and snapshots stay
    Reset {
        /// Tiers and users to begin with, as for `cell up`
        #[arg(long, value_name = "FILE")]
        seed: Option<PathBuf>,
    },
    /// Keep the cell's data under a name, in the place of what was kept under it before
    Snapshot { name: String },
    /// Put the data of a snapshot in the place of what there is
    Load { name: String },
    /// Copy a cell that serves on into DIR: all of it, or, into a DIR that holds a backup of it, what has been
    /// written since
    Backup(BackupArguments),
    /// Lay a cell down from a backup: into a folder that holds no stack, or in the place of a cell of a world
    /// whose data is gone
    Restore(RestoreArguments),
    /// The snapshots there are
    Snapshots {
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
pub(crate) struct CellUpArguments {
    #[command(flatten)]
    how: HowArguments,
    /// Tiers, users and preferences to begin with: TOML, or JSON. What is there already stays as it is
    #[arg(long, value_name = "FILE")]
    seed: Option<PathBuf>,
    /// Folders of policy crates: whenever one changes, it is built, asked by its own tests, and put in force
    #[arg(long, value_name = "FOLDER", num_args = 1.., conflicts_with = "detach")]
    watch: Vec<PathBuf>,
    /// Delete everything when the cell ends. Without --stack, in a folder of its own
    #[arg(long)]
    ephemeral: bool,
    #[command(flatten)]
    door: DoorArguments,
    #[command(flatten)]
    keys: GivenKeys,
}

/// Where the cell listens; what is not said is as the stack in the folder has it.
#[derive(Args)]
struct DoorArguments {
    /// 127.0.0.1, or 0.0.0.0 for every address of the machine, which needs --allow-plaintext
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<Ipv4Addr>,
    /// Where callers ask; a free port, if it is not said
    #[arg(long)]
    port: Option<u16>,
    /// Of the admin listener; a free port, if it is not said
    #[arg(long)]
    admin_port: Option<u16>,
    /// Serve beyond this machine without TLS: for containers on a laptop
    #[arg(long)]
    allow_plaintext: bool,
}

impl DoorArguments {
    fn door(&self, held: Door) -> Door {
        Door {
            listen: self.listen.or(held.listen),
            port: self.port.or(held.port),
            admin_port: self.admin_port.or(held.admin_port),
            allow_plaintext: self.allow_plaintext || held.allow_plaintext,
        }
    }
}

/// `stack`: where it was said to be, if it was.
pub(crate) async fn cell(stack: Option<&Path>, folder: &Path, command: CellCommand) -> anyhow::Result<ExitCode> {
    match command {
        CellCommand::Backup(arguments) => return backup::backup(folder, arguments).await,
        CellCommand::Restore(arguments) => return backup::restore(folder, arguments).await,
        CellCommand::Up(arguments) => up(stack, folder, arguments).await?,
        CellCommand::Reset { seed } => reset(folder, seed.as_deref()).await?,
        CellCommand::Snapshot { name } => {
            let began = Instant::now();
            let snapshot = Stack::open(folder)?.snapshot(&name).await?;
            println!("kept as {name}: {} in {:.1} s", size(snapshot.bytes), began.elapsed().as_secs_f64());
        }
        CellCommand::Load { name } => {
            let began = Instant::now();
            Stack::open(folder)?.load(&name).await?;
            println!("the stack is as it was in {name}, in {:.1} s", began.elapsed().as_secs_f64());
        }
        CellCommand::Snapshots { json } => snapshots(&Stack::open(folder)?.snapshots()?, json)?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn up(stack: Option<&Path>, folder: &Path, arguments: CellUpArguments) -> anyhow::Result<()> {
    let CellUpArguments { how, seed, watch, ephemeral, door, keys } = arguments;
    // Before anything starts.
    let seed = seed.as_deref().map(Seed::read).transpose()?;
    let keys = keys.read()?;
    let watch = if watch.is_empty() { None } else { Some(Watch::new(&watch)?) };
    let own;
    let folder = match stack {
        None if ephemeral && how.detach => {
            bail!("an ephemeral cell in the background has to be found again: say where, with --stack DIR")
        }
        None if ephemeral => {
            own = cellar_devstack::temporary_folder()?;
            own.path()
        }
        _ => folder,
    };
    let held = held_world(folder).filter(|world| world.single && !world.ephemeral).unwrap_or_else(World::single_cell);
    let door = door.door(held.door);
    let world = World { ephemeral, door, ..how.shape.applied_to(held) };
    run_session(Session { folder, world, how: &how, seed, watch, keys }).await
}

async fn reset(folder: &Path, seed: Option<&Path>) -> anyhow::Result<()> {
    let seed = seed.map(Seed::read).transpose()?;
    if let Some(seed) = &seed {
        // Before anything goes: afterwards there are no other tiers.
        seed.fits_tiers(&bootstrap::tiers()?)?;
    }
    let progress = Progress::new();
    Stack::open(folder)?.reset(bootstrap::bootstrap, |step| progress.say(step)).await?;
    if let Some(seed) = seed {
        seed.plant(folder, &progress).await.context(
            "the stack is as new, without all of the seed: mend the seed, and give `cellctl cell reset --seed` again",
        )?;
    }
    drop(progress);
    println!("the stack is as new; its ports and keys are the same");
    Ok(())
}

fn snapshots(found: &[Snapshot], json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(found).context("cannot print them")?);
        return Ok(());
    }
    for snapshot in found {
        println!("{:<32}  {}", snapshot.name, size(snapshot.bytes));
    }
    Ok(())
}

pub(crate) fn size(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}
