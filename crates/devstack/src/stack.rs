//! A whole stack: started in order, looked at, broken and mended piece by piece, ended in order.

use crate::StackError;
use crate::config::name_policy_keys;
use crate::folders::Folders;
use crate::plan::plan;
use crate::process::{Identity, Tether};
use crate::start::{Starting, stop};
use crate::state::{ProcessEntry, Role, StackState};
use crate::world::World;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

/// What the one who fills the directory, and signs what is in it, is told.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    /// It was filled before: only signatures are missing.
    pub filled: bool,
    pub directory_url: String,
    /// Copies of a row in each datacenter. None: the store knows no such thing, or is not ours to say.
    pub directory_replicas: BTreeMap<String, u8>,
    pub pepper_file: PathBuf,
    /// Where the key is, or is to be, that signs the stack's policies.
    pub policy_key_file: PathBuf,
    /// Where its public half is trusted. Written last: with it everything is signed.
    pub policy_keys_file: PathBuf,
    pub topology: serde_json::Value,
    /// Those the stack has already, to be put in force again. None: new ones are to be made.
    pub keys: Option<Keys>,
}

/// What he made: the keys a caller and an operator of this stack use.
#[derive(Clone)]
pub struct Keys {
    pub service_key: String,
    pub operator_key: String,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(..)")
    }
}

pub struct Stack {
    pub(crate) folders: Folders,
    pub(crate) state: StackState,
    pub(crate) tether: Tether,
    /// Who ran when one last looked; empty for one that has only been opened.
    seen: HashSet<String>,
}

impl Stack {
    /// Starts `world` in `folder`, or what is there already and stopped. `bootstrap` fills the
    /// directory before anything that reads it starts; `say` hears of each step. With
    /// `Tether::ToUs` this process keeps the stack: it ends with us, however that comes about.
    pub async fn up<F>(
        folder: &Path,
        world: &World,
        tether: Tether,
        bootstrap: impl FnOnce(Bootstrap) -> F,
        mut say: impl FnMut(&str),
    ) -> Result<Self, StackError>
    where
        F: Future<Output = Result<Keys, StackError>>,
    {
        let folders = Folders::make(folder)?;
        let _lock = folders.lock()?;
        let state = match StackState::read(&folders.stack)? {
            Some(held) => resume(held, world, &folders, &mut say).await?,
            None => fresh(world, &folders, &mut say)?,
        };
        let mut stack = Self { folders, state, tether, seen: HashSet::new() };
        stack.state.keeper = Identity::of_this_process();
        let started = stack.start_all(bootstrap, &mut say).await;
        if started.is_err() || tether == Tether::Free {
            stack.state.keeper = None;
        }
        stack.save()?;
        started?;
        stack.seen = stack.state.running_names();
        Ok(stack)
    }

    /// Says that the stack is whole, to commands that wait for it.
    pub fn announce(&mut self) -> Result<(), StackError> {
        self.state.serves = true;
        self.save()
    }

    /// Starts whatever does not run, in order. Nothing half started stays behind.
    pub(crate) async fn start_all<F>(
        &mut self,
        bootstrap: impl FnOnce(Bootstrap) -> F,
        say: &mut impl FnMut(&str),
    ) -> Result<(), StackError>
    where
        F: Future<Output = Result<Keys, StackError>>,
    {
        self.state.serves = false;
        self.save()?;
        let mut starting = Starting { folder: &self.folders.stack, state: &mut self.state, tether: self.tether };
        let started = starting.everything(bootstrap, say).await;
        if started.is_err() {
            self.stop_all().await;
        }
        self.save()?;
        started
    }

    /// Ends all processes for a while. Whether any ran.
    pub(crate) async fn stand_still(&mut self) -> bool {
        let ran = self.state.running() > 0;
        self.stop_all().await;
        ran
    }

    /// Starts the stack again that stood still, if it ran.
    pub(crate) async fn go_on(&mut self, ran: bool) -> Result<(), StackError> {
        if !ran {
            return Ok(());
        }
        let nothing_to_fill = |given: Bootstrap| async move {
            let cause = match given.filled {
                true => "its policies are not signed: `cellctl up` (`cell up`, if it is one cell) signs them",
                false => "no directory",
            };
            Err(StackError::Step { step: "going on", cause: cause.into() })
        };
        self.start_all(nothing_to_fill, &mut |_| ()).await?;
        self.announce()
    }

