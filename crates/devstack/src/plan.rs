//! What a world consists of: its regions, cells and the processes they need, in the order they start.

use crate::StackError;
use crate::config::{CellFiles, RouterFiles, write_secret};
use crate::folders::Folders;
use crate::postgres::Database;
use crate::process::{Gently, Launch};
use crate::quota::QuotaServer;
use crate::ready::Ready;
use crate::state::{MAC_KEY, POLICY_KEYS, ProcessEntry, RegionEntry, Role, StackState};
use crate::world::{CellShape, DirectoryShape, World};
use crate::{cassandra, ports, postgres, quota, redis};
use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

/// Every process with its ports.
pub(crate) struct Plan {
    pub(crate) processes: Vec<ProcessEntry>,
    pub(crate) regions: Vec<RegionEntry>,
    pub(crate) directory_url: String,
    pub(crate) directory_replicas: BTreeMap<String, u8>,
    pub(crate) pepper_file: PathBuf,
}

/// Gathers the plan while it is made.
struct Planner<'a> {
    world: &'a World,
    folders: &'a Folders,
    processes: Vec<ProcessEntry>,
    /// Of each region, as its programs are told.
    directory_urls: BTreeMap<String, String>,
    pepper_file: PathBuf,
    mac_key_file: PathBuf,
    policy_keys_file: PathBuf,
}

pub(crate) fn plan(world: &World, folders: &Folders) -> Result<Plan, StackError> {
    world.validate()?;
    let mut planner = Planner::new(world, folders);
    for file in [&planner.pepper_file, &planner.mac_key_file] {
        write_secret(file, &hex::encode(rand::random::<[u8; 32]>()))?;
    }
    let names: Vec<&str> = world.regions.iter().map(|region| region.name.as_str()).collect();
    let directory_replicas = planner.directory(&names)?;
    let mut regions = Vec::new();
    for region in &world.regions {
        let mut door = (String::new(), String::new());
        for cell in &region.cells {
            door = planner.cell(&region.name, cell)?;
        }
        if !world.single {
            door = planner.router(&region.name)?;
        }
        regions.push(RegionEntry { name: region.name.clone(), router_url: door.0, admin_url: door.1 });
    }
    let directory_url = planner.directory_urls.get(names[0]).cloned().unwrap_or_default();
    let Planner { processes, pepper_file, .. } = planner;
    let processes = in_order(processes)?;
    Ok(Plan { processes, regions, directory_url, directory_replicas, pepper_file })
}

/// What `world` has and `held` has not: all processes of both, and the regions that are new.
pub(crate) fn plan_more(
    world: &World,
    held: &StackState,
    folders: &Folders,
) -> Result<(Vec<ProcessEntry>, Vec<RegionEntry>), StackError> {
    world.validate()?;
    ports::keep(held.processes.iter().flat_map(|process| process.ports.iter().copied()));
    let mut planner = Planner::new(world, folders);
    planner.processes.clone_from(&held.processes);
    let mut new = Vec::new();
    for region in &world.regions {
        planner.directory_urls.insert(region.name.clone(), directory_url(held, &region.name)?);
        for cell in region.cells.iter().filter(|cell| !held.has_cell(&cell.name)) {
            planner.cell(&region.name, cell)?;
        }
        if !held.regions.iter().any(|entry| entry.name == region.name) {
            let (router_url, admin_url) = planner.router(&region.name)?;
            new.push(RegionEntry { name: region.name.clone(), router_url, admin_url });
        }
    }
    Ok((in_order(planner.processes)?, new))
}

/// Where programs of `region` find the directory of a stack that is there.
fn directory_url(held: &StackState, region: &str) -> Result<String, StackError> {
    if held.world.directory != DirectoryShape::Cassandra {
        return Ok(held.directory_url.clone());
    }
    let of_region = |process: &&ProcessEntry| process.is_cassandra() && process.region.as_deref() == Some(region);
    let node = held.processes.iter().find(of_region);
    let cause = format!("region {region} has no node of Cassandra, and none can join: start another stack");
    node.map(|node| node.url.clone()).ok_or(StackError::Step { step: "planning the world", cause })
}

