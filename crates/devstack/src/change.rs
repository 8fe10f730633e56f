//! A stack becomes another world: what is missing is started before anybody is sent there, and what has left
//! is stopped when nobody is any more.

use crate::StackError;
use crate::folders::remove;
use crate::observe;
use crate::plan::plan_more;
use crate::stack::Stack;
use crate::start::Starting;
use crate::state::{ProcessEntry, Role, StackState};
use crate::world::{RegionShape, World};
use serde::Serialize;
use std::fs::File;

/// Cells of one name that have left a stack; their data stays.
const LEFT_MAX: u32 = 1_000;

/// What a stack lacks of a world, and what it has beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Difference {
    pub regions_added: Vec<String>,
    pub cells_added: Vec<String>,
    /// Processes of what stays that do not run: they died, were stopped, or a change was cut short before it
    /// came to them.
    pub dead: Vec<String>,
    pub cells_removed: Vec<String>,
    pub regions_removed: Vec<String>,
}

impl Difference {
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// What a world that is not here yet consists of.
    pub fn of_new(world: &World) -> Self {
        Self {
            regions_added: world.regions.iter().map(|region| region.name.clone()).collect(),
            cells_added: world.cells().map(|(_, cell)| cell.name.clone()).collect(),
            ..Self::default()
        }
    }

    fn between(held: &StackState, world: &World) -> Self {
        let stays = |process: &&ProcessEntry| stays(process, world);
        let dead = held.processes.iter().filter(stays).filter(|process| !process.is_running());
        let new = Self::of_new(world);
        let has_region = |name: &String| held.regions.iter().any(|entry| entry.name == *name);
        let cells = held.world.cells().map(|(_, cell)| cell.name.clone());
        let regions = held.world.regions.iter().map(|region| region.name.clone());
        Self {
            regions_added: new.regions_added.into_iter().filter(|name| !has_region(name)).collect(),
            cells_added: new.cells_added.into_iter().filter(|name| !held.has_cell(name)).collect(),
            dead: dead.map(|process| process.name.clone()).collect(),
            cells_removed: cells.filter(|name| world.cell(name).is_none()).collect(),
            regions_removed: regions.filter(|name| world.region(name).is_none()).collect(),
        }
    }
}

/// Whether a process is part of `world`, or of what all of it share.
fn stays(process: &ProcessEntry, world: &World) -> bool {
    match (&process.cell, &process.region, process.role) {
        (Some(cell), _, _) => world.cell(cell).is_some(),
        (None, Some(region), Role::Router) => world.region(region).is_some(),
        _ => true,
    }
}

/// A change under way. Every step can be repeated by another one, whatever of it had been done; meanwhile no
/// other command changes the stack.
pub struct Change<'a> {
    stack: &'a mut Stack,
    world: World,
    _lock: File,
}

impl Stack {
    /// Begins to turn this stack, which is up, into `world`.
    pub async fn change(&mut self, world: World) -> Result<Change<'_>, StackError> {
        world.validate()?;
        let lock = self.turn().await?;
        self.may_become(&world)?;
        Ok(Change { stack: self, world, _lock: lock })
    }

    /// Whether `world` keeps what programs and stores were made with.
    pub fn may_become(&self, world: &World) -> Result<(), StackError> {
        let held = &self.state.world;
        let but_regions = World { regions: held.regions.clone(), ..world.clone() };
        if but_regions != *held || held.single {
            let (folder, asked) = (self.folder().to_owned(), world.describe());
            return Err(StackError::OtherShape { folder, held: held.describe(), asked, start: held.started_by() });
        }
        for (region, cell) in held.cells() {
            let Some((now_in, now)) = world.cell(&cell.name) else { continue };
            if now_in.name != region.name || world.shards_of(now) != held.shards_of(cell) {
                let (name, shards) = (&cell.name, held.shards_of(cell));
                let cause = format!("cell {name} was made in {} with {shards} shards, and stays so", region.name);
                return Err(StackError::Step { step: "planning the world", cause });
            }
        }
        Ok(())
    }
}