    /// A stack that was started before.
    pub fn open(folder: &Path) -> Result<Self, StackError> {
        let folders = Folders::of(folder)?;
        let state = StackState::read(&folders.stack)?;
        let state = state.ok_or_else(|| StackError::NoStack { folder: folder.to_owned() })?;
        Ok(Self { folders, state, tether: Tether::Free, seen: HashSet::new() })
    }

    pub fn state(&self) -> &StackState {
        &self.state
    }

    pub fn folder(&self) -> &Path {
        &self.folders.stack
    }

    /// Goes on with other keys, which the directory has.
    pub async fn keep_keys(&mut self, keys: Keys) -> Result<(), StackError> {
        let _lock = self.turn().await?;
        self.state.service_key = Some(keys.service_key);
        self.state.operator_key = Some(keys.operator_key);
        self.save()
    }

    /// Takes the stack's lock and reads what other commands have done meanwhile.
    pub(crate) async fn turn(&mut self) -> Result<File, StackError> {
        let lock = self.folders.lock_in_turn().await?;
        self.folders.heal()?;
        self.reread()?;
        Ok(lock)
    }

    fn reread(&mut self) -> Result<(), StackError> {
        let state = StackState::read(&self.folders.stack)?;
        self.state = state.ok_or_else(|| StackError::NoStack { folder: self.folders.stack.clone() })?;
        Ok(())
    }

    /// The processes that have ended since one last asked, whoever ended them.
    pub fn newly_dead(&mut self) -> Result<Vec<ProcessEntry>, StackError> {
        if self.folders.is_busy() {
            // Whoever is at work on it may be starting them again.
            return Ok(Vec::new());
        }
        self.reread()?;
        let before = std::mem::replace(&mut self.seen, self.state.running_names());
        let ended = |process: &&ProcessEntry| before.contains(&process.name) && !self.seen.contains(&process.name);
        Ok(self.state.processes.iter().filter(ended).cloned().collect())
    }

    /// Which processes `name` means: one of that name, or all of that role.
    fn named(&self, name: &str) -> Result<Vec<usize>, StackError> {
        let found = self.state.numbers(|process| process.name == name || process.role.label() == name);
        if found.is_empty() {
            let known: Vec<&str> = self.state.processes.iter().map(|process| process.name.as_str()).collect();
            return Err(StackError::NoProcess { name: name.to_owned(), known: known.join(", ") });
        }
        Ok(found)
    }

    fn names(&self, numbers: &[usize]) -> Vec<String> {
        numbers.iter().map(|n| self.state.processes[*n].name.clone()).collect()
    }

    /// Asks it to end. Nothing starts it again but `restart`.
    pub async fn stop(&mut self, name: &str) -> Result<Vec<String>, StackError> {
        let _lock = self.turn().await?;
        let numbers = self.named(name)?;
        self.stop_together(&numbers).await;
        Ok(self.names(&numbers))
    }

    /// Kills it as a crash would.
    pub async fn kill9(&mut self, name: &str) -> Result<Vec<String>, StackError> {
        let _lock = self.turn().await?;
        let numbers = self.named(name)?;
        for n in &numbers {
            if let Some(life) = self.state.processes[*n].life {
                life.kill9().await;
            }
        }
        Ok(self.names(&numbers))
    }

    /// Ends it if it runs, and starts it on the same ports and folder.
    pub async fn restart(&mut self, name: &str) -> Result<Vec<String>, StackError> {
        let _lock = self.turn().await?;
        let numbers = self.named(name)?;
        self.stop_together(&numbers).await;
        let mut starting = Starting { folder: &self.folders.stack, state: &mut self.state, tether: self.tether };
        starting.together(&numbers).await?;
        Ok(self.names(&numbers))
    }

    /// Ends everything in order: who watches, routers, cells, then what they store in. Data stays, but that of an
    /// ephemeral stack.
    pub async fn down(mut self) -> Result<(), StackError> {
        let _lock = self.end().await?;
        if self.state.world.ephemeral {
            return self.folders.delete();
        }
        self.save()
    }