/// Routers last: they are ready once there is something to route to. Names, which are also those of folders,
/// are everybody's own.
fn in_order(mut processes: Vec<ProcessEntry>) -> Result<Vec<ProcessEntry>, StackError> {
    processes.sort_by_key(|process| process.role == Role::Router);
    let cells: HashSet<&str> = processes.iter().filter_map(|process| process.cell.as_deref()).collect();
    let mut names = HashSet::new();
    let twice = processes.iter().find(|process| {
        let name = process.name.as_str();
        cells.contains(name) || !names.insert(name)
    });
    let Some(twice) = twice else { return Ok(processes) };
    let cause = format!("two of it would be named {}: give regions and cells other names", twice.name);
    Err(StackError::Step { step: "planning the world", cause })
}

impl<'a> Planner<'a> {
    fn new(world: &'a World, folders: &'a Folders) -> Self {
        let secrets = folders.stack.join("secrets");
        Self {
            world,
            folders,
            processes: Vec::new(),
            directory_urls: BTreeMap::new(),
            pepper_file: secrets.join("pepper"),
            mac_key_file: secrets.join(MAC_KEY),
            policy_keys_file: secrets.join(POLICY_KEYS),
        }
    }

    /// The directory's servers, before whatever asks it. Returns the copies of a row in each datacenter,
    /// where that is ours to say.
    fn directory(&mut self, regions: &[&str]) -> Result<BTreeMap<String, u8>, StackError> {
        let everywhere = |url: &str| regions.iter().map(|region| ((*region).to_owned(), url.to_owned())).collect();
        match &self.world.directory {
            // A single cell has it in its own server, which is planned with the cell.
            DirectoryShape::Postgres if self.world.single => {}
            DirectoryShape::Postgres => {
                let url = self.postgres("directory", Role::Directory, None, None)?;
                self.directory_urls = everywhere(&url);
            }
            DirectoryShape::Elsewhere(url) => self.directory_urls = everywhere(url),
            DirectoryShape::Cassandra => return self.cassandra(regions),
        }
        Ok(BTreeMap::new())
    }

    /// A node a region, whose datacenters have the regions' names, and one copy of every row in each.
    fn cassandra(&mut self, regions: &[&str]) -> Result<BTreeMap<String, u8>, StackError> {
        let name = |region: &str| match regions {
            [_] => "directory".to_owned(),
            _ => format!("directory-{region}"),
        };
        let named: Vec<(String, String)> = regions.iter().map(|region| (name(region), (*region).to_owned())).collect();
        let nodes = cassandra::plan(&named, &self.folders.data)?;
        for (node, (name, region)) in nodes.iter().zip(named) {
            let url = cassandra::url(&nodes, &region);
            self.processes.push(ProcessEntry {
                name,
                role: Role::Directory,
                region: Some(region.clone()),
                cell: None,
                life: None,
                url: url.clone(),
                admin_url: None,
                ports: node.ports.to_vec(),
                launch: node.launch.clone(),
                ready: node.ready(),
            });
            self.directory_urls.insert(region, url);
        }
        Ok(nodes.into_iter().map(|node| (node.datacenter, 1)).collect())
    }

    fn directory_url(&self, region: &str) -> String {
        self.directory_urls.get(region).cloned().unwrap_or_default()
    }

