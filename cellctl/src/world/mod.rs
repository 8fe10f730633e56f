//! `cellctl world`: a stack as a file says it should be.

mod document;
mod file;

use crate::stack::{Progress, ShapeArguments, bootstrap, held_world};
use anyhow::Context;
use cellar_devstack::{Bootstrap, Difference, Stack, StackError, Tether, World};
use cellar_model::{Revision, Topology};
use clap::{Args, Subcommand};
use document::Routers;
use file::WorldFile;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// Another command may be starting a whole world: one that was killed may have left it at work.
const BUSY_MAX: Duration = Duration::from_secs(180);
const BUSY_POLL: Duration = Duration::from_millis(500);

#[derive(Subcommand)]
pub(crate) enum WorldCommand {
    /// Turn the stack into the world of a file: start what is missing, put the topology in force, stop what
    /// has left it
    ///
    /// Run again it changes nothing; one that was cut short is gone on with. A stack that is not there, or
    /// down, is started.
    Apply(ApplyArguments),
}

#[derive(Args)]
pub(crate) struct ApplyArguments {
    /// JSON: {"default_region":"eu","regions":[{"name":"eu","cells":[{"name":"eu-1","state":"open"}]}]}; `-`
    /// is the standard input
    file: PathBuf,
    #[command(flatten)]
    shape: ShapeArguments,
    /// Processes of each cell; 1, or as many as the stack in the folder has
    #[arg(long)]
    instances: Option<usize>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Print what was done as a document
    #[arg(long)]
    json: bool,
}

/// What was done, or would be.
#[derive(Serialize)]
struct Done {
    #[serde(flatten)]
    difference: Difference,
    topology_changed: bool,
    /// In force now; unknown of a stack that is down.
    revision: Option<Revision>,
    dry_run: bool,
}

pub(crate) async fn run(folder: &Path, command: WorldCommand) -> anyhow::Result<()> {
    let WorldCommand::Apply(arguments) = command;
    let file = WorldFile::read(&arguments.file)?;
    let base = held_world(folder).unwrap_or_else(|| World::of(1, 1));
    let instances = arguments.instances.unwrap_or(base.instances);
    let world = arguments.shape.applied_to(World { regions: file.regions(), instances, ..base });
    world.validate()?;
    file.topology(&world, None).validate().context("the file is no world")?;
    let applied = Applied { folder, file, world };
    let done = if arguments.dry_run { applied.dry_run().await? } else { applied.run().await? };
    print(&done, arguments.json)
}

struct Applied<'a> {
    folder: &'a Path,
    file: WorldFile,
    world: World,
}