impl Change<'_> {
    pub fn state(&self) -> &StackState {
        &self.stack.state
    }

    pub fn difference(&self) -> Difference {
        Difference::between(&self.stack.state, &self.world)
    }

    /// Starts what is missing, but for routers that were never started: they have nowhere to route to before
    /// the topology names their cells.
    pub async fn grow(&mut self, say: &mut impl FnMut(&str)) -> Result<(), StackError> {
        let stack = &mut *self.stack;
        let both = union(&stack.state.world, &self.world);
        let (processes, regions) = plan_more(&both, &stack.state, &stack.folders)?;
        stack.state.processes = processes;
        stack.state.regions.extend(regions);
        stack.state.world = both;
        // Whoever is killed from here on leaves a file that names what was to be started.
        stack.save()?;
        observe::aim(&stack.folders.stack, &stack.state)?;
        let world = &self.world;
        let mut starting = starting(stack);
        starting.stores(say, |process| stays(process, world)).await?;
        starting.cells(say, |process| stays(process, world)).await?;
        starting.routers(say, |process| process.life.is_some() && stays(process, world)).await
    }

    /// Starts the routers of new regions, and who watches the stack, if it has ended.
    pub async fn open(&mut self, say: &mut impl FnMut(&str)) -> Result<(), StackError> {
        let world = &self.world;
        let mut starting = starting(self.stack);
        starting.routers(say, |process| stays(process, world)).await?;
        starting.watchers(say).await
    }

    /// Stops what has left the topology. Data stays, beside that of the living: a cell that is added under the
    /// same name begins anew.
    pub async fn shrink(self, say: &mut impl FnMut(&str)) -> Result<(), StackError> {
        let Self { stack, world, _lock } = self;
        let leaving = stack.state.numbers(|process| !stays(process, &world));
        if !leaving.is_empty() {
            say(&format!("stopping {} processes", leaving.len()));
        }
        stack.stop_in_order(|process| !stays(process, &world)).await;
        for n in leaving {
            put_aside(stack, n)?;
        }
        // In the order in which the world is told from now on: the first region is asked first.
        let place = |name: &str| world.regions.iter().position(|region| region.name == name);
        stack.state.processes.retain(|process| stays(process, &world));
        stack.state.regions.retain(|region| place(&region.name).is_some());
        stack.state.regions.sort_by_key(|region| place(&region.name));
        stack.state.world = world;
        observe::aim(&stack.folders.stack, &stack.state)?;
        stack.save()
    }
}

fn starting(stack: &mut Stack) -> Starting<'_> {
    Starting { folder: &stack.folders.stack, state: &mut stack.state, tether: stack.tether }
}

/// `world`, and behind it what only `held` has.
fn union(held: &World, world: &World) -> World {
    let mut both = world.clone();
    for region in &held.regions {
        let gone = region.cells.iter().filter(|cell| world.cell(&cell.name).is_none()).cloned();
        match both.regions.iter_mut().find(|other| other.name == region.name) {
            Some(stays) => stays.cells.extend(gone),
            None => both.regions.push(RegionShape { name: region.name.clone(), cells: gone.collect() }),
        }
    }
    both
}

/// Moves the data of a process that has left to a place of its own, and deletes its configuration.
fn put_aside(stack: &Stack, n: usize) -> Result<(), StackError> {
    let process = &stack.state.processes[n];
    let config = stack.folders.stack.join("config");
    remove(&config.join(&process.name))?;
    if let Some(cell) = &process.cell {
        remove(&config.join(cell))?;
    }
    let data = stack.folders.data.join(&process.name);
    if !data.exists() {
        return Ok(());
    }
    let left = stack.folders.data.join("left");
    std::fs::create_dir_all(&left).map_err(StackError::folder(&left))?;
    let mut places = (1..=LEFT_MAX).map(|time| left.join(format!("{}.{time}", process.name)));
    let free = places.find(|place| !place.exists());
    let full = || StackError::Step { step: "putting data aside", cause: format!("{} is full", left.display()) };
    std::fs::rename(&data, free.ok_or_else(full)?).map_err(StackError::folder(&data))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::CellShape;

    fn region(name: &str, cells: &[&str]) -> RegionShape {
        let cell = |name: &&str| CellShape { name: (*name).to_owned(), shards: None };
        RegionShape { name: name.to_owned(), cells: cells.iter().map(cell).collect() }
    }

    #[test]
    fn a_world_half_way_has_what_both_have() {
        let held = World::of_regions(vec![region("eu", &["eu-1", "eu-2"]), region("us", &["us-1"])]);
        let world = World::of_regions(vec![region("ap", &["ap-1"]), region("eu", &["eu-2", "eu-3"])]);
        let both = [region("ap", &["ap-1"]), region("eu", &["eu-2", "eu-3", "eu-1"]), region("us", &["us-1"])];
        assert_eq!(union(&held, &world).regions, both);
        // Whoever goes on from half way comes to the same.
        assert_eq!(union(&union(&held, &world), &world).regions, both);
    }
}