    /// The data and the admin URL of the first of its processes.
    fn cell(&mut self, region: &str, shape: &CellShape) -> Result<(String, String), StackError> {
        let (cell, shards) = (shape.name.as_str(), self.world.shards_of(shape));
        let folders = self.folders;
        let data = |name: &str| folders.data.join(format!("{cell}-{name}"));
        let of_cell = (Some(region), Some(cell));
        let quota = quota::plan(self.world.redis, cell, data, self.world.fsync)?;
        for QuotaServer { name, role, ports, launch } in quota.servers {
            let ready = Ready::RedisOn(ports[0]);
            self.server(format!("{cell}-{name}"), role, of_cell, launch, ports, ready);
        }
        let cache_port = ports::free()?;
        let cache = redis::cache_launch(&data("redis-cache"), cache_port)?;
        let ready = Ready::RedisOn(cache_port);
        self.server(format!("{cell}-redis-cache"), Role::RedisCache, of_cell, cache, vec![cache_port], ready);
        let postgres_url = self.postgres(&format!("{cell}-postgres"), Role::Postgres, Some(region), Some(cell))?;
        if self.world.single && self.world.directory == DirectoryShape::Postgres {
            let port = self.processes.last().map_or(0, |postgres| postgres.ports[0]);
            self.directory_urls.insert(region.to_owned(), postgres::url(port, Database::Directory));
        }
        let (told, given) = (self.world.door, |port: Option<u16>| port.map_or_else(ports::free, Ok));
        let mut door = None;
        for n in 0..self.world.instances {
            let (name, several) = (format!("{cell}-{n}"), self.world.instances > 1);
            let (port, admin_port) = (given(told.port)?, given(told.admin_port)?);
            let config = CellFiles {
                folder: self.folders.stack.join("config").join(if several { name.as_str() } else { cell }),
                data_dir: self.folders.data.join(&name),
                name: cell,
                region,
                port,
                admin_port,
                world: self.world,
                postgres_url: postgres_url.clone(),
                directory_url: self.directory_url(region),
                redis_quota_url: quota.url.clone(),
                redis_cache_url: format!("redis://127.0.0.1:{cache_port}/"),
                pepper_file: &self.pepper_file,
                mac_key_file: &self.mac_key_file,
                policy_keys_file: &self.policy_keys_file,
                shards,
            };
            let file = config.write()?;
            let urls = self.program(name, Role::Cell, of_cell, "cellar-cell", &file, port, admin_port)?;
            door.get_or_insert(urls);
        }
        Ok(door.unwrap_or_default())
    }

    fn router(&mut self, region: &str) -> Result<(String, String), StackError> {
        let name = format!("{region}-router");
        let (port, admin_port) = (ports::free()?, ports::free()?);
        let config = RouterFiles {
            folder: self.folders.stack.join("config").join(&name),
            data_dir: self.folders.data.join(&name),
            name: &name,
            region,
            port,
            admin_port,
            world: self.world,
            directory_url: self.directory_url(region),
            pepper_file: &self.pepper_file,
            mac_key_file: &self.mac_key_file,
        };
        let file = config.write()?;
        self.program(name, Role::Router, (Some(region), None), "cellar-router", &file, port, admin_port)
    }

    fn postgres(
        &mut self,
        name: &str,
        role: Role,
        region: Option<&str>,
        cell: Option<&str>,
    ) -> Result<String, StackError> {
        let port = ports::free()?;
        let launch = postgres::launch(&self.folders.data.join(name), port)?;
        self.server(
            name.to_owned(),
            role,
            (region, cell),
            launch,
            vec![port],
            Ready::PostgresOn(port, role.database()),
        );
        Ok(postgres::url(port, role.database()))
    }

    fn server(
        &mut self,
        name: String,
        role: Role,
        of: (Option<&str>, Option<&str>),
        launch: Launch,
        ports: Vec<u16>,
        ready: Ready,
    ) {
        let port = ports[0];
        let url = match ready {
            Ready::RedisOn(_) => format!("redis://127.0.0.1:{port}/"),
            _ => postgres::url(port, role.database()),
        };
        self.processes.push(ProcessEntry {
            name,
            role,
            region: of.0.map(str::to_owned),
            cell: of.1.map(str::to_owned),
            life: None,
            url,
            admin_url: None,
            ports,
            launch,
            ready,
        });
    }

    #[expect(clippy::too_many_arguments, reason = "a process is named by what it is, whose it is and where it listens")]
    fn program(
        &mut self,
        name: String,
        role: Role,
        of: (Option<&str>, Option<&str>),
        program: &str,
        config: &std::path::Path,
        port: u16,
        admin_port: u16,
    ) -> Result<(String, String), StackError> {
        let launch = Launch {
            program: self.world.program(program)?,
            arguments: vec!["--config".into(), config.display().to_string()],
            user: None,
            log: self.folders.data.join(&name).join("log"),
            stop: Gently::Term,
        };
        let (url, admin_url) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{admin_port}"));
        self.processes.push(ProcessEntry {
            name,
            role,
            region: of.0.map(str::to_owned),
            cell: of.1.map(str::to_owned),
            life: None,
            url: url.clone(),
            admin_url: Some(admin_url.clone()),
            ports: vec![port, admin_port],
            launch,
            ready: Ready::HttpOn(admin_port),
        });
        Ok((url, admin_url))
    }
}
