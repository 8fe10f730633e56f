//! Starting a stack's processes: each when what it needs is ready, those of a kind together.

use crate::cassandra::packages;
use crate::postgres::{self, Database};
use crate::process::{Launch, Tether};
use crate::ready::Ready;
use crate::stack::{Bootstrap, Keys};
use crate::state::{ProcessEntry, Role, StackState};
use crate::{StackError, observe, ports, quota};
use std::collections::{BTreeMap, HashSet};
use std::net::Ipv4Addr;
use std::path::Path;

pub(crate) struct Starting<'a> {
    /// Of the state file, which names whatever has been started.
    pub(crate) folder: &'a Path,
    pub(crate) state: &'a mut StackState,
    pub(crate) tether: Tether,
}

impl Starting<'_> {
    pub(crate) async fn everything<F>(
        &mut self,
        bootstrap: impl FnOnce(Bootstrap) -> F,
        say: &mut impl FnMut(&str),
    ) -> Result<(), StackError>
    where
        F: Future<Output = Result<Keys, StackError>>,
    {
        if self.state.processes.iter().any(ProcessEntry::is_cassandra) && !packages::are_here() {
            say(&packages::what_is_fetched());
            all("fetching Cassandra", vec![tokio::task::spawn_blocking(packages::fetch)]).await?;
        }
        self.stores(say, |_| true).await?;
        let filled = self.state.is_filled();
        if !filled || !self.state.is_signed() {
            say(if filled { "signing the policies that are here" } else { "filling the directory" });
            let held = self.state.service_key.clone().zip(self.state.operator_key.clone());
            let keys = bootstrap(Bootstrap {
                filled,
                directory_url: self.state.directory_url.clone(),
                directory_replicas: self.state.directory_replicas.clone(),
                pepper_file: self.state.pepper_file.clone(),
                policy_key_file: self.state.policy_key_file(),
                policy_keys_file: self.state.policy_keys_file(),
                topology: self.state.first_topology(),
                keys: held.map(|(service_key, operator_key)| Keys { service_key, operator_key }),
            });
            let keys = keys.await?;
            self.state.service_key = Some(keys.service_key);
            self.state.operator_key = Some(keys.operator_key);
            self.state.filled = true;
            self.state.write(self.folder)?;
        }
        self.cells(say, |_| true).await?;
        self.routers(say, |_| true).await?;
        self.watchers(say).await?;
        self.state.complete = true;
        self.state.write(self.folder)
    }

    /// Starts what does not run of the wanted servers that others store in.
    pub(crate) async fn stores(
        &mut self,
        say: &mut impl FnMut(&str),
        wanted: impl Fn(&ProcessEntry) -> bool,
    ) -> Result<(), StackError> {
        let stores = self.idle(|process| process.role.is_store() && wanted(process));
        if stores.is_empty() {
            return Ok(());
        }
        say(&format!("starting {}", counted(stores.len(), "server")));
        let quotas = self.quotas(&stores);
        let is_sentinel = |n: &usize| self.state.processes[*n].role == Role::Sentinel;
        let (sentinels, stores): (Vec<usize>, Vec<usize>) = stores.into_iter().partition(is_sentinel);
        self.together(&stores).await?;
        for servers in &quotas {
            quota::settle(self.state.world.redis, servers).await?;
        }
        self.together(&sentinels).await?;
        for servers in &quotas {
            quota::watched(servers).await?;
        }
        Ok(())
    }

    /// Starts the wanted processes of cells that do not run.
    pub(crate) async fn cells(
        &mut self,
        say: &mut impl FnMut(&str),
        wanted: impl Fn(&ProcessEntry) -> bool,
    ) -> Result<(), StackError> {
        let cells = self.idle(|process| process.role == Role::Cell && wanted(process));
        if cells.is_empty() {
            return Ok(());
        }
        say(&format!("starting {}", counted(cells.len(), "cell")));
        // One of each cell's processes speaks for all of them.
        let mut migrated = HashSet::new();
        let firsts = cells.iter().copied().filter(|n| migrated.insert(self.state.processes[*n].cell.clone()));
        let firsts: Vec<usize> = firsts.collect();
        self.migrate(&firsts).await?;
        self.together(&cells).await
    }

    /// Starts the wanted routers that do not run.
    pub(crate) async fn routers(
        &mut self,
        say: &mut impl FnMut(&str),
        wanted: impl Fn(&ProcessEntry) -> bool,
    ) -> Result<(), StackError> {
        let routers = self.idle(|process| process.role == Role::Router && wanted(process));
        if routers.is_empty() {
            return Ok(());
        }
        say(&format!("starting {}", counted(routers.len(), "router")));
        self.together(&routers).await
    }

    /// Starts who watches the stack. One that cannot be started is said, and the stack goes on without it.
    pub(crate) async fn watchers(&mut self, say: &mut impl FnMut(&str)) -> Result<(), StackError> {
        observe::aim(self.folder, self.state)?;
        for n in self.idle(|process| process.role.is_watcher()) {
            if let Err(error) = self.together(&[n]).await {
                say(&format!("the stack goes on without {}: {error}", self.state.processes[n].name));
            }
        }
        Ok(())
    }

    /// Those of the wanted that do not run.
    fn idle(&self, wanted: impl Fn(&ProcessEntry) -> bool) -> Vec<usize> {
        self.state.numbers(|process| !process.is_running() && wanted(process))
    }

    /// The quota servers of each cell that has one among `starting`.
    fn quotas(&self, starting: &[usize]) -> Vec<Vec<(Role, Vec<u16>)>> {
        let processes = &self.state.processes;
        let of_quota = starting.iter().map(|n| &processes[*n]).filter(|process| process.role.is_quota());
        let mut cells: BTreeMap<&str, Vec<(Role, Vec<u16>)>> =
            of_quota.map(|process| (process.cell.as_deref().unwrap_or_default(), Vec::new())).collect();
        for process in self.state.processes.iter().filter(|process| process.role.is_quota()) {
            if let Some(servers) = cells.get_mut(process.cell.as_deref().unwrap_or_default()) {
                servers.push((process.role, process.ports.clone()));
            }
        }
        cells.into_values().collect()
    }

    /// Starts all of them that do not run, then waits for each: their starts overlap.
    pub(crate) async fn together(&mut self, numbers: &[usize]) -> Result<(), StackError> {
        let processes = &self.state.processes;
        let starting: Vec<usize> = numbers.iter().copied().filter(|n| !processes[*n].is_running()).collect();
        self.prepare(&starting).await?;
        for n in &starting {
            let process = &mut self.state.processes[*n];
            take_ports(process).await?;
            process.life = Some(process.launch.start(&process.name, self.tether)?);
        }
        // Whoever is killed now leaves a file that names what he started.
        self.state.write(self.folder)?;
        for n in &starting {
            self.ready(*n).await?;
        }
        self.state.write(self.folder)
    }

    /// Waits for one that has been started.
    async fn ready(&mut self, n: usize) -> Result<(), StackError> {
        let process = &mut self.state.processes[n];
        let Some(life) = process.life else { return Ok(()) };
        match process.ready.wait(&process.name, life, &process.launch).await {
            Err(StackError::Died { .. }) if process.is_postgres() => {
                let at = (process.ports[0], process.role.database());
                process.life = Some(postgres::start(&process.launch, &process.name, at, self.tether).await?);
                Ok(())
            }
            waited => waited,
        }
    }

    /// Makes the database clusters that are not there yet.
    async fn prepare(&self, numbers: &[usize]) -> Result<(), StackError> {
        let processes = numbers.iter().map(|n| &self.state.processes[*n]).filter(|process| process.is_postgres());
        let single = self.state.world.single;
        let making = processes.filter_map(|process| {
            let folder = process.launch.log.parent()?.to_owned();
            // A single cell has its directory in the same server.
            let both = single.then_some(Database::Directory);
            let databases: Vec<Database> = std::iter::once(process.role.database()).chain(both).collect();
            Some(tokio::task::spawn_blocking(move || postgres::prepare(&folder, &databases)))
        });
        all("making a database cluster", making.collect()).await
    }

    /// `cellar-cell migrate` for each, with the cell's own configuration.
    async fn migrate(&self, cells: &[usize]) -> Result<(), StackError> {
        let migrating = cells.iter().map(|n| {
            let launch = &self.state.processes[*n].launch;
            let arguments = std::iter::once("migrate".to_owned()).chain(launch.arguments.iter().cloned()).collect();
            let migrate = Launch { arguments, ..launch.clone() };
            tokio::task::spawn_blocking(move || migrate.run("migrating a cell's Postgres", ""))
        });
        all("migrating a cell's Postgres", migrating.collect()).await
    }
}

async fn all(
    step: &'static str,
    tasks: Vec<tokio::task::JoinHandle<Result<(), StackError>>>,
) -> Result<(), StackError> {
    for task in tasks {
        task.await.map_err(|error| StackError::Step { step, cause: error.to_string() })??;
    }
    Ok(())
}

fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Lets go of the ports that were held for it, and sees that nobody else has them.
async fn take_ports(process: &ProcessEntry) -> Result<(), StackError> {
    let address = match process.ready {
        Ready::CqlOn(address, _) => address,
        _ => Ipv4Addr::LOCALHOST,
    };
    for port in &process.ports {
        if ports::release(address, *port).await {
            continue;
        }
        // Of a command that was killed before it could write down whom it had started.
        if let Some(left) = process.launch.left_behind() {
            left.stop(process.launch.stop).await;
        }
        if !ports::release(address, *port).await {
            return Err(StackError::PortTaken { name: process.name.clone(), port: *port });
        }
    }
    Ok(())
}

pub(crate) async fn stop(process: &ProcessEntry) {
    if let Some(life) = process.life {
        life.stop(process.launch.stop).await;
    }
}