impl Applied<'_> {
    async fn dry_run(&self) -> anyhow::Result<Done> {
        let mut stack = match Stack::open(self.folder) {
            Ok(stack) => stack,
            Err(StackError::NoStack { .. }) => {
                let difference = Difference::of_new(&self.world);
                return Ok(Done { difference, topology_changed: true, revision: None, dry_run: true });
            }
            Err(error) => return Err(error.into()),
        };
        let change = stack.change(self.world.clone()).await?;
        let wanted = self.file.topology(&self.world, Some(change.state()));
        let (mut topology_changed, mut revision) = (true, None);
        // One that is down is asked nothing.
        if change.state().is_held() && change.state().can_be_asked() {
            let routers = Routers::of(change.state())?;
            topology_changed = routers.judge(&wanted).await?;
            revision = Some(routers.newest().await?.revision);
        }
        Ok(Done { difference: change.difference(), topology_changed, revision, dry_run: true })
    }

    /// In this order: cells serve before the topology names them, routers follow it before anybody comes by a
    /// new region, and what has left it is stopped when no router knows it any more.
    async fn run(&self) -> anyhow::Result<Done> {
        let progress = Progress::new();
        let say = &mut |step: &str| progress.say(step);
        let (mut stack, new) = self.up(say).await?;
        let mut change = stack.change(self.world.clone()).await?;
        let difference = if new { Difference::of_new(&self.world) } else { change.difference() };
        let routers = Routers::of(change.state())?;
        let named = self.file.topology(&self.world, Some(change.state()));
        // What would be refused is refused before anything starts.
        if change.state().can_be_asked() {
            routers.judge(&named).await?;
        }
        change.grow(say).await?;
        let wanted = self.file.topology(&self.world, Some(change.state()));
        let (revision, topology_changed) = routers.put_in_force(&wanted, say).await?;
        // Those that leave need not hear that they do.
        routers.follow(revision, |region| wanted.regions.iter().any(|entry| entry.name.as_str() == region)).await?;
        change.open(say).await?;
        change.shrink(say).await?;
        Ok(Done { difference, topology_changed: topology_changed || new, revision: Some(revision), dry_run: false })
    }

    /// The stack, up, and whether it was made now. One that another command is at work on is waited for.
    async fn up(&self, say: &mut impl FnMut(&str)) -> anyhow::Result<(Stack, bool)> {
        let until = Instant::now() + BUSY_MAX;
        loop {
            match self.open_or_start(say).await {
                Err(StackError::Busy { .. }) if Instant::now() < until => tokio::time::sleep(BUSY_POLL).await,
                stack => return Ok(stack?),
            }
        }
    }

    async fn open_or_start(&self, say: &mut impl FnMut(&str)) -> Result<(Stack, bool), StackError> {
        let held = match Stack::open(self.folder) {
            Ok(stack) => Some(stack),
            Err(StackError::NoStack { .. }) => None,
            Err(error) => return Err(error),
        };
        // One that a command still starts is waited for; one whose starter is gone at the very end is whole.
        let serves = |stack: &Stack| {
            let state = stack.state();
            state.is_held() && (state.serves || state.keeper.is_none())
        };
        let filled = match held {
            Some(stack) if serves(&stack) => return Ok((stack, false)),
            held => held.filter(|stack| stack.state().is_filled()),
        };
        // A stack whose directory was filled comes up as it was: what it lacks of this world is a change.
        if let Some(stack) = &filled {
            stack.may_become(&self.world)?;
        }
        let world = filled.as_ref().map_or(&self.world, |stack| &stack.state().world).clone();
        let fill = |given: Bootstrap| self.fill(given);
        let mut stack = Stack::up(self.folder, &world, Tether::Free, fill, say).await?;
        stack.announce()?;
        Ok((stack, filled.is_none()))
    }

    /// Fills a fresh directory, whose first topology is that of the file.
    async fn fill(&self, given: Bootstrap) -> Result<cellar_devstack::Keys, StackError> {
        let failed = |error: String| StackError::Step { step: "filling the directory", cause: error };
        let stack: Topology = serde_json::from_value(given.topology).map_err(|error| failed(error.to_string()))?;
        let mut topology = self.file.topology(&self.world, None);
        for (region, listening) in topology.regions.iter_mut().zip(stack.regions) {
            region.routers = listening.routers;
            for (cell, listening) in region.cells.iter_mut().zip(listening.cells) {
                cell.endpoints = listening.endpoints;
            }
        }
        let topology = serde_json::to_value(topology).map_err(|error| failed(error.to_string()))?;
        bootstrap(Bootstrap { topology, ..given }).await
    }
}

fn print(done: &Done, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(done)?);
        return Ok(());
    }
    let Done { difference, topology_changed, revision, dry_run } = done;
    let lists = [
        ("region added  ", &difference.regions_added),
        ("cell added    ", &difference.cells_added),
        ("started       ", &difference.dead),
        ("cell removed  ", &difference.cells_removed),
        ("region removed", &difference.regions_removed),
    ];
    for (what, names) in lists {
        for name in names {
            println!("{what}  {name}");
        }
    }
    let said = match (topology_changed, dry_run) {
        (false, _) if difference.is_none() => "nothing to do",
        (false, _) => "the topology stays",
        (true, true) => "the topology would change",
        (true, false) => "the topology has changed",
    };
    match revision {
        Some(revision) => println!("{said}; revision {revision} is in force"),
        None => println!("{said}"),
    }
    Ok(())
}
