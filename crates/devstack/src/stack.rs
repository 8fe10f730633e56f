//! A whole stack: started in order, looked at, broken and mended piece by piece, ended in order.

use crate::StackError;
use crate::folders::{Folders, port_is_free};
use crate::plan::{World, built, plan};
use crate::postgres;
use crate::process::Gently;
use crate::state::{ProcessEntry, Role, StackState};
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// What the one who fills the directory is told.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    pub directory_url: String,
    pub pepper_file: PathBuf,
    pub topology: serde_json::Value,
}

/// What he made: the keys a caller and an operator of this stack use.
#[derive(Clone)]
pub struct Keys {
    pub service_key: String,
    pub operator_key: String,
}

pub struct Stack {
    folders: Folders,
    state: StackState,
}

impl Stack {
    /// Starts `world` in `folder`, or what is there already and stopped. `bootstrap` fills the
    /// directory before anything that reads it starts; `say` hears of each step.
    pub async fn up<F>(
        folder: &Path,
        world: &World,
        bootstrap: impl FnOnce(Bootstrap) -> F,
        mut say: impl FnMut(&str),
    ) -> Result<Self, StackError>
    where
        F: Future<Output = Result<Keys, StackError>>,
    {
        let folders = Folders::make(folder)?;
        let state = match StackState::read(&folders.stack)? {
            Some(held) => resume(held, world, &folders, &mut say).await?,
            None => fresh(world, &folders, &mut say)?,
        };
        let mut stack = Self { folders, state };
        stack.save()?;
        match stack.start_all(bootstrap, &mut say).await {
            Ok(()) => Ok(stack),
            Err(error) => {
                // Nothing half started stays behind.
                stack.stop_all().await;
                stack.save()?;
                Err(error)
            }
        }
    }

    /// A stack that was started before.
    pub fn open(folder: &Path) -> Result<Self, StackError> {
        let folders = Folders::of(folder)?;
        let state = StackState::read(&folders.stack)?;
        let state = state.ok_or_else(|| StackError::NoStack { folder: folder.to_owned() })?;
        Ok(Self { folders, state })
    }

    pub fn state(&self) -> &StackState {
        &self.state
    }

    pub fn folder(&self) -> &Path {
        &self.folders.stack
    }

    async fn start_all<F>(
        &mut self,
        bootstrap: impl FnOnce(Bootstrap) -> F,
        say: &mut impl FnMut(&str),
    ) -> Result<(), StackError>
    where
        F: Future<Output = Result<Keys, StackError>>,
    {
        let stores: Vec<usize> = self.numbers(|process| process.role.is_store());
        say(&format!("starting {} servers", stores.len()));
        self.start_together(&stores).await?;
        if self.state.service_key.is_none() {
            say("filling the directory");
            let keys = bootstrap(Bootstrap {
                directory_url: self.state.directory_url.clone(),
                pepper_file: self.state.pepper_file.clone(),
                topology: self.state.topology.clone(),
            });
            let keys = keys.await?;
            self.state.service_key = Some(keys.service_key);
            self.state.operator_key = Some(keys.operator_key);
            self.save()?;
        }
        let cells = self.numbers(|process| process.role == Role::Cell);
        say(&format!("starting {} cells", cells.len()));
        for cell in &cells {
            migrate(&self.state.processes[*cell]).await?;
        }
        self.start_together(&cells).await?;
        let routers = self.numbers(|process| process.role == Role::Router);
        if !routers.is_empty() {
            say(&format!("starting {} routers", routers.len()));
            self.start_together(&routers).await?;
        }
        self.state.complete = true;
        self.save()
    }

    fn numbers(&self, wanted: impl Fn(&ProcessEntry) -> bool) -> Vec<usize> {
        (0..self.state.processes.len()).filter(|n| wanted(&self.state.processes[*n])).collect()
    }

    /// Starts all of them, then waits for each: their starts overlap.
    async fn start_together(&mut self, numbers: &[usize]) -> Result<(), StackError> {
        for n in numbers {
            let process = &mut self.state.processes[*n];
            if process.is_running() {
                continue;
            }
            ports_are_free(process)?;
            process.life = Some(process.launch.start(&process.name)?);
        }
        // Whoever is killed now leaves a file that names what he started.
        self.save()?;
        for n in numbers {
            let process = &self.state.processes[*n];
            if let Some(life) = process.life {
                process.ready.wait(&process.name, life, &process.launch).await?;
            }
        }
        Ok(())
    }

    /// Which processes `name` means: one of that name, or all of that role.
    fn named(&self, name: &str) -> Result<Vec<usize>, StackError> {
        let found = self.numbers(|process| process.name == name || process.role.label() == name);
        if found.is_empty() {
            let known: Vec<&str> = self.state.processes.iter().map(|process| process.name.as_str()).collect();
            return Err(StackError::NoProcess { name: name.to_owned(), known: known.join(", ") });
        }
        Ok(found)
    }