    /// Ends everything and deletes the stack with its data.
    pub async fn delete(mut self) -> Result<(), StackError> {
        let _lock = self.end().await?;
        self.folders.delete()
    }

    async fn end(&mut self) -> Result<File, StackError> {
        let keeper = self.state.keeper.filter(|keeper| Some(*keeper) != Identity::of_this_process());
        if let Some(keeper) = keeper {
            // Who keeps it in the foreground ends it himself, in order.
            keeper.asked_to_end().await;
        }
        let lock = self.turn().await?;
        self.stop_all().await;
        self.state.keeper = None;
        Ok(lock)
    }

    async fn stop_all(&self) {
        self.stop_in_order(|_| true).await;
    }

    /// Who watches, routers, cells, then what they store in.
    pub(crate) async fn stop_in_order(&self, wanted: impl Fn(&ProcessEntry) -> bool) {
        let order: [fn(Role) -> bool; 4] = [Role::is_watcher, Role::is_router, Role::is_cell, Role::is_store];
        for these in order {
            let numbers = self.state.numbers(|process| these(process.role) && wanted(process));
            self.stop_together(&numbers).await;
        }
    }

    pub(crate) async fn stop_together(&self, numbers: &[usize]) {
        let processes = numbers.iter().map(|n| self.state.processes[*n].clone());
        let stopping: Vec<_> = processes.map(|process| tokio::spawn(async move { stop(&process).await })).collect();
        for stopped in stopping {
            // It does not panic, and is not cancelled.
            let _ = stopped.await;
        }
    }

    pub(crate) fn save(&self) -> Result<(), StackError> {
        self.state.write(&self.folders.stack)
    }
}

pub(crate) fn fresh(world: &World, folders: &Folders, say: &mut impl FnMut(&str)) -> Result<StackState, StackError> {
    say(&format!("a new stack: {}", world.describe()));
    // Before a stack is made that would have this port for good.
    let door = world.door;
    let mut taken = [door.port, door.admin_port].into_iter().flatten();
    if let Some(port) = taken.find(|port| TcpListener::bind((door.address(), *port)).is_err()) {
        return Err(StackError::PortTaken { name: "the cell".into(), port });
    }
    let plan = plan(world, folders)?;
    Ok(StackState {
        world: world.clone(),
        processes: plan.processes,
        regions: plan.regions,
        directory_url: plan.directory_url,
        directory_replicas: plan.directory_replicas,
        pepper_file: plan.pepper_file,
        service_key: None,
        operator_key: None,
        filled: false,
        complete: false,
        keeper: None,
        serves: false,
    })
}

/// A stack that is down comes up again with its data; one whose start was cut short is begun anew;
/// what a killed keeper left running of it is ended first, by pid and start time.
async fn resume(
    held: StackState,
    world: &World,
    folders: &Folders,
    say: &mut impl FnMut(&str),
) -> Result<StackState, StackError> {
    if let Some(who) = held.held_by() {
        return Err(StackError::AlreadyUp { folder: folders.stack.clone(), who });
    }
    let running = held.running();
    if running > 0 {
        say(&format!("ending {running} processes that a killed command left behind"));
        for process in &held.processes {
            stop(process).await;
        }
    }
    // What an ephemeral one left behind is nobody's any more.
    let filled = held.is_filled() && !held.world.ephemeral;
    if held.world != *world && !held.world.ephemeral && (held.complete || filled) {
        let (folder, asked) = (folders.stack.clone(), world.describe());
        let start = held.world.started_by();
        return Err(StackError::OtherShape { folder, held: held.world.describe(), asked, start });
    }
    if !filled {
        // Its directory may be half filled.
        folders.clear()?;
        Folders::make(&folders.stack)?;
        return fresh(world, folders, say);
    }
    if held.complete
        && let Some(lost) = held.processes.iter().find(|process| process.has_lost_its_books())
    {
        let place = lost.launch.log.parent().unwrap_or(&lost.launch.log).to_owned();
        return Err(StackError::DataGone { folder: folders.stack.clone(), name: lost.name.clone(), place });
    }
    for cell in held.processes.iter().filter(|process| process.role == Role::Cell) {
        name_policy_keys(cell, &held.policy_keys_file())?;
    }
    say("starting the stack that is here, with its data");
    Ok(held)
}

#[cfg(test)]
mod tests;