    /// Asks it to end. Nothing starts it again but `restart`.
    pub async fn stop(&mut self, name: &str) -> Result<Vec<String>, StackError> {
        let numbers = self.named(name)?;
        for n in &numbers {
            stop(&self.state.processes[*n]).await;
        }
        Ok(self.names(&numbers))
    }

    /// Kills it as a crash would.
    pub async fn kill9(&mut self, name: &str) -> Result<(), StackError> {
        for n in self.named(name)? {
            if let Some(life) = self.state.processes[n].life {
                life.kill9().await;
            }
        }
        Ok(())
    }

    /// Ends it if it runs, and starts it on the same ports and folder.
    pub async fn restart(&mut self, name: &str) -> Result<Vec<String>, StackError> {
        let numbers = self.named(name)?;
        for n in &numbers {
            stop(&self.state.processes[*n]).await;
        }
        for n in &numbers {
            let process = &mut self.state.processes[*n];
            process.life = Some(match process.role {
                Role::Postgres | Role::Directory => postgres::start(&process.launch, &process.name, process.ports[0]).await?,
                _ => {
                    ports_are_free(process)?;
                    process.launch.start(&process.name)?
                }
            });
            self.save()?;
            let process = &self.state.processes[*n];
            if let Some(life) = process.life {
                process.ready.wait(&process.name, life, &process.launch).await?;
            }
        }
        Ok(self.names(&numbers))
    }

    fn names(&self, numbers: &[usize]) -> Vec<String> {
        numbers.iter().map(|n| self.state.processes[*n].name.clone()).collect()
    }

    /// Ends everything in order: routers, cells, then what they store in. Data stays.
    pub async fn down(mut self) -> Result<(), StackError> {
        self.stop_all().await;
        self.save()
    }

    /// Ends everything and deletes the stack with its data.
    pub async fn delete(mut self) -> Result<(), StackError> {
        self.stop_all().await;
        self.folders.delete()
    }

    async fn stop_all(&mut self) {
        for role in [Role::Router, Role::Cell, Role::RedisCache, Role::RedisQuota, Role::Postgres, Role::Directory] {
            let stopping: Vec<_> = self.state.processes.iter().filter(|p| p.role == role).cloned().collect();
            let tasks: Vec<_> = stopping.into_iter().map(|p| tokio::spawn(async move { stop(&p).await })).collect();
            for task in tasks {
                let _ = task.await;
            }
        }
    }

    fn save(&self) -> Result<(), StackError> {
        self.state.write(&self.folders.stack)
    }
}

fn fresh(world: &World, folders: &Folders, say: &mut impl FnMut(&str)) -> Result<StackState, StackError> {
    say(&format!("a new stack: {}", world.describe()));
    let plan = plan(world, folders)?;
    Ok(StackState {
        world: world.clone(),
        processes: plan.processes,
        regions: plan.regions,
        topology: plan.topology,
        directory_url: plan.directory_url,
        pepper_file: plan.pepper_file,
        service_key: None,
        operator_key: None,
        complete: false,
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
    let running = held.running();
    if held.complete && running > 0 {
        return Err(StackError::AlreadyUp { folder: folders.stack.clone(), running });
    }
    if running > 0 {
        say(&format!("ending {running} processes that an interrupted start left behind"));
        for process in &held.processes {
            stop(process).await;
        }
    }
    if held.world != *world {
        if held.complete {
            return Err(StackError::OtherShape { folder: folders.stack.clone(), held: held.world.describe() });
        }
        return fresh(world, folders, say);
    }
    if !held.complete && held.service_key.is_none() {
        // Its directory may be half filled.
        folders.delete()?;
        Folders::make(&folders.stack)?;
        return fresh(world, folders, say);
    }
    say("starting the stack that is here, with its data");
    Ok(held)
}

async fn stop(process: &ProcessEntry) {
    let gently = match process.role {
        Role::Postgres | Role::Directory => postgres::STOP,
        _ => Gently::Term,
    };
    if let Some(life) = process.life {
        life.stop(gently).await;
    }
}

fn ports_are_free(process: &ProcessEntry) -> Result<(), StackError> {
    match process.ports.iter().find(|port| !port_is_free(**port)) {
        Some(port) => Err(StackError::PortTaken { name: process.name.clone(), port: *port }),
        None => Ok(()),
    }
}

/// `cellar-cell migrate`, with the cell's own configuration.
async fn migrate(cell: &ProcessEntry) -> Result<(), StackError> {
    let step = "migrating a cell's Postgres";
    let output = tokio::process::Command::new(built("cellar-cell")?)
        .arg("migrate")
        .args(&cell.launch.arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| StackError::Step { step, cause: error.to_string() })?;
    if output.status.success() {
        return Ok(());
    }
    Err(StackError::Step { step, cause: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}
